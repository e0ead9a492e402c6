import type { HistoryChange, HistoryStore } from "./sealwire.js";

export * from "./sealwire.js";
export { default } from "./sealwire.js";

/** Every failure of this package. */
export class SealwireError extends Error {
  /** What happened, as one word that stays the same: `peer_absent`, `invite_used`, `key_changed`, ... */
  readonly code: string;
  /** Whether the same call may succeed later, with nothing changed but the time. */
  readonly retryable: boolean;
  /** Whether it smells of an attack: worth showing to people. */
  readonly suspicious: boolean;
  constructor(code: string, message: string, retryable: boolean, suspicious: boolean);
}

/** Where an `Archive` keeps its records: in IndexedDB, encrypted with a key that no script can export. */
export class IndexedDbHistory implements HistoryStore {
  private constructor();
  /** Opens the history of this name, or makes one. It is this page's alone until `close`, or until the page is left. */
  static open(name?: string): Promise<IndexedDbHistory>;
  /** Lets go of it. Nothing may be asked of it any more. */
  close(): void;
  state(pair: string): Promise<Uint8Array | undefined>;
  states(): Promise<Uint8Array[]>;
  read(pair: string, from: number, until: number): Promise<[position: number, record: Uint8Array][]>;
  write(pair: string, change: HistoryChange): Promise<void>;
}
