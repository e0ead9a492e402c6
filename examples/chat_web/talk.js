// One conversation: its history, a session while there is one, and the search for the other person while there is none.

import { Session } from "./pkg/index.js";
import { sendFile, showOffer } from "./files.js";
import {
  $, append, badge, bubble, button, clearMessages, element, mark, notice, prepend, say, short, show, showEvent, TRUSTS,
} from "./view.js";

const PAGE = 100;
/** How long one search for a contact lasts, and the rest between two. */
const SEARCH_MS = 300_000;
const REST_MS = 2_000;
/** How often the history is asked what became of messages that waited. */
const ASK_MS = 400;

const STATES = {
  searching: ["Looking for them …", ""],
  away: ["Not connected", ""],
  connected: ["Connected", "good"],
  reconnecting: ["Connection lost – reconnecting …", "bad"],
  suspended: ["Paused", ""],
  ended: ["Ended", "bad"],
};

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export class Talk {
  #app;
  #conversation;
  #search;
  #left = false;
  #searching = false;
  #oldest;
  /** Messages on the screen that the history holds and the peer has not confirmed. */
  #waiting = [];
  #asking = false;
  /** Whether the other side takes files: not every native peer does. */
  #takesFiles = false;
  /** In what the two histories differ, and the line that says so. */
  #differences = [];
  #alarm;

  constructor(app, { peer, name, contact, server }) {
    this.#app = app;
    Object.assign(this, { peer, name, contact, server, session: undefined });
    this.#conversation = app.archive.conversation(app.identity, peer);
  }

  /** Shows the conversation, and goes on with a session or looks for one. */
  async open(session) {
    clearMessages();
    notice("");
    $("peer").textContent = this.name;
    document.title = `${this.name} – sealwire chat`;
    show("chat");
    this.#update();
    await this.#showHistory();
    $("text").focus();
    if (session) await this.#hold(session);
    else if (this.contact?.isPaired) await this.#look();
  }

  /** Leaves: a session ends in good order. */
  async leave() {
    this.#left = true;
    this.#search?.abort();
    if (this.session && this.session.state !== "ended") await this.session.close().catch(() => {});
  }

  /** The other person is a contact from now on. */
  keep(name, contact, server) {
    Object.assign(this, { name, contact, server });
    $("peer").textContent = name;
  }

  get isConnected() {
    return this.session !== undefined && this.session.state !== "ended";
  }

  // ---- Sessions ----

  /** Looks for the contact until it is there or somebody leaves. */
  async #look() {
    while (!this.#left) {
      this.#search = new AbortController();
      this.#searching = true;
      this.#update();
      try {
        const { identity } = this.#app;
        const options = { ...this.#app.options(), signal: this.#search.signal, peerTimeout: SEARCH_MS };
        await this.#hold(await Session.contact(identity, this.contact, this.server, options));
        return;
      } catch (error) {
        this.#searching = false;
        this.#update();
        if (this.#left || error?.code === "aborted") return;
        if (!error?.retryable && error?.code !== "peer_absent") throw error;
        await pause(REST_MS);
      }
    }
  }

  async #hold(session) {
    this.#searching = false;
    this.session = session;
    if (this.#left) return session.close();
    $("number").textContent = session.safetyNumber;
    this.#app.connected(this);
    this.#update();
    this.#settle();
    this.#takeOffers(session).catch(say);
    for await (const event of session) {
      if (!this.#left) await this.#handle(event);
    }
    this.#update();
  }

  async #takeOffers(session) {
    this.#takesFiles = true;
    for await (const offer of session.offers()) showOffer(offer, this.name);
    this.#takesFiles = false;
    this.#update();
  }

  async #handle(event) {
    switch (event.type) {
      case "message":
        this.#receive(event.message);
        break;
      case "undelivered":
        this.#again(event.messages);
        break;
      case "history_diverged":
        this.#showDifference(event);
        break;
      case "session_reset":
        if (event.unacked) showEvent(`The other device was restarted. ${count(event.unacked, "message")} may not have arrived.`);
        break;
      case "invite_contested":
      case "invite_already_used":
        notice("Somebody else tried to use the same invite: its text went further than you meant. Compare numbers under “Security”.");
        break;
      case "signaling_lost":
        showEvent("The server cannot be reached. This conversation does not need it.");
        break;
      case "closed":
        showEvent("The other person left.");
        break;
      case "failed":
        showEvent("The conversation ended with an error.");
        say(event.error);
        break;
      case "unreadable":
        showEvent("A message came that this version cannot read.");
        break;
      default:
        await this.#app.handle(event, this);
        break;
    }
    this.#update();
  }

  #update() {
    if (this.#left) return;
    const { session } = this;
    const away = this.#searching ? "searching" : "away";
    badge("state", STATES[session ? session.state : away]);
    badge("trust", TRUSTS[session?.trust ?? this.contact?.trust]);
    const mayWrite = this.isConnected || this.contact?.isPaired;
    for (const id of ["text", "send"]) $(id).disabled = !mayWrite;
    $("attach").disabled = !this.isConnected || !this.#takesFiles;
    for (const id of ["ask-code", "number-same", "number-differs"]) $(id).disabled = !this.isConnected;
    $("again").hidden = !this.contact?.isPaired || this.#searching || this.isConnected;
    const report = session ? session.security().text : "There is no connection now.";
    $("report").replaceChildren(...report.split("\n").map((line) => element("li", "", line)));
    $("text").placeholder = this.isConnected ? "Message" : mayWrite ? "Message – sent when you meet" : "Nobody is here to write to";
  }

  /** The other person is looked for once more. */
  async again() {
    this.session = undefined;
    await this.#look();
  }

  // ---- Messages ----

  async send(text) {
    const item = append(bubble({ own: true, text, at: Date.now() }));
    if (!this.isConnected) return this.#queue(item, text);
    try {
      const delivery = await this.session.send(text);
      mark(item, this.session.state === "connected" ? "Sent" : "Waiting for the connection");
      await delivery.delivered();
      mark(item, "Delivered");
    } catch (error) {
      if (this.#left) return;
      // What the history holds is sent when the two meet again.
      mark(item, this.contact?.isPaired ? "Will be sent when you meet again" : "Not delivered");
      if (error?.code !== "closed") say(error);
    }
  }

  async #queue(item, text) {
    mark(item, "Will be sent when you meet");
    await this.#conversation.queue(text);
    item.dataset.queued = "yes";
    this.#waiting.push(item);
    this.#settle();
  }

  sendFiles(files) {
    return Promise.all(files.map((file) => sendFile(this.session, file)));
  }

  #receive({ kind, content, timestamp }) {
    const text = kind === "text" ? content : `(${kind})`;
    append(bubble({ own: false, who: this.name, text, at: timestamp }));
    this.#app.noticed();
  }

  // ---- History ----

  async #showHistory() {
    const list = $("messages");
    list.setAttribute("aria-busy", "true");
    await this.#showEarlier();
    list.removeAttribute("aria-busy");
    list.scrollTop = list.scrollHeight;
  }

  async #showEarlier() {
    const entries = await this.#conversation.page({ limit: PAGE, before: this.#oldest });
    $("earlier")?.remove();
    this.#oldest = entries.at(-1)?.position ?? this.#oldest;
    const items = entries.toReversed().map((entry) => this.#bubbleOf(entry));
    prepend(items);
    if (entries.length < PAGE) return;
    const more = element("li", "event");
    more.id = "earlier";
    more.append(button("Earlier messages", "small", () => this.#showEarlier()));
    $("messages").prepend(more);
  }

  #bubbleOf({ author, timestamp, state, kind, content }) {
    const own = author === "me";
    const words = { queued: "Will be sent when you meet", sent: "Sent", delivered: "Delivered" };
    const faint = kind !== "text";
    const text = kind === "text" ? content : kind === "deleted" ? "Deleted on this device" : `(${kind})`;
    const item = bubble({ own, who: this.name, text, at: timestamp, mark: words[state], faint });
    if (state === "queued") this.#waiting.push(item);
    return item;
  }

  /** Messages of earlier sessions go out again: those on the screen say so. */
  #again(messages) {
    const own = [...$("messages").querySelectorAll("li.own:not(.file)")];
    const unconfirmed = own.filter((item) => !/Delivered$/.test(item.querySelector(".mark").textContent));
    for (const item of unconfirmed) {
      mark(item, "Being sent");
      if (!this.#waiting.includes(item)) this.#waiting.push(item);
    }
    showEvent(`${count(messages, "message")} had not arrived, and ${messages === 1 ? "is" : "are"} sent again.`);
    this.#settle();
  }

  /** Tells what became of messages that waited, as long as there are any. */
  async #settle() {
    if (this.#asking) return;
    this.#asking = true;
    while (this.#waiting.length && this.isConnected && !this.#left) {
      const entries = await this.#conversation.page({ limit: PAGE });
      const own = entries.filter((entry) => entry.author === "me");
      if (!own.some((entry) => entry.state === "queued")) {
        const delivered = own.every((entry) => entry.state === "delivered");
        for (const item of this.#waiting) mark(item, delivered ? "Delivered" : "Sent");
        if (delivered) this.#waiting = [];
      }
      await pause(ASK_MS);
    }
    this.#asking = false;
  }

  /** One line for both directions, and one decision. */
  #showDifference({ author, here, there }) {
    const whose = author === "me" ? "your messages" : `the messages of ${this.name}`;
    this.#differences.push(`of ${whose} this device holds ${here}, and the other device says that it holds ${there}`);
    const words =
      `The two histories differ: ${this.#differences.join("; ")}. ` +
      "Messages were changed, removed or lost on one of the two. Nothing is sent until you decide.";
    if (this.#alarm) {
      this.#alarm.firstChild.textContent = words;
      return;
    }
    const decide = (what) => {
      this.#alarm?.querySelector(".together").remove();
      this.#alarm = undefined;
      this.#differences = [];
      return what();
    };
    const goOn = () => {
      this.session.acceptHistory();
      showEvent("You went on. What is here stays as it is, with a mark at this place.");
    };
    this.#alarm = showEvent(
      words,
      button("Go on all the same", "small", () => decide(goOn)),
      button("End the conversation", "small danger", () => decide(() => this.session.refuseHistory())),
    );
    this.#alarm.classList.add("alarm");
    this.#alarm.setAttribute("role", "alert");
  }

  async exportHistory() {
    const json = await this.#conversation.exportJson();
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([json], { type: "application/json" }));
    link.download = `sealwire-${short(this.peer)}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  async deleteHistory() {
    await this.#conversation.delete();
    this.#waiting = [];
    clearMessages();
    showEvent("What was said here was deleted on this device. The other device still has it.");
  }
}

export function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}
