// What is kept on this device beside the history: the identity, contacts, small settings, each encrypted with a key that
// no script can read.
//
// The key (AES-GCM, not extractable) is in IndexedDB too: it stops whoever copies the browser's files from reading the
// records without running code of this origin in this browser. It does not stop such code.

const DATABASE = "sealwire-chat";

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

  async getText(name) {
    const bytes = await this.get(name);
    return bytes && new TextDecoder().decode(bytes);
  }

  async putText(name, text) {
    await this.put(name, new TextEncoder().encode(text));
  }

  /** The names of all records that begin so. */
  async names(prefix) {
    const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
    return request(this.#table("records").getAllKeys(range));
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
