// Noise revision 34 with the `hfs` modifier and ML-KEM-768 (docs/protocol.md §8, §14), pattern by pattern from its name.
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { x25519 } from '@noble/curves/ed25519.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { concat, equal, uint, utf8 } from './bytes.mjs';

const PATTERNS = {
  NN: [['e'], ['e', 'ee']],
  NX: [['e'], ['e', 'ee', 's', 'es']],
  XN: [['e'], ['e', 'ee'], ['s', 'se']],
  IN: [['e', 's'], ['e', 'ee', 'se']],
  XX: [['e'], ['e', 'ee', 's', 'es'], ['s', 'se']],
  IX: [['e', 's'], ['e', 'ee', 'se', 's', 'es']],
};
const SUITE = /^Noise_([NXI]{2})([a-z0-9+]*)_25519(?:\+MLKEM768)?_ChaChaPoly_SHA256$/;
const EMPTY = new Uint8Array();
const PUBLIC = 32;
const KEM_PUBLIC = 1184;
const KEM_CIPHERTEXT = 1088;
const TAG = 16;

/** The tokens of each message, modifiers applied: hfs as in §8, pskN as in Noise §9.4. */
function messagesOf(name) {
  const [, pattern, modifiers] = SUITE.exec(name);
  const messages = PATTERNS[pattern].map((tokens) => [...tokens]);
  if (modifiers.startsWith('hfs')) {
    messages[0].splice(1, 0, 'e1');
    messages[1].splice(messages[1].indexOf('ee') + 1, 0, 'ekem1');
  }
  for (const [, place] of modifiers.matchAll(/psk(\d)/g)) {
    if (place === '0') messages[0].unshift('psk');
    else messages[Number(place) - 1].push('psk');
  }
  return messages;
}

/** Noise's HKDF (§2). */
export function hkdf(ck, ikm, count) {
  const t = hmac(sha256, ck, ikm);
  const out = [];
  for (let n = 1; n <= count; n += 1) {
    out.push(hmac(sha256, t, concat(out.at(-1) ?? EMPTY, Uint8Array.of(n))));
  }
  return out;
}

/** four zero bytes, then the counter little-endian. */
export const nonce = (n) => concat(new Uint8Array(4), uint(n, 8).reverse());

export function generateKeyPair(secret = x25519.utils.randomSecretKey()) {
  return { secret, public: x25519.getPublicKey(secret) };
}

/** The library refuses some low-order points by itself; the comparison is what the rule asks for. */
function dh(pair, remote) {
  const shared = x25519.getSharedSecret(pair.secret, remote);
  if (equal(shared, new Uint8Array(PUBLIC))) throw new Error('the shared secret is zero');
  return shared;
}

/** One side of one run. A failure of any step throws, and the object must not be used again. */
export class Handshake {
  /**
   * `s` own static pair, `psks` in order of use. `e`, `kemSeed` (d || z) and `kemRandom` (m) are given by vectors only;
   * otherwise they are fresh.
   */
  constructor(name, { initiator, prologue, s, psks = [], e, kemSeed, kemRandom }) {
    this.initiator = initiator;
    this.messages = messagesOf(name);
    this.psks = [...psks];
    this.mixesE = name.includes('psk');
    this.s = s;
    this.e = generateKeyPair(e);
    this.kem = undefined;
    this.kemSeed = kemSeed;
    this.kemRandom = kemRandom;
    const bytes = utf8(name);
    this.h = bytes.length <= 32 ? concat(bytes, new Uint8Array(32 - bytes.length)) : sha256(bytes);
    this.ck = this.h;
    this.k = undefined;
    this.n = 0;
    this.mixHash(prologue);
  }

  write(payload = EMPTY) {
    const out = [];
    for (const token of this.messages.shift()) out.push(this.writeToken(token));
    out.push(this.encryptAndHash(payload));
    return concat(...out);
  }

  read(message) {
    let rest = message;
    const take = (length) => {
      if (rest.length < length) throw new Error('message cut short');
      const taken = rest.subarray(0, length);
      rest = rest.subarray(length);
      return taken;
    };
    for (const token of this.messages.shift()) this.readToken(token, take);
    return this.decryptAndHash(rest);
  }

  /** */
  finish() {
    const [k1, k2, x] = hkdf(this.ck, EMPTY, 3);
    return { h: this.h, k1, k2, x };
  }

  writeToken(token) {
    switch (token) {
      case 'e':
        return this.mixEphemeral(this.e.public);
      case 's':
        return this.encryptAndHash(this.s.public);
      case 'e1':
        this.kem = ml_kem768.keygen(this.kemSeed);
        return this.encryptAndHash(this.kem.publicKey);
      case 'ekem1': {
        // the library's encapsulation makes the modulus check, and throws.
        const { cipherText, sharedSecret } = ml_kem768.encapsulate(this.remoteKem, this.kemRandom);
        const sealed = this.encryptAndHash(cipherText);
        this.mixKey(sharedSecret);
        return sealed;
      }
      default:
        return this.mixToken(token);
    }
  }

  readToken(token, take) {
    const tag = this.k ? TAG : 0;
    switch (token) {
      case 'e':
        this.remoteE = this.mixEphemeral(take(PUBLIC));
        break;
      case 's':
        this.remoteS = this.decryptAndHash(take(PUBLIC + tag));
        break;
      case 'e1':
        this.remoteKem = this.decryptAndHash(take(KEM_PUBLIC + tag));
        break;
      case 'ekem1':
        // a wrong ciphertext gives another secret, and the next tag fails.
        this.mixKey(ml_kem768.decapsulate(this.decryptAndHash(take(KEM_CIPHERTEXT + tag)), this.kem.secretKey));
        this.kem = undefined;
        break;
      default:
        this.mixToken(token);
    }
  }

  /** The tokens that write nothing. */
  mixToken(token) {
    if (token === 'psk') this.mixKeyAndHash(this.psks.shift());
    else if (token === 'ee') this.mixKey(dh(this.e, this.remoteE));
    else if ((token === 'es') === this.initiator) this.mixKey(dh(this.e, this.remoteS));
    else this.mixKey(dh(this.s, this.remoteE));
    return EMPTY;
  }

  /** with a psk, every e is mixed into the key as well. */
  mixEphemeral(e) {
    this.mixHash(e);
    if (this.mixesE) this.mixKey(e);
    return e;
  }

  mixHash(data) {
    this.h = sha256(concat(this.h, data));
  }

  mixKey(data) {
    [this.ck, this.k] = hkdf(this.ck, data, 2);
    this.n = 0;
  }

  mixKeyAndHash(data) {
    let t;
    [this.ck, t, this.k] = hkdf(this.ck, data, 3);
    this.n = 0;
    this.mixHash(t);
  }

  encryptAndHash(plaintext) {
    const out = this.k ? chacha20poly1305(this.k, nonce(this.n++), this.h).encrypt(plaintext) : plaintext;
    this.mixHash(out);
    return out;
  }

  decryptAndHash(data) {
    const out = this.k ? chacha20poly1305(this.k, nonce(this.n++), this.h).decrypt(data) : data;
    this.mixHash(data);
    return out;
  }
}
