// What is derived from secrets (docs/protocol.md §3, §4, §9, §16, §17) and the frame that the keys seal (§10).
import { chacha20, chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { expand } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256, sha512 } from '@noble/hashes/sha2.js';
import { concat, fromBase64url, less, readUint, Reader, text, toBase64url, uint, utf8 } from './bytes.mjs';

export const P = utf8('sealwire/1');

/** */
export function exp(prk, label, ctx, length = 32) {
  return expand(sha256, prk, concat(P, utf8(` ${label}`), Uint8Array.of(0), ctx), length);
}

/** sixteen outputs of 32 bytes. */
export function fke(key, nonce) {
  const stream = chacha20(key, utf8(nonce), new Uint8Array(512));
  return Array.from({ length: 16 }, (_, n) => stream.subarray(32 * n, 32 * n + 32));
}

export const sorted = (a, b) => (less(a, b) ? concat(a, b) : concat(b, a));

/** The ctx by kind: the inviter's key, both keys in order, the session id. */
export function pairing(kind, secret, ctx) {
  const prk = hmac(sha256, concat(P, utf8(' psk')), secret);
  return {
    psk: exp(prk, `${kind} psk`, ctx),
    pskId: exp(prk, `${kind} psk id`, ctx, 16),
    room: exp(prk, `${kind} room`, ctx),
  };
}

/** */
export const openRoom = (name) => sha256(concat(P, utf8(' room'), Uint8Array.of(0), utf8(name)));

/** R-18; the relay's address is the host's to judge. */
export function parseInvite(invite) {
  if (invite.length > 1024 || !invite.startsWith('sealwire1:')) throw new Error('not an invite');
  const reader = new Reader(fromBase64url(invite.slice('sealwire1:'.length)));
  if (reader.uint(1) !== 1) throw new Error('unknown format of an invite');
  const [secret, inviter, expiry] = [reader.take(32), reader.take(32), reader.uint(4)];
  return { secret, inviter, expiry, relayUrl: text(reader.rest) };
}

export function formatInvite({ secret, inviter, expiry, relayUrl }) {
  return `sealwire1:${toBase64url(concat(Uint8Array.of(1), secret, inviter, uint(expiry, 4), utf8(relayUrl)))}`;
}

/** §9: what every epoch has, from its exporter secret and its handshake hash. */
export function epochKeys({ x, h }) {
  return {
    i2r: exp(x, 'epoch i2r', h),
    r2i: exp(x, 'epoch r2i', h),
    rekeyPsk: exp(x, 'rekey psk', h),
    resume: exp(x, 'resume', h),
  };
}

/** §9: what the first epoch has besides. */
export function sessionKeys({ x, h }) {
  return {
    sessionId: exp(x, 'session id', h, 16),
    resumeRoom: exp(x, 'resume room', h),
    contact: exp(x, 'contact', h),
    sas: exp(x, 'sas', h),
  };
}

/** */
export const chains = (directional) => fke(directional, 'seal channel').map((ck) => new Chain(ck));

/** message keys in order, each once. */
export class Chain {
  constructor(ck) {
    this.ck = ck;
    this.keys = [];
    this.seq = 0;
  }
  /** The key of the next frame and its number. */
  next() {
    if (this.keys.length === 0) [this.ck, ...this.keys] = fke(this.ck, 'seal message');
    return { key: this.keys.shift(), seq: this.seq++ };
  }
}

/** */
export function padme(length) {
  if (length < 2) return length;
  const e = Math.floor(Math.log2(length));
  const step = 2 ** (e - Math.floor(Math.log2(e)) - 1);
  return Math.ceil(length / step) * step;
}

/** Without `maxFrame` the frame is not padded. */
export function sealFrame({ key, seq }, epoch, kind, body, maxFrame) {
  const header = concat(uint(epoch, 2), uint(seq, 6));
  const length = maxFrame ? Math.min(padme(Math.max(body.length + 1, 32)), maxFrame - 24) : body.length + 1;
  const plaintext = new Uint8Array(length);
  plaintext.set(body);
  plaintext[body.length] = kind;
  return concat(header, chacha20poly1305(key, concat(new Uint8Array(4), header)).encrypt(plaintext));
}

export const frameHeader = (frame) => ({ epoch: readUint(frame.subarray(0, 2)), seq: readUint(frame.subarray(2, 8)) });

/** */
export function openFrame(key, frame, maxFrame) {
  if (frame.length < 25 || frame.length > maxFrame) throw new Error('size of a frame');
  const nonce = concat(new Uint8Array(4), frame.subarray(0, 8));
  const plaintext = chacha20poly1305(key, nonce).decrypt(frame.subarray(8));
  const end = plaintext.findLastIndex((byte) => byte !== 0);
  if (end < 0) throw new Error('a plaintext of zeros');
  return { kind: plaintext[end], body: plaintext.subarray(0, end) };
}

/** */
export function safetyNumber(a, b) {
  const half = (pk) => {
    const k = concat(Uint8Array.of(5), pk);
    let h = sha512(concat(new Uint8Array(2), k, P, k));
    for (let round = 1; round < 5200; round += 1) h = sha512(concat(h, k));
    const group = (j) => String(readUint(h.subarray(5 * j, 5 * j + 5)) % 100_000).padStart(5, '0');
    return [0, 1, 2, 3, 4, 5].map(group).join('');
  };
  return [half(a), half(b)].sort().join('');
}

/** */
export const sasCommitment = (h0, nonceR) => sha256(concat(P, utf8(' sas commit'), h0, nonceR));

/** */
export function sasCode(sasKey, nonceI, nonceR, keyI, keyR) {
  const b = exp(sasKey, 'sas code', concat(nonceI, nonceR, keyI, keyR), 5);
  return [(b[0] << 5) | (b[1] >> 3), ((b[1] & 7) << 10) | (b[2] << 2) | (b[3] >> 6), ((b[3] & 63) << 7) | (b[4] >> 1)]
    .map((group) => group + 1000);
}

/** the head before the first message of `author`. */
export const historyStart = (a, b, author) => sha256(concat(P, utf8(' history'), sorted(a, b), author));

/** the head after message `n`. */
export function historyNext(head, { n, seen, tsMs, body }) {
  return sha256(concat(Uint8Array.of(1), head, uint(n, 8), uint(seen, 8), uint(tsMs, 8), sha256(body)));
}
