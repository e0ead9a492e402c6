// What is on the screen: elements, words, and the list of messages. Text of others becomes text nodes, never markup.

export const $ = (id) => document.getElementById(id);

const SCREENS = ["start", "waiting", "chat"];

export const TRUSTS = {
  verified: ["Verified by you", "good"],
  invited: ["Came with your invite – not compared yet", ""],
  pinned: ["Known key – not compared yet", ""],
  unknown: ["Not compared yet", "bad"],
};

export function show(screen) {
  for (const id of SCREENS) $(id).hidden = id !== screen;
}

export function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export function say(error) {
  if (error?.code === "aborted") return;
  const text = sentence(error?.message || String(error)).replace(/[.!]?$/, ".");
  notice(error?.suspicious ? `${text} This can be an attack: ask the other person before you try again.` : text);
}

/** For what people press: what goes wrong is told. */
export function guarded(action) {
  return async (event) => {
    event?.preventDefault();
    try {
      await action(event);
    } catch (error) {
      say(error);
    }
  };
}

export function badge(id, [text, kind] = ["", ""]) {
  $(id).textContent = text;
  $(id).className = kind ? `badge ${kind}` : "badge";
  $(id).hidden = !text;
}

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(text, className, action) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", guarded(action));
  return made;
}

/** A circle with the first letter of a name, in a colour of its own. */
export function avatar(name, key) {
  const made = element("span", "avatar", name.trim().charAt(0).toUpperCase() || "?");
  made.dataset.hue = Number.parseInt(key.slice(0, 2), 16) % 6;
  made.setAttribute("aria-hidden", "true");
  return made;
}

export const short = (key) => key.slice(0, 8);

export function bytes(size) {
  if (size === 1) return "1 byte";
  const units = ["bytes", "KB", "MB", "GB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

const time = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

function day(ms) {
  const today = new Date();
  const yesterday = new Date(today.getTime() - 86_400_000);
  const then = new Date(ms);
  if (then.toDateString() === today.toDateString()) return "Today";
  if (then.toDateString() === yesterday.toDateString()) return "Yesterday";
  return then.toLocaleDateString([], { day: "numeric", month: "long", year: "numeric" });
}

/** When something was said, for a list of conversations. */
export const when = (ms) => (day(ms) === "Today" ? time(ms) : day(ms));

// ---- The list of messages ----

export function clearMessages() {
  $("messages").replaceChildren();
}

/** One message as an element, which belongs to nothing yet. */
export function bubble({ own, who, text, at, mark = "", faint = false }) {
  const item = element("li", own ? "own" : "theirs");
  item.dataset.at = at;
  item.append(element("span", "who", own ? "You" : who));
  item.append(element("span", faint ? "body faint" : "body", text));
  const foot = element("span", "foot");
  const stamp = element("time", "", time(at));
  stamp.dateTime = new Date(at).toISOString();
  foot.append(stamp, element("span", "mark", own && mark ? ` · ${mark}` : ""));
  item.append(foot);
  return item;
}

export function mark(item, text) {
  item.querySelector(".mark").textContent = text ? ` · ${text}` : "";
}

/** Puts a message, or something that happened, at the end. */
export function append(item) {
  const list = $("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 120;
  const before = list.lastElementChild;
  const at = Number(item.dataset.at);
  if (at && day(at) !== lastDay(list)) list.append(dayLine(at));
  follow(item, before);
  list.append(item);
  if (atEnd || item.classList.contains("own")) list.scrollTop = list.scrollHeight;
  return item;
}

/** Puts earlier messages before all that is there, where people go on reading where they are. */
export function prepend(items) {
  const list = $("messages");
  const { scrollHeight, scrollTop } = list;
  list.querySelector("li.day")?.remove();
  const first = list.querySelector("li[data-at]");
  const made = [];
  let last;
  for (const item of items) {
    const its = day(Number(item.dataset.at));
    if (its !== last) made.push(dayLine(Number(item.dataset.at)));
    last = its;
    follow(item, made.at(-1));
    made.push(item);
  }
  if (first && day(Number(first.dataset.at)) !== last) made.push(dayLine(Number(first.dataset.at)));
  list.prepend(...made);
  list.scrollTop = scrollTop + list.scrollHeight - scrollHeight;
}

export function showEvent(text, ...actions) {
  const item = element("li", "event", text);
  if (actions.length) {
    const row = element("span", "together");
    row.append(...actions);
    item.append(row);
  }
  return append(item);
}

function lastDay(list) {
  return [...list.querySelectorAll("li.day")].at(-1)?.textContent;
}

function dayLine(at) {
  return element("li", "day", day(at));
}

/** Messages of one person in a row say once who that is. */
function follow(item, before) {
  for (const side of ["own", "theirs"]) {
    if (item.classList.contains(side) && before?.classList.contains(side)) item.classList.add("more");
  }
}
