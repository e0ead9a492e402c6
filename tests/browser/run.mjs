// The browser package and the chat page in a real Chromium: node run.mjs SERVER ECHO_PEER [--shots DIR]
//
// SERVER is sealwire-server, ECHO_PEER the example of that name, with the example send_file beside it. Every scenario has browser contexts of its own.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";

import { attack } from "./attacker.mjs";
import { Program, launch, serve, within } from "./browser.mjs";
import { history } from "./history.mjs";
import { streams } from "./streams.mjs";

const [serverPath, peerPath] = process.argv.slice(2);
const shotsAt = process.argv.indexOf("--shots");
const shots = shotsAt > 0 ? process.argv[shotsAt + 1] : undefined;
const only = process.env.ONLY;
const SCENARIO = 120_000;

const server = await serve(serverPath);
const browser = await launch();
const complaints = [];

/** A page of somebody who was never here. */
async function person(scenario, options = {}) {
  const context = await browser.newContext({ viewport: { width: 900, height: 700 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const complain = (text) => complaints.push(`${scenario}: ${text}`);
  page.on("console", (message) => message.type() === "error" && complain(message.text()));
  page.on("pageerror", (error) => complain(error.stack ?? error.message));
  await open(page, server.page);
  return page;
}

async function open(page, address) {
  await page.goto(address);
  await page.locator("body[data-ready=yes]").waitFor();
}

async function shot(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: `${shots}/${name}.png` });
}

async function invite(page) {
  await page.getByRole("button", { name: "Create an invite" }).click();
  const link = page.getByLabel("Send this link to one person");
  await link.waitFor();
  return link.inputValue();
}

async function accept(page, link) {
  // The page is open already: its address changes, as when a link is clicked.
  await page.evaluate((hash) => (location.hash = hash), new URL(link).hash);
  await page.getByRole("button", { name: "Connect" }).click();
}

const connected = (page) => page.locator("#state", { hasText: "Connected" }).waitFor();

async function meet(scenario, one = {}, other = {}) {
  const [alice, bob] = await Promise.all([person(scenario, one), person(scenario, other)]);
  await accept(bob, await invite(alice));
  await Promise.all([connected(alice), connected(bob)]);
  return [alice, bob];
}

async function write(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

const message = (page, text) => page.locator("#messages li", { hasText: text });

async function exchange(from, to, text) {
  await write(from, text);
  await message(to, text).waitFor();
  await message(from, text).filter({ hasText: "Delivered" }).waitFor();
}

const leave = (page) => page.context().close();

const scenarios = {
  async "two pages chat, and what one writes is text to the other"() {
    const scenario = "two pages chat";
    const alice = await person(scenario);
    await shot(alice, "start");
    const link = await invite(alice);
    await shot(alice, "invite");
    const bob = await person(scenario, { colorScheme: "dark", viewport: { width: 390, height: 760 } });
    await shot(bob, "start-dark-narrow");
    await accept(bob, link);
    await Promise.all([connected(alice), connected(bob)]);
    assert.equal(new URL(bob.url()).hash, "", "the invite leaves the address");
    await exchange(alice, bob, "Hello Bob");
    await exchange(bob, alice, "Hello Alice, how are you?");
    const markup = '<img src=x onerror="document.title=1"><b>bold</b>';
    await exchange(alice, bob, markup);
    assert.equal(await bob.locator("#messages img, #messages b").count(), 0);
    await exchange(bob, alice, "Fine. One\u00a0line");
    await Promise.all([shot(alice, "chat"), shot(bob, "chat-dark-narrow")]);
    await bob.getByRole("button", { name: "Security" }).click();
    await shot(bob, "security-dark-narrow");
    await bob.getByRole("button", { name: "Close" }).click();
    await alice.getByRole("button", { name: "Leave" }).click();
    await bob.locator("#state", { hasText: "Ended" }).waitFor();
    await shot(bob, "ended");
    await Promise.all([leave(alice), leave(bob)]);
  },

  async "short codes are equal on both screens, contacts meet again after a reload"() {
    const [alice, bob] = await meet("contacts");
    await alice.getByRole("button", { name: "Security" }).click();
    assert.equal(await alice.locator("#number").textContent(), await bob.locator("#number").textContent());
    await alice.getByRole("button", { name: "Show a code on both screens" }).click();
    const codes = [alice, bob].map(async (page) => {
      const code = page.locator("#code", { hasText: /\d/ });
      await code.waitFor();
      return code.textContent();
    });
    const [one, other] = await Promise.all(codes);
    assert.equal(one, other);
    assert.match(one, /\d+ {2}\d+ {2}\d+/);
    await shot(alice, "short-code");
    for (const page of [alice, bob]) {
      await page.getByRole("button", { name: "They are the same" }).first().click();
      await page.locator("#trust", { hasText: "Verified" }).waitFor();
    }
    for (const [page, name] of [[alice, "Bob"], [bob, "Alice"]]) {
      await page.getByLabel("A name for this contact").fill(name);
      await page.getByRole("button", { name: "Keep as a contact" }).click();
    }
    for (const page of [alice, bob]) await page.locator("#kept", { hasText: "Kept" }).waitFor();
    await shot(bob, "security");
    for (const page of [alice, bob]) await page.getByRole("button", { name: "Close" }).click();
    await exchange(alice, bob, "before the reload");

    for (const page of [alice, bob]) await open(page, server.page);
    await shot(alice, "contacts");
    for (const page of [alice, bob]) await page.getByRole("button", { name: /^Open/ }).click();
    await Promise.all([connected(alice), connected(bob)]);
    await alice.getByRole("heading", { name: "Bob" }).waitFor();
    await alice.locator("#trust", { hasText: "Verified" }).waitFor();
    await message(alice, "before the reload").waitFor();
    await message(bob, "before the reload").waitFor();
    await exchange(bob, alice, "after the reload");
    await Promise.all([leave(alice), leave(bob)]);
  },

  async "a page redeems the invite of a native peer"() {
    const page = await person("native inviter");
    const peer = new Program(peerPath, ["listen", "--server", server.url, "--json"]);
    const { text } = await peer.event("invite");
    await page.getByLabel("Paste the link or its text").fill(text);
    await page.getByRole("button", { name: "Connect" }).click();
    await connected(page);
    const { safety_number: number } = await peer.event("established");
    assert.equal(await page.locator("#number").textContent(), number);
    await echoes(page);
    await page.getByRole("button", { name: "Leave" }).click();
    assert.equal(await peer.exited, 0);
    await leave(page);
  },

  async "a native peer redeems the invite of a page"() {
    const page = await person("native redeemer");
    const link = await invite(page);
    const peer = new Program(peerPath, ["dial", link.slice(link.indexOf("sealwire1:")), "--json"]);
    await connected(page);
    const { safety_number: number } = await peer.event("established");
    assert.equal(await page.locator("#number").textContent(), number);
    await page.locator("#messages li:not(.own)").first().waitFor();
    peer.stop();
    await leave(page);
  },

  async "a peer that was killed is missed, and looked for"() {
    const page = await person("killed");
    const peer = new Program(peerPath, ["listen", "--server", server.url, "--json"]);
    const { text } = await peer.event("invite");
    await page.getByLabel("Paste the link or its text").fill(text);
    await page.getByRole("button", { name: "Connect" }).click();
    await connected(page);
    peer.kill();
    await page.locator("#state", { hasText: "Connection lost" }).waitFor();
    await write(page, "this waits");
    await shot(page, "reconnecting");
    await leave(page);
  },

  async "a session outlives its transport"() {
    const [alice, bob] = await Promise.all([person("suspend"), person("suspend")]);
    const text = await alice.evaluate(async (url) => {
      const { Identity, Invite, Session } = await import("./pkg/index.js");
      const me = Identity.generate();
      const invite = Invite.create(me, url);
      window.starting = Session.invite(me, invite);
      return invite.toString();
    }, server.url);
    await bob.evaluate(async (text) => {
      const { Identity, Invite, Session } = await import("./pkg/index.js");
      const session = await Session.redeem(Identity.generate(), Invite.parse(text));
      window.told = [];
      (async () => {
        for await (const event of session) window.told.push(event.message?.content ?? event.type);
      })();
    }, text);
    const report = await alice.evaluate(async () => {
      const session = await window.starting;
      await session.suspend();
      const waiting = await session.send("sent while suspended");
      const { state } = session;
      await session.resume();
      await waiting.delivered();
      await session.rekey();
      return { state, security: session.security() };
    });
    assert.equal(report.state, "suspended");
    assert.equal(report.security.path, "direct");
    assert.equal(report.security.fingerprintChecked, true);
    const told = await bob.evaluate(() => window.told);
    for (const event of ["disconnected", "resumed", "sent while suspended"]) assert.ok(told.includes(event), `${told}`);
    await Promise.all([leave(alice), leave(bob)]);
  },

  async "wrong invites are refused in words"() {
    const page = await person("wrong invite");
    const box = page.getByLabel("Paste the link or its text");
    for (const text of ["hello", "sealwire1:AAAA", "https://example.com/#sealwire1:!!"]) {
      await box.fill(text);
      await page.getByRole("button", { name: "Connect" }).click();
      await page.locator("#notice:not([hidden])").waitFor();
    }
    await shot(page, "wrong-invite");
    const codes = await page.evaluate(async (url) => {
      const { Identity, Invite, SealwireError, Session } = await import("./pkg/index.js");
      const me = Identity.generate();
      const failing = async (call) => {
        try {
          await call();
        } catch (error) {
          return error instanceof SealwireError ? error.code : String(error);
        }
      };
      const invite = Invite.create(me, url);
      const other = Identity.generate();
      const abort = new AbortController();
      setTimeout(() => abort.abort(), 100);
      return [
        await failing(() => Invite.parse("sealwire1:AAAA")),
        await failing(() => Invite.create(me, "ws://example.com")),
        await failing(() => Session.redeem(me, invite)),
        await failing(() => Session.redeem(other, invite, { peerTimeout: 500 })),
        await failing(() => Session.invite(me, invite, { signal: abort.signal })),
        await failing(() => Session.room(me, "lobby", url)),
      ];
    }, server.url);
    assert.deepEqual(codes, ["invite", "invite", "selfie", "peer_absent", "aborted", "invalid_config"]);
    await leave(page);
  },

  async "an invite that is used is used, and its maker is told of the next who tries"() {
    const scenario = "used invite";
    const [alice, bob, carol] = await Promise.all([person(scenario), person(scenario), person(scenario)]);
    const link = await invite(alice);
    await accept(bob, link);
    await Promise.all([connected(alice), connected(bob)]);
    const code = await carol.evaluate(async (text) => {
      const { Identity, Invite, Session } = await import("./pkg/index.js");
      try {
        await Session.redeem(Identity.generate(), Invite.parse(text), { peerTimeout: 60_000 });
        return "connected";
      } catch (error) {
        return error.code;
      }
    }, link.slice(link.indexOf("sealwire1:")));
    assert.equal(code, "invite_used");
    await alice.locator("#notice", { hasText: "Somebody else tried" }).waitFor();
    await shot(alice, "used-invite");
    await Promise.all([alice, bob, carol].map(leave));
  },

  async "a server that changes what passes brings nobody together"() {
    const attacker = await attack();
    const scenario = "attacker";
    const [alice, bob] = await Promise.all([person(scenario), person(scenario)]);
    const outcome = (page, call) => page.evaluate(call, attacker.url);
    const text = await outcome(alice, async (url) => {
      const { Identity, Invite, Session } = await import("./pkg/index.js");
      const me = Identity.generate();
      const invite = Invite.create(me, url);
      window.connected = false;
      Session.invite(me, invite).then(() => (window.connected = true), () => {});
      return invite.toString();
    });
    const code = await bob.evaluate(async (text) => {
      const { Identity, Invite, Session } = await import("./pkg/index.js");
      try {
        await Session.redeem(Identity.generate(), Invite.parse(text), { peerTimeout: 3_000 });
        return "connected";
      } catch (error) {
        return error.code;
      }
    }, text);
    assert.ok(["handshake_failed", "peer_absent", "timeout"].includes(code), code);
    assert.equal(await alice.evaluate(() => window.connected), false);
    attacker.stop();
    await Promise.all([leave(alice), leave(bob)]);
  },
};

/** The native peer sends back what comes. */
async function echoes(page) {
  for (const text of ["one", "two", "three"]) {
    await write(page, text);
    await page.locator("#messages li:not(.own)", { hasText: text }).waitFor();
    await message(page, text).filter({ hasText: "Delivered" }).waitFor();
  }
}

const kit = { person, meet, open, connected, exchange, write, message, shot, leave, server, peerPath };
Object.assign(scenarios, streams(kit), history(kit));

let failed = 0;
for (const [name, scenario] of Object.entries(scenarios)) {
  if (only && !name.includes(only)) continue;
  const begun = Date.now();
  try {
    await within(SCENARIO, name, scenario());
    console.log(`ok      ${name} (${Date.now() - begun} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.stack}`);
    for (const context of browser.contexts()) {
      for (const page of context.pages()) {
        console.log(`  ${page.url()}: ${await page.locator("main").innerText().catch(() => "")}`.slice(0, 600));
      }
      await context.close();
    }
  }
}
for (const complaint of complaints) console.log(`CONSOLE ${complaint}`);
await browser.close();
server.stop();
process.exit(failed || complaints.length ? 1 : 0);
