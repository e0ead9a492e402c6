// Files on the screen: what is offered, how far it is, and how it is saved. The package carries and checks them.

import { append, bubble, button, bytes, element, mark } from "./view.js";

function line(own, who, name, size) {
  const item = bubble({ own, who, text: name, at: Date.now() });
  item.classList.add("file");
  item.querySelector(".body").append(element("span", "size", bytes(size)));
  const row = element("span", "together");
  item.querySelector(".foot").before(row);
  return { item, row };
}

function progressBar(name, size) {
  const bar = element("progress");
  bar.max = Math.max(size, 1);
  bar.value = 0;
  bar.setAttribute("aria-label", `Progress of ${name}`);
  return bar;
}

/** Offers one file, and shows what becomes of it. */
export async function sendFile(session, file) {
  const transfer = session.sendFile(file);
  const { item, row } = line(true, "", file.name, file.size);
  const bar = progressBar(file.name, file.size);
  row.append(bar, button("Cancel", "small", () => transfer.cancel()));
  mark(item, "Offered");
  append(item);
  const watching = (async () => {
    for await (const progress of transfer) {
      mark(item, "Sending");
      bar.value = progress.bytes;
    }
  })();
  try {
    const { sha256 } = await transfer.finished();
    mark(item, "Delivered");
    item.dataset.sha256 = sha256;
  } catch (error) {
    mark(item, words(error));
  }
  await watching;
  row.remove();
}

/** Shows what the peer offers; whoever is here decides. */
export function showOffer(offer, who) {
  if (offer.kind !== "file") return offer.reject();
  const { name, size } = offer;
  const { item, row } = line(false, who, name, size);
  const refuse = button("Refuse", "small", () => {
    offer.reject();
    row.remove();
    mark(item, "Refused");
  });
  const accept = button("Accept", "small primary", async () => {
    try {
      await take(offer.accept(), { item, row, name, size });
    } catch (error) {
      row.remove();
      mark(item, words(error));
    }
  });
  accept.setAttribute("aria-label", `Accept ${name}`);
  refuse.setAttribute("aria-label", `Refuse ${name}`);
  row.append(accept, refuse);
  append(item);
}

async function take(reader, { item, row, name, size }) {
  const bar = progressBar(name, size);
  row.replaceChildren(bar, button("Cancel", "small", () => reader.cancel()));
  const blob = await reader.blob((received) => (bar.value = received));
  const link = element("a", "button small", "Save");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.setAttribute("aria-label", `Save ${name}`);
  row.replaceChildren(link);
  mark(item, "Checked");
  item.dataset.sha256 = reader.sha256;
}

function words(error) {
  const known = {
    stream_refused: "Refused",
    stream_cancelled: "Cancelled",
    stream_ended: "Cancelled by the other side",
    stream_hash: "It arrived damaged, and was thrown away",
    file_changed: "The file changed meanwhile",
    misuse: "Cancelled",
  };
  return known[error?.code] ?? `Not delivered: ${error?.message ?? error}`;
}
