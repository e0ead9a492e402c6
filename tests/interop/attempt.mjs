// One handshake with one peer, from HS1 to the secrets of the Session (docs/protocol.md §6 to §8). Blobs in, outputs out.
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { concat, equal, less } from './bytes.mjs';
import { P } from './keys.mjs';
import { Handshake, nonce } from './noise.mjs';
import * as rec from './records.mjs';

const { HS1, HS2, HS3, SIG, OPEN, PAIRED } = rec;
const NAMES = {
  [OPEN]: 'Noise_XXhfs_25519+MLKEM768_ChaChaPoly_SHA256',
  [PAIRED]: 'Noise_XXhfs+psk0_25519+MLKEM768_ChaChaPoly_SHA256',
};

export class Attempt {
  /** `own`: see Endpoint. `emit` takes outputs. */
  constructor(own, peerEp, emit) {
    if (equal(own.ep, peerEp)) throw new Error('the same ep');
    Object.assign(this, { own, peerEp, emit });
    this.initiator = less(own.ep, peerEp);
    const [i, r] = this.initiator ? [own.ep, peerEp] : [peerEp, own.ep];
    const prologue = concat(P, Uint8Array.of(own.mode), own.room, i, r, own.pskId);
    const psks = own.psk ? [own.psk] : [];
    this.noise = new Handshake(NAMES[own.mode], { initiator: this.initiator, prologue, s: own.identity, psks });
    this.expects = this.initiator ? HS2 : HS1;
    this.sent = 0;
    this.next = 0;
    this.candidates = 0;
    /** Candidates found before SIG could carry them. */
    this.found = [];
    /** Candidates that go to the ICE agent once R-93 allows. */
    this.early = [];
  }

  /** the first word of an initiator. */
  start() {
    const payload = this.own.mode === PAIRED ? { ...this.offer(), candidates: this.own.candidates } : {};
    this.post(rec.hs1Blob(this.own.mode, this.own.pskId, this.noise.write(this.payload(HS1, payload)), this.own.version));
  }

  handle(blob) {
    let parsed;
    try {
      parsed = rec.parseBlob(blob);
    } catch {
      return;
    }
    if (parsed.kind === rec.REJECT) this.emit({ event: 'rejected', code: parsed.code });
    else if (parsed.kind === SIG) this.readSig(parsed);
    else if (parsed.kind === this.expects) this.step(parsed);
  }

  step(parsed) {
    if (parsed.kind === HS1) {
      if (parsed.version !== 1) return this.post(rec.rejectBlob(rec.CODE.version));
      const known = parsed.mode === this.own.mode && equal(parsed.pskId, this.own.pskId);
      if (!known) return this.post(rec.rejectBlob(rec.CODE.unknownPsk));
    }
    this.expects = undefined; // used up, whatever comes of it
    try {
      this[{ [HS1]: 'onHs1', [HS2]: 'onHs2', [HS3]: 'onHs3' }[parsed.kind]](parsed.message);
    } catch (error) {
      this.fail(error.message);
    }
  }

  onHs1(message) {
    const records = this.read(HS1, message);
    const paired = this.own.mode === PAIRED;
    if (paired) this.meet(records);
    this.early = records.candidates;
    const answer = paired ? { answer: this.sdp('active'), candidates: this.own.candidates } : {};
    this.post(rec.hsBlob(HS2, this.noise.write(this.payload(HS2, { ...this.about(), ...answer }))));
    this.expects = HS3;
  }

  onHs2(message) {
    const records = this.read(HS2, message);
    this.meet(records);
    this.checkKey();
    const rest = this.own.mode === PAIRED ? {} : { ...this.offer(), candidates: this.own.candidates };
    const hs3 = this.noise.write(this.payload(HS3, rest));
    this.complete();
    this.post(rec.hsBlob(HS3, hs3));
    this.trickle();
    this.takeCandidates(records.candidates);
  }

