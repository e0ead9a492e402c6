// The chat page: its screens, and what people press. What is said over the wire is decided by the package alone.

import init, { Archive, Contact, Identity, IndexedDbHistory, Invite, Session } from "./pkg/index.js";
import { drawQr } from "./qr.js";
import { Store } from "./store.js";
import { Talk } from "./talk.js";
import { $, avatar, badge, button, element, guarded, notice, say, short, show, showEvent, TRUSTS, when } from "./view.js";

/** What arrives stays in this page's memory until it is saved. */
const MAX_FILE = 1 << 30;

let store;
let identity;
let archive;
/** The conversation on the screen. */
let talk;
/** Gives the attempt under way up. */
let attempt;
let unread = 0;

const options = () => ({ history: archive, streams: { maxFile: MAX_FILE } });

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
  let session;
  try {
    session = await start({ ...options(), signal });
  } catch (error) {
    if (signal.aborted) return;
    await home();
    return say(error);
  } finally {
    $("invite-made").hidden = true;
  }
  await open(await known(session.peer), session);
}

async function createInvite() {
  const server = $("server").value.trim();
  const invite = Invite.create(identity, server);
  const link = `${location.origin}${location.pathname}#${invite}`;
  $("link").value = link;
  $("copy").textContent = "Copy";
  drawQr($("qr"), link);
  $("invite-made").hidden = false;
  await store.putText("server", server);
  await connect("Your invite is ready. This page connects as soon as somebody opens it.", (how) =>
    Session.invite(identity, invite, how),
  );
}

async function redeem() {
  const invite = readInvite($("invite").value);
  await store.putText("server", invite.server);
  $("invite").value = "";
  announceServer();
  await connect("Looking for the person who invited you …", (how) => Session.redeem(identity, invite, how));
}

// ---- Conversations ----

async function open(who, session) {
  talk = new Talk(app, who);
  resetCode("No code yet");
  $("kept").textContent = "";
  $("keep").hidden = Boolean(who.contact?.isPaired);
  await talk.open(session);
}

/** What a conversation needs of the page. */
const app = {
  options,
  get identity() {
    return identity;
  },
  get archive() {
    return archive;
  },
  connected() {
    resetCode("No code yet");
  },
  noticed() {
    if (document.hidden) document.title = `(${(unread += 1)}) ${talk.name} – sealwire chat`;
  },
  async handle(event, from) {
    if (event.type === "short_code") showCode(event.groups);
    if (event.type === "short_code_failed") resetCode("No code came of it. Try again in ten seconds.");
    if (event.type === "contact_requested") showEvent("The other person wants to keep you as a contact: see “Security”.");
    if (event.type === "contact_made") await keepContact(from);
  },
};

async function home() {
  const leaving = talk;
  talk = undefined;
  await leaving?.leave();
  document.title = "sealwire chat";
  notice("");
  await refreshConversations();
  show("start");
}

async function send() {
  const text = $("text").value.trim();
  if (!text || !talk || $("text").disabled) return;
  $("text").value = "";
  grow();
  await talk.send(text);
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
    confirm(talk.session);
    resetCode("Compared: the same");
    showEvent("You compared the numbers: nobody is in between.");
    badge("trust", TRUSTS[talk.session.trust]);
    saveTrust(talk).catch(say);
  } catch (error) {
    say(error);
  }
}

async function differs() {
  $("security").close();
  showEvent("The numbers differ: somebody may be in between. The conversation was ended.");
  await talk?.session?.close().catch(() => {});
  notice("The numbers differ. Somebody may be reading along: do not use this connection.");
}

// ---- What is kept ----

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

/** What is known of a peer. */
async function known(peer) {
  const bytes = await store.get(`contact ${peer}`);
  const contact = bytes && Contact.fromBytes(bytes);
  const server = (await store.getText(`server ${peer}`)) ?? defaultServer();
  return { peer, contact, server, name: contact?.label ?? `Peer ${short(peer)}` };
}

async function keepContact(from) {
  const { session, peer } = from;
  const label = $("label").value.trim() || `Peer ${short(peer)}`;
  const contact = session.toContact(label);
  const server = (await store.getText("server")) ?? defaultServer();
  await store.put(`contact ${peer}`, contact.toBytes());
  await store.putText(`server ${peer}`, server);
  from.keep(label, contact, server);
  $("kept").textContent = "Kept: both of you can meet again without an invite.";
  showEvent("You are contacts now.");
}

