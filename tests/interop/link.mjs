// One link of reliable channels: frames, control, delivery and rekeying (docs/protocol.md §10 to §14).
import { concat, Reader, text, toHex, uint, utf8 } from './bytes.mjs';
import { chains, epochKeys, frameHeader, openFrame, P, sealFrame } from './keys.mjs';
import { Handshake } from './noise.mjs';
import { RELIABLE } from './records.mjs';

export const KIND = {
  data: 0x01, part: 0x02, batch: 0x03, ready: 0x10, readyOk: 0x11, ack: 0x12, ping: 0x13, pong: 0x14,
  rekeyReq: 0x15, rekey1: 0x16, rekey2: 0x17, epoch: 0x18, close: 0x19, dummy: 0x7f,
};
const NAME = Object.fromEntries(Object.entries(KIND).map(([name, kind]) => [kind, name]));
/** SAS and PAIR are not spoken here; frames of the right length are ignored. */
const IGNORED = { 0x20: 0, 0x21: 32, 0x22: 32, 0x23: 32, 0x28: 0, 0x29: 0 };
const REKEY = 'Noise_NNhfs+psk0_25519+MLKEM768_ChaChaPoly_SHA256';
const EMPTY = new Uint8Array();

/** The first rule that the peer broke; fatal. */
class Fatal extends Error {}
const check = (holds, what) => {
  if (!holds) throw new Fatal(what);
};

export class Link {
  /** `attempt` has completed; `emit` takes outputs. */
  constructor(attempt, emit) {
    const { own, peerCaps, peerSdp, live, initiator, end } = attempt;
    Object.assign(this, { initiator, emit, now: 0, peer: attempt.noise.remoteS });
    this.ownCaps = own.caps;
    this.maxFrame = Math.min(peerCaps.maxFrame, peerSdp.maxMessageSize);
    this.maxMessage = Math.min(peerCaps.maxMessage, own.caps.maxMessage);
    this.window = peerCaps.window;
    this.live = live.filter(({ kind }) => kind === RELIABLE).map(({ ch }) => ch);
    const start = () => ({ sent: 0, acked: 0, costs: [], taken: 0, told: 0, parts: [] });
    this.channels = Object.fromEntries(this.live.map((ch) => [ch, start()]));
    this.has = {};
    this.receive = {};
    this.derived = this.derive(0, end);
    this.switchSending();
    for (const ch of [0, ...this.live]) this.receive[ch] = { epoch: 0, chain: this.derived.in[ch] };
  }

  // Sending.

  /** */
  open() {
    const entries = this.live.map((ch) => concat(Uint8Array.of(ch), uint(0, 6)));
    this.send(0, KIND.ready, concat(Uint8Array.of(entries.length), ...entries, Uint8Array.of(0)));
  }

  send(ch, kind, body = EMPTY) {
    if (this.has.sentClose) throw new Error('nothing follows a CLOSE');
    const frame = sealFrame(this.sending.out[ch].next(), this.sending.epoch, kind, body, this.maxFrame);
    this.emit({ ch, frame });
  }

  /** several bodies travel as one batch, one that does not fit as parts. */
  message(ch, ...bodies) {
    const own = this.channels[ch];
    if (!this.has.established) throw new Error('not established');
    for (const body of bodies) {
      if (body.length > this.maxMessage) throw new Error('message too long');
      own.costs.push(body.length + 64);
      own.sent += 1;
    }
    if (own.costs.reduce((sum, cost) => sum + cost, 0) > this.window) throw new Error('window full');
    if (bodies.length > 1) {
      return this.send(ch, KIND.batch, concat(...bodies.flatMap((body) => [uint(body.length, 2), body])));
    }
    let rest = bodies[0];
    for (const room = this.maxFrame - 25; rest.length > room; rest = rest.subarray(room)) {
      this.send(ch, KIND.part, rest.subarray(0, room));
    }
    this.send(ch, KIND.data, rest);
  }

  close(code, reason = '') {
    this.pending = this.held = undefined;
    this.send(0, KIND.close, concat(Uint8Array.of(code), utf8(reason)));
    this.has.sentClose = true;
  }

  // Receiving.

  /** the tag comes before every change. */
  handle(ch, frame) {
    if (this.has.failed) return;
    try {
      this.process(ch, frame);
    } catch (error) {
      this.has.failed = true;
      this.emit({ event: 'failed', reason: error.message });
    }
  }

