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
  /** Message bodies are the bytes as given, for peers with a format of their own. */
  raw?: boolean;
  /** Lets `ws://` lead elsewhere than to this machine. */
  plainSignaling?: boolean;
  /** Milliseconds for which a redeemer or contact waits for the peer. */
  peerTimeout?: number;
  /** Gives the attempt up. */
  signal?: AbortSignal;
}

export interface Session extends AsyncIterable<SessionEvent> {}
export interface Channel extends AsyncIterable<Message> {}
export interface LossyChannel extends AsyncIterable<Uint8Array> {}

/** Every failure of this package. */
export interface SealwireError extends Error {
  readonly code: string;
  readonly retryable: boolean;
  readonly suspicious: boolean;
}
