// Files over a reliable channel of the session: a header, then pieces in order. Sealed, ordered and delivered exactly
// once by the session; here is only the cutting.

const PIECE = 64 * 1024;
const MAX_FILE = 64 * 1024 * 1024;
/** Received files stay in memory until they are saved: beyond this, the sender waits for good. */
const MAX_RECEIVED = 512 * 1024 * 1024;

/** Sends a file; `onProgress` is told the bytes that the peer took. */
export async function sendFile(channel, file, onProgress) {
  if (file.size > MAX_FILE) throw new Error("Files of up to 64 MB can be sent from this page.");
  let last = await channel.send({ name: file.name.slice(0, 200), type: file.type, size: file.size });
  const pending = [];
  for (let start = 0; start < file.size; start += PIECE) {
    const end = Math.min(start + PIECE, file.size);
    last = await channel.send(new Uint8Array(await file.slice(start, end).arrayBuffer()));
    pending.push(last.delivered().then(() => onProgress(end)));
  }
  await Promise.all([last.delivered(), ...pending]);
}

/** Takes files until the session is over. `onStart` returns what is told of the progress and the end of one. */
export async function receiveFiles(channel, onStart) {
  let file;
  let total = 0;
  for await (const { kind, content } of channel) {
    if (kind === "value" && isHeader(content)) {
      file = { ...content, received: 0, pieces: [], told: onStart(content) };
    } else if (kind === "bytes" && file) {
      file.pieces.push(content);
      file.received += content.length;
      total += content.length;
      if (total > MAX_RECEIVED) return;
      file.told.progress(Math.min(file.received, file.size));
    } else {
      continue;
    }
    if (file.received >= file.size) {
      // A kind that a browser might show as a page is not for whoever sends to choose.
      if (file.received === file.size) file.told.done(new Blob(file.pieces, { type: "application/octet-stream" }));
      file = undefined;
    }
  }
}

function isHeader(value) {
  return typeof value?.name === "string" && Number.isSafeInteger(value.size) && value.size >= 0 && value.size <= MAX_FILE;
}