  onHs3(message) {
    const records = this.read(HS3, message);
    if (this.own.mode === OPEN) this.meet(records);
    this.checkKey();
    this.complete();
    if (this.own.mode === OPEN) this.sendSig({ answer: this.sdp('active'), candidates: this.own.candidates });
    this.trickle();
    this.takeCandidates([...this.early, ...records.candidates]);
  }

  /** CAPS, CHANNELS and the description of the peer, as far as this message brings them. */
  meet({ caps, channels, offer, answer }) {
    if (caps) {
      // R-98, for version 1.
      if (Math.min(caps.maxVersion, this.own.caps.maxVersion) !== 1) throw new Error('Downgrade');
      this.peerCaps = caps;
      this.live = rec.liveChannels(this.own.channels, channels);
    }
    if (offer ?? answer) {
      this.peerSdp = rec.readSdp(offer ?? answer, offer ? 'actpass' : 'active');
      this.emit({ described: this.peerSdp.fingerprint });
    }
  }

  /** The policy of this side accepts every key that is not ruled out. */
  checkKey() {
    const key = this.noise.remoteS;
    if (equal(key, this.own.identity.public)) throw new Error('the same static key');
    if (this.own.expectedKey && !equal(key, this.own.expectedKey)) throw new Error('another key than expected');
  }

  complete() {
    this.end = this.noise.finish();
    const { k1, k2 } = this.end;
    [this.sendKey, this.receiveKey] = this.initiator ? [k1, k2] : [k2, k1];
    this.emit({ complete: true });
  }

  /** A candidate that was found after the description was sent. */
  find(candidate) {
    this.found.push(candidate);
    this.trickle();
  }

  trickle() {
    if (this.sendKey && this.found.length > 0) this.sendSig({ candidates: this.found.splice(0) });
  }

  /** */
  sendSig(records) {
    const sealed = chacha20poly1305(this.sendKey, nonce(this.sent)).encrypt(this.payload(SIG, records));
    this.post(rec.sigBlob(this.sent++, sealed));
  }

  readSig({ n, ciphertext }) {
    if (!this.receiveKey || n < this.next || n >= 2 ** 32) return;
    let plaintext;
    try {
      plaintext = chacha20poly1305(this.receiveKey, nonce(n)).decrypt(ciphertext);
    } catch {
      return;
    }
    this.next = n + 1;
    try {
      const records = this.decode(SIG, plaintext);
      if (records.bye !== undefined) return this.emit({ event: 'refused', code: records.bye });
      if (records.answer !== undefined && (!this.initiator || this.peerSdp)) throw new Error('ANSWER out of place');
      this.meet(records);
      this.takeCandidates(records.candidates);
    } catch (error) {
      this.fail(error.message);
    }
  }

  /** candidates count when they come, whatever becomes of them. */
  decode(place, payload) {
    const records = rec.decodePayload(place, this.own.mode, payload);
    this.candidates += records.candidates.length;
    if (this.candidates > 64) throw new Error('too many candidates');
    return records;
  }

  takeCandidates(candidates) {
    for (const candidate of candidates) this.emit({ candidate });
  }

  /** */
  established() {
    this.sendKey = this.receiveKey = undefined;
  }

  /** nothing is sent. */
  fail(reason) {
    this.noise = this.end = this.expects = this.sendKey = this.receiveKey = undefined;
    this.emit({ event: 'failed', reason });
  }

  read = (place, message) => this.decode(place, this.noise.read(message));
  payload = (place, records) => this.own.forge(rec.encodePayload(place, this.own.mode, records), place);
  post = (blob) => this.emit({ to: this.peerEp, blob });
  about = () => ({ caps: this.own.caps, channels: this.own.channels });
  offer = () => ({ ...this.about(), offer: this.sdp('actpass') });
  sdp = (setup) => this.own.forgeSdp(rec.makeSdp(setup, this.own.fingerprint, this.own.maxMessageSize));
}
