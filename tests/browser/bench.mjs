// How fast sessions are in a browser, beside a plain RTCDataChannel in the same run:
//
//   node tests/browser/bench.mjs target/release/sealwire-server target/release/examples/echo_peer [ROUNDS]
//
// One side sends, the other sends everything back. Messages a second with 64 bytes, megabytes a second with 64 KiB, each
// way. Cases take turns, so that a machine that changes its speed changes it for all; medians are told.

import { Program, launch, serve } from "./browser.mjs";

const [serverPath, peerPath, rounds = "5"] = process.argv.slice(2);
const SIZES = [
  { name: "64 B", size: 64, count: 4_000, unit: "msg/s" },
  { name: "64 KiB", size: 65_000, count: 600, unit: "MB/s" },
];

const server = await serve(serverPath);
const browser = await launch();
const results = new Map();

async function page() {
  const made = await (await browser.newContext()).newPage();
  await made.goto(server.page);
  await made.locator("body[data-ready=yes]").waitFor();
  return made;
}

/** In the page: sends `count` messages as fast as it may and waits until all came back. Seconds. */
const measure = `async (link, size, count) => {
  const body = new Uint8Array(size).fill(7);
  let back = 0;
  const all = new Promise((resolve) => link.onBack(() => ++back === count && resolve()));
  const begun = performance.now();
  for (let sent = 0; sent < count; sent++) await link.send(body);
  await all;
  return (performance.now() - begun) / 1000;
}`;

/** In the page: a session as a link. */
const sessionLink = `(session) => {
  const told = [];
  (async () => {
    for await (const event of session) if (event.type === "message") told[0]?.();
  })();
  return { send: (body) => session.send(body), onBack: (callback) => (told[0] = callback) };
}`;

/** In the page: a data channel as a link, sending while little waits. */
const plainLink = `(channel) => {
  channel.binaryType = "arraybuffer";
  channel.bufferedAmountLowThreshold = 128 * 1024;
  const room = () => new Promise((resolve) => channel.addEventListener("bufferedamountlow", resolve, { once: true }));
  return {
    async send(body) {
      while (channel.bufferedAmount > 256 * 1024) await room();
      channel.send(body);
    },
    onBack: (callback) => (channel.onmessage = callback),
  };
}`;

async function plain() {
  const [one, other] = [await page(), await page()];
  const describe = (role, remote) => `(async () => {
    const pc = window.pc ??= new RTCPeerConnection();
    window.channel ??= pc.createDataChannel("", { negotiated: true, id: 1 });
    ${remote ? `await pc.setRemoteDescription(${remote});` : ""}
    ${role === "end" ? "return" : `await pc.setLocalDescription();`}
    while (pc.iceGatheringState !== "complete") await new Promise((resolve) => setTimeout(resolve, 10));
    return JSON.stringify(pc.localDescription);
  })()`;
  const offer = await one.evaluate(describe("offer"));
  const answer = await other.evaluate(describe("answer", offer));
  await one.evaluate(describe("end", answer));
  for (const made of [one, other]) {
    await made.evaluate(`new Promise((resolve) => channel.readyState === "open" ? resolve() : (channel.onopen = resolve))`);
  }
  await other.evaluate(`(() => {
    const link = (${plainLink})(channel);
    let last = Promise.resolve();
    channel.onmessage = ({ data }) => (last = last.then(() => link.send(data)));
  })()`);
  await one.evaluate(`window.link = (${plainLink})(channel), undefined`);
  return one;
}

async function sessions() {
  const [one, other] = [await page(), await page()];
  const text = await one.evaluate(`(async () => {
    const { Identity, Invite, Session } = await import("./pkg/index.js");
    const me = Identity.generate();
    const invite = Invite.create(me, "${server.url}");
    window.connecting = Session.invite(me, invite);
    return invite.toString();
  })()`);
  await other.evaluate(`(async () => {
    const { Identity, Invite, Session } = await import("./pkg/index.js");
    const session = await Session.redeem(Identity.generate(), Invite.parse("${text}"));
    (async () => {
      for await (const event of session) if (event.type === "message") await session.send(event.message.content);
    })();
  })()`);
  await one.evaluate(`connecting.then((session) => { window.link = (${sessionLink})(session); })`);
  return one;
}

async function native() {
  const one = await page();
  const peer = new Program(peerPath, ["listen", "--server", server.url]);
  await peer.line();
  const text = (await peer.line()).trim().split(" ").pop();
  await one.evaluate(`(async () => {
    const { Identity, Invite, Session } = await import("./pkg/index.js");
    const session = await Session.redeem(Identity.generate(), Invite.parse("${text}"));
    window.link = (${sessionLink})(session);
  })()`);
  return one;
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

const cases = { "plain page to page": await plain(), "session page to page": await sessions(), "session page to native": await native() };
for (let round = 0; round < Number(rounds); round++) {
  for (const [name, one] of Object.entries(cases)) {
    for (const { name: label, size, count } of SIZES) {
      const seconds = await one.evaluate(`(${measure})(link, ${size}, ${count})`);
      const key = `${name} ${label}`;
      results.set(key, [...(results.get(key) ?? []), { seconds, size, count }]);
    }
  }
}
for (const { name: label, size, count, unit } of SIZES) {
  const speed = (name) => {
    const seconds = median(results.get(`${name} ${label}`).map((result) => result.seconds));
    return unit === "MB/s" ? (size * count) / 1e6 / seconds : count / seconds;
  };
  const base = speed("plain page to page");
  for (const name of Object.keys(cases)) {
    console.log(`${label.padEnd(7)} ${name.padEnd(24)} ${speed(name).toFixed(1).padStart(9)} ${unit}  ${(speed(name) / base).toFixed(2)}`);
  }
}
await browser.close();
server.stop();
process.exit(0);
