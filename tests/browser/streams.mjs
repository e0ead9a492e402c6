// Streams and files: page with page by the chat page and by the package, page with a native peer in both roles.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { Program } from "./browser.mjs";

const SIZE = 5_000_000;
const digest = (buffer) => createHash("sha256").update(buffer).digest("hex");

/** In the page: two sessions of one page with each other. */
const pair = `async (url) => {
  const { Identity, Invite, Session } = await import("./pkg/index.js");
  const me = Identity.generate();
  const invite = Invite.create(me, url);
  const text = invite.toString();
  return Promise.all([
    Session.invite(me, invite, { streams: true }),
    Session.redeem(Identity.generate(), Invite.parse(text), { streams: true }),
  ]);
}`;

/** In the page: becomes a contact as the native example does, and meets again with streams. */
const meetNative = `async (url, text) => {
  const { Identity, Invite, Session } = await import("./pkg/index.js");
  const me = Identity.generate();
  const invite = text ? Invite.parse(text) : Invite.create(me, url);
  window.inviteText = invite.toString();
  const first = await (text ? Session.redeem(me, invite) : Session.invite(me, invite));
  first.makeContact();
  let [made, told] = [false, false];
  for await (const event of first) {
    if (event.type === "contact_made") {
      made = true;
      await first.send("we know each other");
    }
    if (event.type === "message") told = true;
    if (made && told) break;
  }
  const contact = first.toContact("native");
  first.close().catch(() => {});
  return Session.contact(me, contact, url, { streams: true });
}`;

export function streams({ person, meet, message, shot, leave, server, peerPath }) {
  const sendFile = join(dirname(peerPath), "send_file");
  return {
    async "a file of 5 MB arrives in both directions, byte for byte"() {
      const [alice, bob] = await meet("files");
      for (const [from, to, name] of [[alice, bob, "one.bin"], [bob, alice, "two.bin"]]) {
        const buffer = randomBytes(SIZE);
        await from.locator("#file").setInputFiles({ name, mimeType: "application/octet-stream", buffer });
        const accept = to.getByRole("button", { name: `Accept ${name}` });
        await accept.waitFor();
        if (name === "two.bin") await shot(to, "file-offered");
        await accept.click();
        const downloading = to.waitForEvent("download");
        await to.getByRole("link", { name: `Save ${name}` }).click();
        const download = await downloading;
        assert.equal(download.suggestedFilename(), name);
        assert.ok(readFileSync(await download.path()).equals(buffer));
        await message(from, name).filter({ hasText: "Delivered" }).waitFor();
        assert.equal(await message(to, name).getAttribute("data-sha256"), digest(buffer));
      }
      await bob.locator("#file").setInputFiles({ name: "three.txt", mimeType: "text/plain", buffer: Buffer.from("x") });
      await alice.getByRole("button", { name: "Refuse three.txt" }).click();
      await message(bob, "three.txt").filter({ hasText: "Refused" }).waitFor();
      await shot(alice, "files");
      await Promise.all([leave(alice), leave(bob)]);
    },

    async "streams have names and ends, and are refused, cancelled and given up"() {
      const page = await person("streams");
      const told = await page.evaluate(`(async () => {
        const [one, other] = await (${pair})("${server.url}");
        const told = {};
        const failing = (promise) => promise.then(() => "done", (error) => error.code);

        const opening = one.openStream("log");
        const offer = await other.nextOffer();
        told.offer = [offer.kind, offer.name, offer.size];
        const reader = offer.accept();
        const writer = await opening;
        for (const text of ["a line", ", and more"]) await writer.write(new TextEncoder().encode(text));
        const finishing = writer.finish();
        told.text = await (await reader.blob()).text();
        await finishing;
        told.sha256 = reader.sha256;

        const refused = failing(one.openStream("refused"));
        (await other.nextOffer()).reject();
        told.refused = await refused;

        const aborting = one.openStream("aborted");
        const aborted = (await other.nextOffer()).accept();
        (await aborting).abort();
        told.aborted = await failing(aborted.read());

        const large = new Blob([new Uint8Array(3_000_000).fill(7)]);
        const cancelled = one.sendFile(large, "cancelled.bin");
        const taken = (await other.nextOffer()).accept();
        await taken.read();
        taken.cancel();
        told.cancelled = await failing(cancelled.finished());

        const transfer = one.sendFile(large, "../../a:b.bin");
        const last = await other.nextOffer();
        told.file = [last.kind, last.name, last.size];
        const taking = last.accept().blob();
        let seen = 0;
        for await (const progress of transfer) seen = progress.bytes;
        told.report = await transfer.finished();
        told.whole = (await taking).size;
        told.plain = await failing((async () => one.sendFile(new Blob(["x"]), ""))());
        return told;
      })()`);
      assert.deepEqual(told.offer, ["stream", "log", undefined]);
      assert.equal(told.text, "a line, and more");
      assert.equal(told.sha256, digest("a line, and more"));
      assert.equal(told.refused, "stream_refused");
      assert.equal(told.aborted, "stream_ended");
      assert.equal(told.cancelled, "stream_ended");
      assert.deepEqual(told.file, ["file", ".._.._a_b.bin".replace(/^\.+/, ""), 3_000_000]);
      assert.deepEqual(told.report, { bytes: 3_000_000, resumedFrom: 0, sha256: digest(Buffer.alloc(3_000_000, 7)) });
      assert.equal(told.whole, 3_000_000);
      await leave(page);
    },

    async "a page sends a file to a native peer, whose invite it redeemed"() {
      const page = await person("file to native");
      const folder = mkdtempSync(join(tmpdir(), "sealwire-"));
      const peer = new Program(sendFile, ["listen", folder, "--vault", join(folder, "vault"), "--server", server.url, "--json"]);
      const { text } = await peer.event("invite");
      const sha256 = await page.evaluate(`(async () => {
        const session = await (${meetNative})("${server.url}", "${text}");
        const bytes = new Uint8Array(${SIZE});
        for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
        const report = await session.sendFile(new File([bytes], "from the page.bin")).finished();
        await session.close();
        return report.sha256;
      })()`);
      await peer.event("received");
      assert.equal(await peer.exited, 0);
      assert.equal(digest(readFileSync(join(folder, "from the page.bin"))), sha256);
      await leave(page);
    },

    async "a page takes a file of a native peer, which redeemed its invite"() {
      const page = await person("file from native");
      const folder = mkdtempSync(join(tmpdir(), "sealwire-"));
      const buffer = randomBytes(SIZE);
      const path = join(folder, "to the page.bin");
      writeFileSync(path, buffer);
      await page.evaluate(`(() => {
        window.session = (${meetNative})("${server.url}");
      })()`);
      await page.waitForFunction(() => window.inviteText);
      const text = await page.evaluate(() => window.inviteText);
      const peer = new Program(sendFile, ["dial", path, "--vault", join(folder, "vault"), "--invite", text, "--json"]);
      const told = await page.evaluate(async () => {
        const session = await window.session;
        const offer = await session.nextOffer();
        const reader = offer.accept();
        const blob = await reader.blob();
        const hash = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
        const digits = Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
        return { name: offer.name, size: offer.size, sha256: reader.sha256, digits };
      });
      const sha256 = digest(buffer);
      assert.deepEqual(told, { name: "to the page.bin", size: SIZE, sha256, digits: sha256 });
      assert.equal(await peer.exited, 0);
      await leave(page);
    },
  };
}
