// A history in IndexedDB, for an `Archive`. Every record is encrypted with an AES-GCM key that no script can export; the
// names of conversations are codes that only this browser can make.
//
// Records go in and out in the order in which they were asked for, and each change is one transaction.

const VERSION = 1;
const IV_BYTES = 12;
/** Records, and about how many bytes of them, that are given at once. */
const MAX_READ = 64;
const MAX_READ_BYTES = 1 << 20;
/** How long another page of the same origin may take to let go: a reload needs a moment. */
const HANDOVER_MS = 5_000;

function request(made) {
  return new Promise((resolve, reject) => {
    made.onsuccess = () => resolve(made.result);
    made.onerror = () => reject(made.error);
  });
}

function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("the browser gave a change up"));
  });
}

function openDatabase(name) {
  const opening = indexedDB.open(name, VERSION);
  opening.onupgradeneeded = () => {
    for (const table of ["keys", "states", "records"]) opening.result.createObjectStore(table);
  };
  return request(opening);
}

/** Until the page is left: a history has one writer. */
async function lock(name) {
  if (!navigator.locks) return () => {};
  let release;
  const released = new Promise((resolve) => (release = resolve));
  const signal = AbortSignal.timeout(HANDOVER_MS);
  await new Promise((resolve, reject) => {
    navigator.locks.request(`sealwire history ${name}`, { signal }, () => {
      resolve();
      return released;
    }).catch(() => reject(new Error("the history is in use by another page of this site: close that one first")));
  });
  return release;
}

/** Where an `Archive` keeps its records: `new Archive(await IndexedDbHistory.open())`. */
export class IndexedDbHistory {
  #database;
  #release;
  #sealing;
  #naming;
  /** Everything that was asked for so far. */
  #last = Promise.resolve();
  /** Conversations of which a change failed: what follows it must not be kept either, until all is read again. */
  #failed = new Set();

  /** Opens the history of this name, or makes one. It is this page's alone until `close`, or until the page is left. */
  static async open(name = "sealwire-history") {
    const history = new IndexedDbHistory();
    history.#release = await lock(name);
    try {
      history.#database = await openDatabase(name);
      await history.#loadKeys();
    } catch (error) {
      history.close();
      throw error;
    }
    return history;
  }

  close() {
    this.#database?.close();
    this.#release();
  }

  state(pair) {
    return this.#next(async () => {
      this.#failed.delete(pair);
      const name = await this.#name(pair);
      const sealed = await request(this.#table("states").get(name));
      return sealed && this.#unseal(`state ${name}`, sealed);
    });
  }

  states() {
    return this.#next(async () => {
      const table = this.#table("states");
      const [names, all] = await Promise.all([request(table.getAllKeys()), request(table.getAll())]);
      return Promise.all(all.map((sealed, index) => this.#unseal(`state ${names[index]}`, sealed)));
    });
  }

  read(pair, from, until) {
    return this.#next(async () => {
      if (from >= until) return [];
      const name = await this.#name(pair);
      const range = IDBKeyRange.bound([name, from], [name, until], false, true);
      const table = this.#table("records");
      const [places, found] = await Promise.all([
        request(table.getAllKeys(range, MAX_READ)),
        request(table.getAll(range, MAX_READ)),
      ]);
      let bytes = 0;
      const beyond = found.findIndex(({ data }) => (bytes += data.byteLength) > MAX_READ_BYTES);
      const wanted = found.slice(0, beyond < 0 ? found.length : Math.max(beyond, 1));
      return Promise.all(wanted.map(async (sealed, index) => {
        const position = places[index][1];
        return [position, await this.#unseal(`record ${name} ${position}`, sealed)];
      }));
    });
  }

  write(pair, change) {
    return this.#next(async () => {
      if (this.#failed.has(pair)) throw new Error("a change before this one was not kept");
      try {
        await this.#apply(await this.#name(pair), change);
      } catch (error) {
        this.#failed.add(pair);
        throw error;
      }
    });
  }

  async #apply(name, { state, remove, put, durable }) {
    // Sealed before, for a transaction that waits for something else is over.
    const sealedState = state && (await this.#seal(`state ${name}`, state));
    const sealed = await Promise.all(
      put.map(async ([position, bytes]) => [position, await this.#seal(`record ${name} ${position}`, bytes)]),
    );
    const durability = durable ? "strict" : "relaxed";
    const transaction = this.#database.transaction(["states", "records"], "readwrite", { durability });
    const done = finished(transaction);
    const [states, records] = [transaction.objectStore("states"), transaction.objectStore("records")];
    if (sealedState) {
      states.put(sealedState, name);
    } else {
      states.delete(name);
      remove = [[0, Infinity]];
    }
    for (const [from, until] of remove) {
      if (from < until) records.delete(IDBKeyRange.bound([name, from], [name, until], false, true));
    }
    for (const [position, record] of sealed) records.put(record, [name, position]);
    await done;
  }

  /** One after the other, whatever became of the one before. */
  #next(work) {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  async #loadKeys() {
    this.#sealing = await this.#key("seal", { name: "AES-GCM", length: 256 }, ["encrypt", "decrypt"]);
    this.#naming = await this.#key("name", { name: "HMAC", hash: "SHA-256" }, ["sign"]);
  }

  async #key(name, algorithm, uses) {
    const found = await request(this.#table("keys").get(name));
    if (found) return found;
    const made = await crypto.subtle.generateKey(algorithm, false, uses);
    const transaction = this.#database.transaction("keys", "readwrite", { durability: "strict" });
    transaction.objectStore("keys").put(made, name);
    await finished(transaction);
    return made;
  }

  /** How a conversation is called in the database: it tells nobody whose it is. */
  async #name(pair) {
    const code = new Uint8Array(await crypto.subtle.sign("HMAC", this.#naming, new TextEncoder().encode(pair)));
    return Array.from(code.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  async #seal(place, bytes) {
    const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
    return { iv, data: await crypto.subtle.encrypt(this.#parameters(place, iv), this.#sealing, bytes) };
  }

  async #unseal(place, { iv, data }) {
    try {
      return new Uint8Array(await crypto.subtle.decrypt(this.#parameters(place, iv), this.#sealing, data));
    } catch {
      throw new Error("a record was changed or moved by somebody else");
    }
  }

  // The place is authenticated with the bytes, so that records cannot be exchanged for each other.
  #parameters(place, iv) {
    return { name: "AES-GCM", iv, additionalData: new TextEncoder().encode(place) };
  }

  #table(name) {
    return this.#database.transaction(name).objectStore(name);
  }
}
