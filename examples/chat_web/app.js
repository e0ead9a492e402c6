// The chat page: what people see and press. What is said over the wire is decided by the package alone.

import init, { Contact, Identity, Invite, Session } from "./pkg/index.js";
import { receiveFiles, sendFile } from "./files.js";
import { drawQr } from "./qr.js";
import { Store } from "./store.js";

const $ = (id) => document.getElementById(id);
const CHANNELS = [{ label: "files" }];
const SCREENS = ["start", "waiting", "chat"];

const STATES = {
  connected: ["Connected", "good"],
  reconnecting: ["Connection lost – reconnecting …", "bad"],
  suspended: ["Paused", ""],
  ended: ["Ended", "bad"],
};
const TRUSTS = {
  verified: ["Verified by you", "good"],
  invited: ["Came with your invite – not compared yet", ""],
  pinned: ["Known key – not compared yet", ""],
  unknown: ["Not compared yet", "bad"],
};

let store;
let identity;
let session;
/** Gives the attempt under way up. */
let attempt;
let unread = 0;

// ---- Screens and words ----

function show(screen) {
  for (const id of SCREENS) $(id).hidden = id !== screen;
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

function say(error) {
  if (error?.code === "aborted") return;
  const sentence = error?.message || String(error);
  const text = sentence.charAt(0).toUpperCase() + sentence.slice(1);
  notice(error?.suspicious ? `${text}. This can be an attack: ask the other person before you try again.` : `${text}.`);
}

function badge(id, [text, kind] = ["", ""]) {
  $(id).textContent = text;
  $(id).className = kind ? `badge ${kind}` : "badge";
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const short = (key) => key.slice(0, 8);
const time = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

// ---- Before a session ----

function defaultServer() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}`;
}

/** Reads a link or the bare text of an invite. */
function readInvite(text) {
  const at = text.indexOf("sealwire1:");
  if (at < 0) throw new Error("This is not an invite: it begins with sealwire1:");
  return Invite.parse(decodeURIComponent(text.slice(at).trim()));
}

function announceServer() {
  const text = $("invite").value.trim();
  let words = "";
  try {
    if (text) words = `You will meet at ${readInvite(text).server}, which learns this device's address.`;
  } catch (error) {
    words = error.message;
  }
  $("invite-server").textContent = words;
}

async function connect(words, start) {
  notice("");
  attempt?.abort();
  attempt = new AbortController();
  const { signal } = attempt;
  $("waiting-text").textContent = words;
  show("waiting");
  try {
    const connected = await start({ channels: CHANNELS, signal });
    await chat(connected);
  } catch (error) {
    if (signal.aborted) return;
    show("start");
    say(error);
  } finally {
    $("invite-made").hidden = true;
  }
}

async function createInvite() {
  const server = $("server").value.trim();
  const invite = Invite.create(identity, server);
  const link = `${location.origin}${location.pathname}#${invite}`;
  $("link").value = link;
  drawQr($("qr"), link);
  $("invite-made").hidden = false;
  remember("server", server);
  await connect("Your invite is ready. This page connects as soon as somebody opens it.", (options) =>
    Session.invite(identity, invite, options),
  );
}

async function redeem() {
  const invite = readInvite($("invite").value);
  remember("server", invite.server);
  await connect("Looking for the person who invited you …", (options) => Session.redeem(identity, invite, options));
}

async function meet(contact, server) {
  await connect(`Looking for ${contact.label}. Both of you have to press “Meet”.`, (options) =>
    Session.contact(identity, contact, server, { peerTimeout: 300_000, ...options }),
  );
}

// ---- A session ----