  process(ch, frame) {
    check(ch === 0 || this.live.includes(ch), 'channel is not live');
    check(ch === 0 || this.has.ready, 'a frame before READY');
    check(ch !== 0 || !this.has.closed, 'a frame after CLOSE');
    const { kind, body } = this.unseal(ch, frame);
    const { epoch, seq } = frameHeader(frame);
    //
    check((kind === KIND.epoch) === (epoch > 0 && seq === 0), 'EPOCH out of place');
    if (ch === 0 && this.has.ready && body.length === IGNORED[kind]) return;
    const name = NAME[kind];
    check(name, 'unknown kind');
    const data = ['data', 'part', 'batch'].includes(name);
    check(name === 'dummy' || name === 'epoch' || data === (ch > 0), 'kind on the wrong channel');
    if (ch === 0) {
      check((name === 'ready') === !this.has.ready, 'READY is the first frame, once');
    }
    if (this.has.sentClose && !data && name !== 'ack' && name !== 'close') return;
    if (data) this.onData(ch, name, body);
    else if (name !== 'dummy') this[`on_${name}`](body);
  }

  /** exactly the next frame of the channel. */
  unseal(ch, frame) {
    const state = this.receive[ch];
    const { epoch, seq } = frameHeader(frame);
    if (epoch === state.epoch) {
      check(seq === state.chain.seq, 'not the next frame');
      return openFrame(state.chain.next().key, frame, this.ownCaps.maxFrame);
    }
    check(epoch === state.epoch + 1 && seq === 0 && this.derived.epoch === epoch, 'epoch');
    const chain = this.derived.in[ch];
    const opened = openFrame(chain.next().key, frame, this.ownCaps.maxFrame);
    this.receive[ch] = { epoch, chain };
    this.onNewEpoch();
    return opened;
  }

  /** */
  on_ready(body) {
    const reader = new Reader(body);
    check(reader.uint(1) === this.live.length, 'READY does not name the live channels');
    for (const ch of this.live) {
      check(reader.uint(1) === ch, 'READY does not name the live channels in order');
      check(reader.uint(6) === 0, 'READY took what was not sent');
    }
    const history = reader.uint(1);
    check(history <= 1, 'READY');
    if (history === 1) reader.take(1 + 8 + 32 + 8 + 32); // this side has none, so there is none
    reader.end();
    this.has.ready = true;
    this.send(0, KIND.readyOk);
  }

  on_readyOk(body) {
    check(body.length === 0 && !this.has.established, 'READY_OK');
    this.has.established = true;
    this.emit({ event: 'established', peer: this.peer });
  }

  /** this side takes every message at once. */
  onData(ch, name, body) {
    const { parts } = this.channels[ch];
    if (name === 'batch') {
      check(parts.length === 0, 'a batch within a split message');
      const reader = new Reader(body);
      let count = 0;
      for (; reader.rest.length > 0; count += 1) this.take(ch, reader.take(reader.uint(2)));
      check(count >= 2, 'a batch of fewer than two');
    } else {
      check(name === 'data' || body.length > 0, 'an empty part');
      parts.push(body);
      check(parts.reduce((sum, part) => sum + part.length, 0) <= this.maxMessage, 'message too long');
      if (name === 'data') this.take(ch, concat(...parts.splice(0)));
    }
    this.acknowledge();
  }

  take(ch, body) {
    check(body.length <= this.maxMessage, 'message too long');
    this.channels[ch].taken += 1;
    this.emit({ event: 'message', ch, body: toHex(body) });
  }

  acknowledge() {
    if (this.has.sentClose || !this.has.established) return;
    for (const ch of this.live) {
      const own = this.channels[ch];
      if (own.taken > own.told) this.send(0, KIND.ack, concat(Uint8Array.of(ch), uint((own.told = own.taken), 6)));
    }
  }

  /** */
  on_ack(body) {
    const reader = new Reader(body);
    const [ch, next] = [reader.uint(1), reader.uint(6)];
    reader.end();
    const own = this.channels[ch];
    check(own && next >= own.acked && next <= own.sent, 'ACK of what was not sent');
    own.costs.splice(0, next - own.acked);
    own.acked = next;
    this.emit({ event: 'acked', ch, next });
  }

  /** This side does not ask often enough for R-149. */
  on_ping(body) {
    check(body.length === 8, 'length of PING');
    this.emit({ event: 'pinged' });
    this.send(0, KIND.pong, body);
  }

