/** What a message says: text, bytes, or structured data that JSON can carry. */
export type Content = string | Uint8Array | object | number | boolean | null;

/** One message. Who sent it is proven by the session. */
export interface Message {
  /** 32 hexadecimal digits, the same on both sides. */
  readonly id: string;
  /** The sender's key: 64 hexadecimal digits. */
  readonly sender: string;
  readonly kind: "text" | "bytes" | "value";
  readonly content: Content;
  /** When it was written, by the sender's clock: milliseconds since 1970. */
  readonly timestamp: number;
}

export type PeerTrust = "blocked" | "changed" | "unknown" | "pinned" | "invited" | "verified";
export type MinTrust = "unknown" | "pinned" | "invited" | "verified";
export type State = "connected" | "reconnecting" | "suspended" | "ended";

/** What protects a session, and what does not. */
export interface Security {
  readonly trust: PeerTrust;
  readonly path: "direct" | "relayed" | "unknown";
  /** Whether the connection's certificate was compared with the authenticated one; otherwise the browser alone did. */
  readonly fingerprintChecked: boolean;
  /** The report as sentences for people, one per line. */
  readonly text: string;
}

/** What happens in a session. */
export type SessionEvent =
  | { readonly type: "message"; readonly message: Message }
  | { readonly type: "unreadable"; readonly error: SealwireError }
  | { readonly type: "established"; readonly peer: string; readonly trust: PeerTrust }
  | { readonly type: "disconnected"; readonly error: SealwireError }
  | { readonly type: "reconnecting" }
  | { readonly type: "resumed" }
  | { readonly type: "session_reset"; readonly unacked: number }
  | { readonly type: "history_diverged"; readonly author: "me" | "peer"; readonly here: number; readonly there: number }
  | { readonly type: "undelivered"; readonly messages: number }
  | { readonly type: "short_code"; readonly groups: readonly [number, number, number] }
  | { readonly type: "short_code_failed" }
  | { readonly type: "contact_requested" }
  | { readonly type: "contact_made" }
  | { readonly type: "retrying"; readonly error: SealwireError }
  | { readonly type: "invite_contested"; readonly first: string; readonly second: string }
  | { readonly type: "invite_already_used" }
  | { readonly type: "flood" }
  | { readonly type: "no_fingerprint_check" }
  | { readonly type: "signaling_lost" }
  | { readonly type: "closed"; readonly code: number; readonly reason: string; readonly unacked: number }
  | { readonly type: "failed"; readonly error: SealwireError }
  | { readonly type: "other"; readonly text: string };

/** How to connect. Everything may be left out. */
export interface ConnectOptions {
  /** The trust below which nothing is sent or delivered. */
  minTrust?: MinTrust;
  /** In an open room: accepts only this key. */
  pinned?: string;
  /** In an open room: accepts whoever comes first. */
  acceptUnknown?: boolean;
  /** STUN and TURN servers. */
  iceServers?: { urls: string; username?: string; credential?: string }[];
  /** Uses and tells addresses of TURN servers only: the peer does not learn where this device is. */
  relayOnly?: boolean;
  /** Channels beside the main one; both sides must declare the same in the same order. */
  channels?: { label: string; kind?: "reliable" | "lossy" }[];
  /** Streams and files, which both sides must declare. `window`: bytes of one stream that may wait for this page. `maxFile`:
   * bytes of the largest file that is offered to it at all. */
  streams?: boolean | { window?: number; maxFile?: number };
  /** Keeps every message there before it is sent or given to this page, and sends what waited. */
  history?: Archive;
  /** Leaves a peer that keeps no history. */
  requireHistory?: boolean;
  /** Message bodies are the bytes as given, for peers with a format of their own. */
  raw?: boolean;
  /** Lets `ws://` lead elsewhere than to this machine. */
  plainSignaling?: boolean;
  /** Milliseconds for which a redeemer or contact waits for the peer. */
  peerTimeout?: number;
  /** Gives the attempt up. */
  signal?: AbortSignal;
}

export interface Session extends AsyncIterable<SessionEvent> {
  /** What the peer offers, in order, until there will be nothing more. */
  offers(): AsyncIterableIterator<IncomingOffer>;
}
export interface Channel extends AsyncIterable<Message> {}
export interface LossyChannel extends AsyncIterable<Uint8Array> {}
export interface FileTransfer extends AsyncIterable<Progress> {}

/** Leaving a loop over it cancels what was not read. */
export interface StreamReader extends AsyncIterable<Uint8Array> {
  /** All of it as a blob without a type; `onProgress` is told how many bytes are here. */
  blob(onProgress?: (bytes: number) => void): Promise<Blob>;
}

/** How far a file is. */
export interface Progress {
  readonly bytes: number;
  readonly total: number;
}

/** A file that arrived whole. */
export interface FileReport {
  readonly bytes: number;
  /** Bytes that the receiver had from before. */
  readonly resumedFrom: number;
  /** SHA-256 of the whole: 64 hexadecimal digits, the same on both sides. */
  readonly sha256: string;
}

/** One message of a history. */
export interface Entry {
  /** Its place: later ones have higher positions. */
  readonly position: number;
  readonly author: "me" | "peer";
  /** When it was written, by its author's clock: milliseconds since 1970. */
  readonly timestamp: number;
  /** `queued`: it waits for a session. `sent`: the peer has not confirmed it. */
  readonly state: "queued" | "sent" | "delivered" | "received";
  readonly kind: "text" | "bytes" | "value" | "unknown" | "deleted";
  readonly content: Content | undefined;
}

/** Which messages are wanted, the newest first. */
export interface PageOptions {
  /** Only those before this position. */
  before?: number;
  /** At most so many: 50 unless given. */
  limit?: number;
  /** Only those written in this time: milliseconds since 1970. */
  from?: number;
  until?: number;
}

/** How far a chain of messages goes, and the hash of them all. */
export interface Head {
  readonly n: number;
  readonly hash: string;
}

/** Where an `Archive` keeps its records. It decides nothing and verifies nothing but its own encryption. `pair` names a
 * conversation. Changes of a pair apply in the order of the calls, each whole or not at all. */
export interface HistoryStore {
  state(pair: string): Promise<Uint8Array | undefined>;
  /** The states of all conversations. */
  states(): Promise<Uint8Array[]>;
  /** Records from `from` up to before `until`, ascending: at least one if there is any, at most 64. */
  read(pair: string, from: number, until: number): Promise<[position: number, record: Uint8Array][]>;
  write(pair: string, change: HistoryChange): Promise<void>;
}

/** What is to be changed at once. */
export interface HistoryChange {
  /** The state from now on; `undefined`: the conversation is forgotten. */
  readonly state: Uint8Array | undefined;
  /** Positions whose records go, before any is put: from, and up to before. */
  readonly remove: readonly [from: number, until: number][];
  readonly put: readonly [position: number, record: Uint8Array][];
  /** Whether it has to survive a crash once it is answered. */
  readonly durable: boolean;
}

/** Every failure of this package. */
export interface SealwireError extends Error {
  readonly code: string;
  readonly retryable: boolean;
  readonly suspicious: boolean;
}