async function chat(connected) {
  session = connected;
  const { peer } = session;
  $("messages").replaceChildren();
  $("peer").textContent = await nameOf(peer);
  for (const entry of await store.history(peer)) showMessage(entry);
  show("chat");
  update();
  $("number").textContent = session.safetyNumber;
  resetCode("No code yet");
  $("kept").textContent = "";
  document.title = `${$("peer").textContent} – sealwire chat`;
  $("text").focus();
  const files = session.channel("files");
  if (files) receiveFiles(files, showIncomingFile).catch(say);
  $("attach").disabled = !files;
  for await (const event of connected) {
    if (session === connected) await handle(event);
  }
  update();
  await refreshContacts();
}

async function handle(event) {
  switch (event.type) {
    case "message":
      await receive(event.message);
      break;
    case "disconnected":
    case "reconnecting":
    case "resumed":
    case "established":
      break;
    case "short_code":
      showCode(event.groups);
      break;
    case "short_code_failed":
      resetCode("No code came of it. Try again in ten seconds.");
      break;
    case "contact_requested":
      showEvent("The other person wants to keep you as a contact: see “Security”.");
      break;
    case "contact_made":
      await keepContact();
      break;
    case "session_reset":
      showEvent(`The other device was restarted. ${event.unacked} messages may not have arrived.`);
      break;
    case "invite_contested":
    case "invite_already_used":
      notice("Somebody else tried to use the same invite: its text went further than you meant. Compare numbers under “Security”.");
      break;
    case "signaling_lost":
      showEvent("The server cannot be reached. This conversation does not need it.");
      break;
    case "closed":
      showEvent("The conversation has ended.");
      break;
    case "failed":
      showEvent("The conversation ended with an error.");
      say(event.error);
      break;
    case "unreadable":
      showEvent("A message came that this version cannot read.");
      break;
    default:
      break;
  }
  update();
}

function update() {
  if (!session) return;
  const { state, trust } = session;
  badge("state", STATES[state]);
  badge("trust", TRUSTS[trust]);
  const over = state === "ended";
  for (const id of ["text", "send", "ask-code", "number-same", "number-differs"]) $(id).disabled = over;
  if (over) $("attach").disabled = true;
  $("report").replaceChildren(...session.security().text.split("\n").map((line) => element("li", "", line)));
}

async function send() {
  const text = $("text").value.trim();
  if (!text || !session) return;
  $("text").value = "";
  grow();
  const entry = { own: true, text, at: Date.now() };
  const item = showMessage(entry);
  try {
    const delivery = await session.send(text);
    mark(item, session.state === "connected" ? "Sent" : "Waiting for the connection");
    await delivery.delivered();
    mark(item, "Delivered");
    await store.append(session.peer, { ...entry, delivered: true });
  } catch (error) {
    mark(item, "Not delivered");
    await store.append(session.peer, entry);
    say(error);
  }
}

async function receive(message) {
  const text = message.kind === "text" ? message.content : `(${message.kind})`;
  const entry = { own: false, text, at: message.timestamp };
  showMessage(entry);
  await store.append(session.peer, entry);
  if (document.hidden) document.title = `(${(unread += 1)}) sealwire chat`;
}

async function leave() {
  const leaving = session;
  if (leaving && leaving.state !== "ended") {
    await leaving.close().catch(() => {});
  }
  session = undefined;
  document.title = "sealwire chat";
  notice("");
  await refreshContacts();
  show("start");
}

// ---- Messages and files on the screen ----

