// What a page keeps: conversations after a reload, messages that wait for the other person, copies, and differences.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

export function history({ person, meet, open, connected, exchange, write, message, shot, leave, server }) {
  /** Both become contacts, and close the dialog again. */
  async function befriend(alice, bob) {
    for (const [page, name] of [[alice, "Bob"], [bob, "Alice"]]) {
      await page.getByRole("button", { name: "Security" }).click();
      await page.getByLabel("A name for this contact").fill(name);
      await page.getByRole("button", { name: "Keep as a contact" }).click();
    }
    for (const page of [alice, bob]) await page.locator("#kept", { hasText: "Kept" }).waitFor();
    for (const page of [alice, bob]) await page.getByRole("button", { name: "Close" }).click();
  }

  const openContact = (page, name) => page.getByRole("button", { name: `Open ${name}` }).click();
  const texts = (page) => page.locator("#messages .body").allTextContents();

  async function copy(page) {
    await page.getByRole("button", { name: "Security" }).click();
    const downloading = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save a copy" }).click();
    const download = await downloading;
    const text = readFileSync(await download.path(), "utf8");
    await page.getByRole("button", { name: "Close" }).click();
    return JSON.parse(text);
  }

  return {
    async "a conversation is there after a reload, and what waited is sent once"() {
      const [alice, bob] = await meet("history");
      await befriend(alice, bob);
      await exchange(alice, bob, "first");
      await exchange(bob, alice, "second");
      await Promise.all([alice, bob].map((page) => open(page, server.page)));

      // Nobody is there: the conversation is, and takes messages.
      await openContact(alice, "Bob");
      await message(alice, "second").waitFor();
      assert.deepEqual(await texts(alice), ["first", "second"]);
      await alice.locator("#state", { hasText: "Looking for them" }).waitFor();
      for (const text of ["third, while you were away", "fourth"]) {
        await write(alice, text);
        await message(alice, text).filter({ hasText: "Will be sent" }).waitFor();
      }
      await shot(alice, "waiting-messages");

      // Also after another reload.
      await open(alice, server.page);
      await shot(alice, "conversations");
      await openContact(alice, "Bob");
      await message(alice, "fourth").filter({ hasText: "Will be sent" }).waitFor();
      await openContact(bob, "Alice");
      await Promise.all([connected(alice), connected(bob)]);
      await message(bob, "fourth").waitFor();
      await message(alice, "fourth").filter({ hasText: "Delivered" }).waitFor();
      await exchange(bob, alice, "fifth");
      const all = ["first", "second", "third, while you were away", "fourth", "fifth"];
      for (const page of [alice, bob]) assert.deepEqual(await texts(page), all);

      // And once for all.
      await Promise.all([alice, bob].map((page) => open(page, server.page)));
      await Promise.all([openContact(alice, "Bob"), openContact(bob, "Alice")]);
      await Promise.all([connected(alice), connected(bob)]);
      await exchange(alice, bob, "sixth");
      for (const page of [alice, bob]) assert.deepEqual(await texts(page), [...all, "sixth"]);

      // Both copies are of the same messages.
      const [hers, his] = [await copy(alice), await copy(bob)];
      assert.equal(hers.format, "sealwire-history");
      assert.deepEqual(hers.sent, his.received);
      assert.deepEqual(hers.received, his.sent);
      assert.deepEqual(hers.records.map((record) => record.text).toSorted(), [...all, "sixth"].toSorted());

      // Deleting is for this side alone, and no difference.
      alice.once("dialog", (dialog) => dialog.accept());
      await alice.getByRole("button", { name: "Security" }).click();
      await alice.getByRole("button", { name: "Delete all messages" }).click();
      await message(alice, "was deleted on this device").waitFor();
      await exchange(alice, bob, "seventh");
      await Promise.all([alice, bob].map((page) => open(page, server.page)));
      await Promise.all([openContact(alice, "Bob"), openContact(bob, "Alice")]);
      await Promise.all([connected(alice), connected(bob)]);
      assert.deepEqual(await texts(alice), ["seventh"]);
      assert.deepEqual(await texts(bob), [...all, "sixth", "seventh"]);
      await Promise.all([leave(alice), leave(bob)]);
    },

    async "histories that differ are told in words, and nothing is sent before somebody decides"() {
      const [alice, bob] = await meet("difference");
      await befriend(alice, bob);
      await exchange(alice, bob, "kept by one of us");
      await exchange(bob, alice, "and this too");
      // Bob's history is lost, his contacts are not.
      await bob.goto("about:blank");
      await open(bob, server.page);
      await bob.evaluate(async () => {
        const request = (made) => new Promise((resolve) => (made.onsuccess = () => resolve(made.result)));
        const database = await request(indexedDB.open("sealwire-history"));
        const transaction = database.transaction(["states", "records"], "readwrite");
        for (const name of ["states", "records"]) transaction.objectStore(name).clear();
        await new Promise((resolve) => (transaction.oncomplete = resolve));
        database.close();
      });
      await Promise.all([alice, bob].map((page) => open(page, server.page)));
      await Promise.all([openContact(alice, "Bob"), openContact(bob, "Alice")]);
      for (const page of [alice, bob]) await page.getByRole("alert").filter({ hasText: "histories differ" }).first().waitFor();
      await shot(alice, "histories-differ");
      for (const page of [alice, bob]) {
        const decisions = page.getByRole("button", { name: "Go on all the same" });
        while (await decisions.count()) await decisions.first().click();
      }
      await exchange(alice, bob, "and on we go");
      await exchange(bob, alice, "we do");
      await Promise.all([leave(alice), leave(bob)]);
    },

    async "the history of a page is sealed, of one page, and notices changes"() {
      const page = await person("sealed history");
      const told = await page.evaluate(async () => {
        const { Archive, Identity, IndexedDbHistory } = await import("./pkg/index.js");
        const failing = (promise) => promise.then(() => "done", (error) => error.message);
        const request = (made) => new Promise((resolve) => (made.onsuccess = () => resolve(made.result)));
        const [me, peer] = [Identity.generate(), Identity.generate().peerId];
        const store = await IndexedDbHistory.open("test");
        const archive = new Archive(store);
        const conversation = archive.conversation(me, peer);
        for (let number = 0; number < 150; number++) await conversation.queue(`secret ${number}`);
        const told = { peers: await archive.peers(me), peer };
        const newest = await conversation.page({ limit: 2 });
        told.newest = newest.map((entry) => [entry.author, entry.state, entry.content]);
        told.before = (await conversation.page({ limit: 1, before: newest.at(-1).position }))[0].content;

        const database = await request(indexedDB.open("test"));
        const table = (name, mode = "readonly") => database.transaction(name, mode).objectStore(name);
        const key = await request(table("keys").get("seal"));
        told.extractable = key.extractable;
        const stored = await request(table("records").getAll());
        const text = stored.map(({ data }) => new TextDecoder("latin1").decode(data)).join("");
        told.readable = text.includes("secret");
        told.inUse = await failing(IndexedDbHistory.open("test"));
        store.close();

        // What is stored is there for the next page, unless somebody changed it.
        const second = await IndexedDbHistory.open("test");
        const again = new Archive(second).conversation(me, peer);
        told.again = (await again.page({ limit: 1 }))[0].content;
        second.close();
        const [first] = await request(table("records").getAllKeys());
        const record = await request(table("records").get(first));
        new Uint8Array(record.data)[0] ^= 1;
        await request(table("records", "readwrite").put(record, first));
        const third = await IndexedDbHistory.open("test");
        told.changed = await failing(new Archive(third).conversation(me, peer).page());
        third.close();
        database.close();
        return told;
      });
      assert.deepEqual(told.peers, [told.peer]);
      assert.deepEqual(told.newest, [["me", "queued", "secret 149"], ["me", "queued", "secret 148"]]);
      assert.equal(told.before, "secret 147");
      assert.equal(told.extractable, false);
      assert.equal(told.readable, false);
      assert.match(told.inUse, /in use by another page/);
      assert.equal(told.again, "secret 149");
      assert.match(told.changed, /changed or moved/);
      await leave(page);
    },
  };
}