  on_pong(body) {
    check(body.length === 8, 'length of PONG');
    this.emit({ event: 'pong', body: toHex(body) });
  }

  /** */
  on_close(body) {
    check(body.length >= 1 && body.length <= 129, 'length of CLOSE');
    const reason = text(body.subarray(1));
    const code = body[0] <= 6 || (body[0] >= 0x40 && body[0] <= 0x7f) ? body[0] : 1; // §12.4
    this.has.closed = true;
    if (!this.has.sentClose) {
      this.acknowledge();
      this.close(code);
    }
    this.emit({ event: 'closed', code, reason });
  }

  // Rekeying.

  /** §9: the chains of one epoch, both ways. */
  derive(epoch, end) {
    const { i2r, r2i, rekeyPsk } = epochKeys(end);
    const [out, into] = this.initiator ? [i2r, r2i] : [r2i, i2r];
    return { epoch, h: end.h, rekeyPsk, out: chains(out), in: chains(into) };
  }

  /** The host asks. */
  rekey() {
    if (this.initiator) this.wish = true;
    else if (this.sending.epoch === this.derived.epoch) this.request();
    else this.wish = true;
    this.startRekey();
  }

  request() {
    this.wish = false;
    if (this.requested === this.sending.epoch) return;
    this.requested = this.sending.epoch;
    this.send(0, KIND.rekeyReq);
  }

  on_rekeyReq(body) {
    check(this.initiator && body.length === 0, 'REKEY_REQ');
    if (!this.pending) this.wish = true;
    this.startRekey();
  }

  /** Time went on: a wish that waited for its second may be due. */
  pass(ms) {
    this.now += ms;
    this.startRekey();
  }

  startRekey() {
    const waits = this.now - (this.lastRekey ?? -Infinity) < 1_000;
    if (!this.initiator || !this.wish || this.pending || waits || !this.allAt(this.derived.epoch)) return;
    this.wish = false;
    this.lastRekey = this.now;
    this.pending = this.noise();
    this.send(0, KIND.rekey1, this.pending.write());
  }

  /** */
  noise() {
    const { epoch, h, rekeyPsk } = this.derived;
    const prologue = concat(P, utf8(' rekey'), uint(epoch + 1, 2), h);
    return new Handshake(REKEY, { initiator: this.initiator, prologue, psks: [rekeyPsk] });
  }

  /** Whether every channel receives under `epoch`, so that the one before is retired (R-180; no lossy channels here). */
  allAt = (epoch) => Object.values(this.receive).every((state) => state.epoch === epoch);

  on_rekey1(body) {
    check(!this.initiator && body.length === 1_248, 'REKEY1');
    check(this.derived.epoch === this.receive[0].epoch && !this.held, 'REKEY1 out of place');
    this.held = body;
    this.answerRekey();
  }

  /** */
  answerRekey() {
    if (!this.held || !this.allAt(this.derived.epoch)) return;
    const noise = this.noise();
    check(noise.read(this.held).length === 0, 'payload of REKEY1');
    this.held = undefined;
    this.send(0, KIND.rekey2, noise.write());
    this.derived = this.derive(this.derived.epoch + 1, noise.finish());
  }

  /** */
  on_rekey2(body) {
    check(this.pending && body.length === 1_152, 'REKEY2');
    check(this.pending.read(body).length === 0, 'payload of REKEY2');
    this.derived = this.derive(this.derived.epoch + 1, this.pending.finish());
    this.pending = undefined;
    this.switchEpoch();
  }

  /** EPOCH first, on every channel, channel 0 first. */
  switchEpoch() {
    this.switchSending();
    for (const ch of [0, ...this.live]) this.send(ch, KIND.epoch);
  }

  switchSending() {
    const { epoch, out } = this.derived;
    this.sending = { epoch, out };
  }

  on_epoch(body) {
    check(body.length === 0, 'EPOCH');
  }

  /** The first frame of a new epoch opened on some channel. */
  onNewEpoch() {
    const { epoch } = this.derived;
    if (Object.values(this.receive).filter((state) => state.epoch === epoch).length === 1) {
      if (this.sending.epoch !== epoch && !this.has.sentClose) this.switchEpoch();
      this.emit({ event: 'rekeyed', epoch });
      if (!this.initiator && this.wish) this.request();
    }
    this.startRekey();
    if (!this.has.sentClose) this.answerRekey();
  }
}