function append(item) {
  const list = $("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  list.append(item);
  if (atEnd || item.classList.contains("own")) list.scrollTop = list.scrollHeight;
  return item;
}

/** Text of others becomes text of the page, never markup. */
function showMessage({ own, text, at, delivered }) {
  const item = element("li", own ? "own" : "");
  item.append(element("span", "who", own ? "You" : $("peer").textContent));
  item.append(element("span", "body", text));
  const foot = element("span", "foot");
  const when = element("time", "", time(at));
  when.dateTime = new Date(at).toISOString();
  foot.append(when);
  if (own) foot.append(element("span", "mark", delivered ? " · Delivered" : ""));
  item.append(foot);
  return append(item);
}

function mark(item, text) {
  item.querySelector(".mark").textContent = ` · ${text}`;
}

function showEvent(text) {
  append(element("li", "event", text));
}

function showFile(own, { name, size }) {
  const item = showMessage({ own, text: `${name} (${Math.ceil(size / 1024)} KB)`, at: Date.now() });
  const bar = element("progress");
  bar.max = Math.max(size, 1);
  bar.value = 0;
  bar.setAttribute("aria-label", `Progress of ${name}`);
  item.append(bar);
  return { item, bar };
}

function showIncomingFile(header) {
  const { item, bar } = showFile(false, header);
  return {
    progress: (bytes) => (bar.value = bytes),
    done(blob) {
      const link = element("a", "", "Save");
      link.href = URL.createObjectURL(blob);
      link.download = header.name;
      bar.replaceWith(link);
      item.dataset.size = blob.size;
    },
  };
}

async function sendFiles(files) {
  const channel = session?.channel("files");
  if (!channel) return;
  for (const file of files) {
    const { item, bar } = showFile(true, file);
    try {
      await sendFile(channel, file, (bytes) => (bar.value = Math.max(bar.value, bytes)));
      mark(item, "Delivered");
    } catch (error) {
      mark(item, "Not delivered");
      say(error);
    }
    bar.remove();
  }
}

function grow() {
  const box = $("text");
  box.rows = Math.min(6, box.value.split("\n").length);
}

// ---- Verification ----

let code;

function showCode(groups) {
  code = Uint16Array.from(groups);
  $("code").textContent = groups.join("  ");
  $("code-same").hidden = $("code-differs").hidden = false;
  if (!$("security").open) $("security").showModal();
}

function resetCode(text) {
  code = undefined;
  $("code").textContent = text;
  $("code-same").hidden = $("code-differs").hidden = true;
}

function compared(confirm) {
  try {
    confirm();
    resetCode("Compared: the same");
    showEvent("You compared the numbers: nobody is in between.");
    saveTrust().catch(say);
  } catch (error) {
    say(error);
  }
  update();
}

async function differs() {
  $("security").close();
  showEvent("The numbers differ: somebody may be in between. The conversation was ended.");
  await session?.close().catch(() => {});
  notice("The numbers differ. Somebody may be reading along: do not use this connection.");
  update();
}

// ---- What is kept ----

function remember(name, text) {
  store.put(name, new TextEncoder().encode(text)).catch(() => {});
}

async function recall(name) {
  const bytes = await store.get(name);
  return bytes && new TextDecoder().decode(bytes);
}

async function loadIdentity() {
  const bytes = await store.get("identity");
  if (bytes) return Identity.fromBytes(bytes);
  const made = Identity.generate();
  await store.put("identity", made.toBytes());
  return made;
}

async function contacts() {
  const names = await store.names("contact ");
  return Promise.all(names.map(async (name) => Contact.fromBytes(await store.get(name))));
}

async function nameOf(peer) {
  const known = (await contacts()).find((contact) => contact.peer === peer);
  return known ? known.label : `Peer ${short(peer)}`;
}

async function keepContact() {
  const label = $("label").value.trim() || `Peer ${short(session.peer)}`;
  const contact = session.toContact(label);
  await store.put(`contact ${contact.peer}`, contact.toBytes());
  const server = (await recall("server")) ?? defaultServer();
  remember(`server ${contact.peer}`, server);
  $("peer").textContent = label;
  $("kept").textContent = "Kept: both of you can meet again without an invite.";
  showEvent("You are contacts now.");
  await refreshContacts();
}

/** A contact that was compared stays compared. */
async function saveTrust() {
  const kept = await store.get(`contact ${session.peer}`);
  if (!kept) return;
  const contact = session.toContact(Contact.fromBytes(kept).label);
  if (contact.isPaired) await store.put(`contact ${contact.peer}`, contact.toBytes());
}

async function refreshContacts() {
  const known = await contacts();
  $("contacts").hidden = known.length === 0;
  const rows = known.map((contact) => {
    const row = element("li");
    const meeting = element("button", "primary", "Meet");
    meeting.type = "button";
    meeting.addEventListener("click", async () => {
      const server = (await recall(`server ${contact.peer}`)) ?? defaultServer();
      await meet(contact, server);
    });
    const forget = element("button", "danger", "Forget");
    forget.type = "button";
    forget.setAttribute("aria-label", `Forget ${contact.label} and the history`);
    forget.addEventListener("click", async () => {
      await store.delete(`contact ${contact.peer}`);
      await store.forget(contact.peer);
      await refreshContacts();
    });
    row.append(element("strong", "", contact.label), element("span", "badge", TRUSTS[contact.trust]?.[0]), meeting, forget);
    return row;
  });
  $("contact-list").replaceChildren(...rows);
}

// ---- What people press ----

function guarded(action) {
  return async (event) => {
    event?.preventDefault();
    try {
      await action(event);
    } catch (error) {
      say(error);
    }
  };
}

function listen() {
  $("create").addEventListener("submit", guarded(createInvite));
  $("redeem").addEventListener("submit", guarded(redeem));
  $("invite").addEventListener("input", announceServer);
  $("cancel").addEventListener("click", () => {
    attempt?.abort();
    show("start");
  });
  $("copy").addEventListener(
    "click",
    guarded(async () => {
      $("link").select();
      await navigator.clipboard.writeText($("link").value);
      $("copy").textContent = "Copied";
    }),
  );
  $("leave").addEventListener("click", guarded(leave));
  $("composer").addEventListener("submit", guarded(send));
  $("text").addEventListener("input", grow);
  $("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) guarded(send)(event);
  });
  $("open-security").addEventListener("click", () => $("security").showModal());
  $("ask-code").addEventListener("click", () => {
    $("code").textContent = "Asking …";
    session?.compareCode();
  });
  $("code-same").addEventListener("click", () => compared(() => session.confirmCode(code)));
  $("number-same").addEventListener("click", () => compared(() => session.confirm(session.safetyNumber)));
  for (const id of ["code-differs", "number-differs"]) $(id).addEventListener("click", guarded(differs));
  $("keep").addEventListener(
    "submit",
    guarded(() => {
      session.makeContact();
      $("kept").textContent = "Asked. The other person has to press the same button.";
    }),
  );
  $("attach").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", guarded(async () => {
    const files = [...$("file").files];
    $("file").value = "";
    await sendFiles(files);
  }));
  listenToDrops();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !unread) return;
    unread = 0;
    document.title = "sealwire chat";
  });
  addEventListener("hashchange", takeHash);
}

function listenToDrops() {
  const area = $("chat");
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  area.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  area.addEventListener("dragleave", (event) => {
    if (!area.contains(event.relatedTarget)) $("drop").hidden = true;
  });
  area.addEventListener("drop", guarded(async (event) => {
    $("drop").hidden = true;
    await sendFiles([...event.dataTransfer.files]);
  }));
}

/** An invite in the address is taken out of it, for the history of a browser is no place for it. */
function takeHash() {
  if (!location.hash.startsWith("#sealwire1")) return;
  const text = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
  $("invite").value = text;
  announceServer();
  $("redeem").querySelector("button").focus();
}

async function start() {
  if (!("RTCPeerConnection" in window) || !isSecureContext) {
    throw new Error("This page needs a current browser, and https:// or this machine's own address");
  }
  await init();
  store = await Store.open();
  identity = await loadIdentity();
  $("me").textContent = `You: ${short(identity.peerId)}`;
  $("server").value = defaultServer();
  listen();
  await refreshContacts();
  takeHash();
  document.body.dataset.ready = "yes";
}

start().catch(say);
