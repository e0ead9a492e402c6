// What is kept on this device: the identity, contacts and the history, each encrypted with a key that no script can read.
//
// The key (AES-GCM, not extractable) is in IndexedDB too: it stops whoever copies the browser's files from reading the
// records without running code of this origin in this browser. It does not stop such code.

const DATABASE = "sealwire-chat";
const HISTORY_PAGE = 500;

function request(made) {
  return new Promise((resolve, reject) => {
    made.onsuccess = () => resolve(made.result);
    made.onerror = () => reject(made.error);
  });
}

function open() {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => {
    opening.result.createObjectStore("keys");
    opening.result.createObjectStore("records");
    opening.result.createObjectStore("history", { autoIncrement: true }).createIndex("peer", "peer");
  };
  return request(opening);
}

export class Store {
  #database;
  #key;

  static async open() {
    const store = new Store();
    store.#database = await open();
    store.#key = await store.#loadKey();
    return store;
  }

  /** The bytes of a record, or nothing. Throws when it was changed by somebody else. */
  async get(name) {
    const sealed = await request(this.#table("records").get(name));
    return sealed && this.#open(name, sealed);
  }

  async put(name, bytes) {
    const sealed = await this.#seal(name, bytes);
    await request(this.#table("records", "readwrite").put(sealed, name));
  }

  async delete(name) {
    await request(this.#table("records", "readwrite").delete(name));
  }

  /** The names of all records that begin so. */
  async names(prefix) {
    const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
    return request(this.#table("records").getAllKeys(range));
  }

  /** Adds one message to the history with a peer. */
  async append(peer, entry) {
    const sealed = await this.#seal(`history ${peer}`, new TextEncoder().encode(JSON.stringify(entry)));
    await request(this.#table("history", "readwrite").add({ peer, ...sealed }));
  }

  /** The last messages with a peer, in order. */
  async history(peer) {
    const all = await request(this.#table("history").index("peer").getAll(peer));
    const opened = all.slice(-HISTORY_PAGE).map((sealed) => this.#open(`history ${peer}`, sealed));
    return (await Promise.all(opened)).map((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
  }

  async forget(peer) {
    const table = this.#table("history", "readwrite");
    for (const key of await request(table.index("peer").getAllKeys(peer))) table.delete(key);
  }

  async #loadKey() {
    const found = await request(this.#table("keys").get("main"));
    if (found) return found;
    const made = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
    // Another tab may have been faster: the first key stays.
    await request(this.#table("keys", "readwrite").add(made, "main")).catch(() => {});
    return request(this.#table("keys").get("main"));
  }

  // The name is authenticated with the record, so that records cannot be exchanged for each other.
  async #seal(name, bytes) {
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const data = await crypto.subtle.encrypt(this.#parameters(name, iv), this.#key, bytes);
    return { iv, data };
  }

  async #open(name, { iv, data }) {
    return new Uint8Array(await crypto.subtle.decrypt(this.#parameters(name, iv), this.#key, data));
  }

  #parameters(name, iv) {
    return { name: "AES-GCM", iv, additionalData: new TextEncoder().encode(name) };
  }

  #table(name, mode = "readonly") {
    return this.#database.transaction(name, mode).objectStore(name);
  }
}
