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
