// One endpoint in one room with one peer: a handshake, then a link. Inputs in, a list of outputs out; no clock, no network.
// Bytes are hexadecimal at this face, because `peer.mjs` gives the endpoint of the crate the same one over JSON.
import { fromHex, toHex } from './bytes.mjs';
import { Attempt } from './attempt.mjs';
import { Link } from './link.mjs';

export class Endpoint {
  /**
   * `own`: `ep`, `identity` (a key pair), `mode`, `room`, `pskId` and with a pairing `psk`; `expectedKey`; `caps`,
   * `channels`; `fingerprint`, `maxMessageSize` and `candidates` of its descriptions; `version` of its HS1. `forge` and
   * `forgeSdp` may change what it sends.
   */
  constructor(own) {
    this.own = own;
    this.outputs = [];
  }

  handle(input) {
    this[`do_${input.do}`](input);
    return this.outputs.splice(0);
  }

  /** `welcome` or `joined`. */
  do_meet({ ep }) {
    const attempt = this.attemptWith(ep);
    if (attempt.initiator) attempt.start();
  }

  do_blob({ from, blob }) {
    this.attemptWith(from).handle(fromHex(blob));
  }

  do_candidate({ candidate }) {
    this.attempt.find(candidate);
  }

  /** Every channel is open. R-137: `fingerprint` is of the certificate that the link showed. */
  do_open({ fingerprint }) {
    this.shown = fingerprint;
    this.begin();
  }

  do_frame({ ch, frame }) {
    if (this.link) return this.link.handle(ch, fromHex(frame));
    //
    if (ch !== 0 || this.held) return this.emit({ event: 'failed', reason: 'frames before the handshake is complete' });
    this.held = frame;
  }

  do_send = ({ ch, bodies }) => this.link.message(ch, ...bodies.map(fromHex));
  do_raw = ({ ch, kind, body }) => this.link.send(ch, kind, fromHex(body));
  do_rekey = () => this.link.rekey();
  do_close = ({ code }) => this.link.close(code);
  do_lost = () => this.emit({ event: 'ended' });
  do_pass = ({ ms }) => this.link?.pass(ms);

  attemptWith(ep) {
    this.attempt ??= new Attempt(this.own, fromHex(ep), (output) => this.emit(output));
    return this.attempt;
  }

  /** the link begins when it is open, the handshake complete and the certificate compared. */
  begin() {
    const { end, peerSdp } = this.attempt;
    if (this.link || !this.shown || !end || !peerSdp) return;
    if (this.shown !== peerSdp.fingerprint) return this.emit({ event: 'failed', reason: 'fingerprint' });
    this.link = new Link(this.attempt, (output) => this.emit(output));
    this.link.open();
    if (this.held) this.link.handle(0, fromHex(this.held));
  }

  emit(output) {
    if (output.complete) return this.begin();
    if (output.event === 'established') this.attempt.established();
    const hex = Object.entries(output).map(([name, value]) => [name, value instanceof Uint8Array ? toHex(value) : value]);
    this.outputs.push(Object.fromEntries(hex));
  }
}