/** A contact that was compared stays compared. */
async function saveTrust({ session, peer }) {
  const kept = await store.get(`contact ${peer}`);
  if (!kept) return;
  const contact = session.toContact(Contact.fromBytes(kept).label);
  if (contact.isPaired) await store.put(`contact ${peer}`, contact.toBytes());
}

async function refreshConversations() {
  const peers = new Set([...(await contacts()).map((contact) => contact.peer), ...(await archive.peers(identity))]);
  const rows = await Promise.all([...peers].map(row));
  rows.sort((one, other) => other.at - one.at);
  $("conversations").hidden = rows.length === 0;
  $("conversation-list").replaceChildren(...rows.map(({ item }) => item));
}

async function row(peer) {
  const who = await known(peer);
  const [last] = await archive.conversation(identity, peer).page({ limit: 1 });
  const item = element("li");
  const words = element("div", "words");
  const head = element("p", "together");
  head.append(element("strong", "", who.name));
  const trust = TRUSTS[who.contact?.trust];
  if (trust) head.append(element("span", trust[1] ? `badge ${trust[1]}` : "badge", trust[0]));
  const own = last?.author === "me" ? "You: " : "";
  const text = last?.kind === "text" ? `${own}${last.content}` : last ? "(not shown)" : "Nothing was said yet";
  words.append(head, element("p", "quiet preview", text));
  const opening = button("Open", "primary", () => open(who));
  opening.setAttribute("aria-label", `Open ${who.name}`);
  const forgetting = button("Forget", "danger", () => forget(who));
  forgetting.setAttribute("aria-label", `Forget ${who.name} and the history`);
  item.append(avatar(who.name, peer), words, element("time", "quiet", last ? when(last.timestamp) : ""), opening, forgetting);
  return { item, at: last?.timestamp ?? 0 };
}

async function forget({ peer, name }) {
  if (!confirm(`Forget ${name} and all that was said? This cannot be undone.`)) return;
  await archive.conversation(identity, peer).forget();
  await store.delete(`contact ${peer}`);
  await store.delete(`server ${peer}`);
  await refreshConversations();
}

// ---- What people press ----

function listen() {
  $("create").addEventListener("submit", guarded(createInvite));
  $("redeem").addEventListener("submit", guarded(redeem));
  $("invite").addEventListener("input", announceServer);
  $("cancel").addEventListener("click", guarded(async () => {
    attempt?.abort();
    await home();
  }));
  $("copy").addEventListener("click", guarded(async () => {
    $("link").select();
    await navigator.clipboard.writeText($("link").value);
    $("copy").textContent = "Copied";
  }));
  $("leave").addEventListener("click", guarded(home));
  $("again").addEventListener("click", guarded(() => talk.again()));
  $("composer").addEventListener("submit", guarded(send));
  $("text").addEventListener("input", grow);
  $("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) guarded(send)(event);
  });
  listenToSecurity();
  listenToFiles();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !unread) return;
    unread = 0;
    document.title = talk ? `${talk.name} – sealwire chat` : "sealwire chat";
  });
  addEventListener("hashchange", takeHash);
}

function listenToSecurity() {
  $("open-security").addEventListener("click", () => $("security").showModal());
  $("ask-code").addEventListener("click", () => {
    $("code").textContent = "Asking …";
    talk?.session?.compareCode();
  });
  $("code-same").addEventListener("click", () => compared((session) => session.confirmCode(code)));
  $("number-same").addEventListener("click", () => compared((session) => session.confirm(session.safetyNumber)));
  for (const id of ["code-differs", "number-differs"]) $(id).addEventListener("click", guarded(differs));
  $("keep").addEventListener("submit", guarded(() => {
    talk.session.makeContact();
    $("kept").textContent = "Asked. The other person has to press the same button.";
  }));
  $("export").addEventListener("click", guarded(() => talk.exportHistory()));
  $("delete").addEventListener("click", guarded(async () => {
    if (!confirm("Delete all that was said here, on this device?")) return;
    $("security").close();
    await talk.deleteHistory();
  }));
}

function listenToFiles() {
  $("attach").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", guarded(async () => {
    const files = [...$("file").files];
    $("file").value = "";
    await talk?.sendFiles(files);
  }));
  const area = $("chat");
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files") && talk?.isConnected;
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
    if (talk?.isConnected) await talk.sendFiles([...event.dataTransfer.files]);
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
  archive = new Archive(await IndexedDbHistory.open());
  identity = await loadIdentity();
  $("me").textContent = `You: ${short(identity.peerId)}`;
  $("server").value = defaultServer();
  listen();
  await refreshConversations();
  takeHash();
  document.body.dataset.ready = "yes";
}

start().catch(say);
