// Two endpoints with a server and a link between them, both in memory and both under the scenario's hand.
import assert from 'node:assert/strict';

const hexPair = (byte) => byte.toString(16).padStart(2, '0').toUpperCase();
/** A certificate's fingerprint; there is no certificate. */
export const fingerprint = (byte) => Array(32).fill(hexPair(byte)).join(':');

export const candidate = (port) => `candidate:1 1 udp 2113937151 127.0.0.1 ${port} typ host`;

export class World {
  /** `left` and `right` have `ep` (hex), `fingerprint` and `handle(input)`, which gives outputs or a promise of them. */
  constructor(left, right) {
    this.sides = [left, right].map((peer) => ({ peer, events: [], sent: [], described: undefined }));
    [this.left, this.right] = this.sides;
    this.queue = [];
    this.isOpen = false;
    /** A candidate that both find after their descriptions, just before the link opens. */
    this.late = undefined;
    /** `left` or `right`: only there the link opens by itself. */
    this.openFirst = undefined;
    /** Called with (side, output) for each blob and frame; what it returns is delivered instead, `undefined` drops it. */
    this.tamper = (side, output) => output;
  }

  other = (side) => (side === this.left ? this.right : this.left);

  /** Both join; the right one is there already. */
  async meet() {
    await this.input(this.left, { do: 'meet', ep: this.right.peer.ep });
    await this.input(this.right, { do: 'meet', ep: this.left.peer.ep });
  }

  /** Gives an input and delivers everything that follows from it. */
  async input(side, input) {
    this.queue.push([side, input]);
    while (this.queue.length > 0) {
      const [next, one] = this.queue.shift();
      for (const output of await next.peer.handle(one)) this.route(next, output);
    }
  }

  route(side, output) {
    const other = this.other(side);
    if (output.event) side.events.push(output);
    else if (output.candidate) side.events.push({ event: 'candidate', candidate: output.candidate });
    else if (output.described) this.describe(side, output.described);
    else if (output.closeLink) this.queue.push([other, { do: 'lost' }]);
    else if (output.blob || output.frame) {
      side.sent.push(output);
      const delivered = this.tamper(side, output);
      if (delivered) this.deliver(side, delivered);
    }
  }

  deliver(side, { blob, ch, frame }) {
    const input = blob ? { do: 'blob', from: side.peer.ep, blob } : { do: 'frame', ch, frame };
    this.queue.push([this.other(side), input]);
  }

  /** The link opens once both ends have both descriptions. */
  describe(side, fingerprint) {
    side.described = fingerprint;
    if (this.isOpen || !this.sides.every((one) => one.described)) return;
    this.isOpen = true;
    for (const one of this.late ? this.sides : []) this.queue.push([one, { do: 'candidate', candidate: this.late }]);
    for (const one of this.openFirst ? [this[this.openFirst]] : this.sides) this.open(one);
  }

  open(side) {
    this.queue.push([side, { do: 'open', fingerprint: this.other(side).peer.fingerprint }]);
  }

  /** Time goes on for both. */
  async pass(ms) {
    for (const side of this.sides) await this.input(side, { do: 'pass', ms });
  }

  end() {
    for (const { peer } of this.sides) peer.end?.();
  }

  /** Everything of one name that happened at a side, oldest first. */
  events = (side, name) => side.events.filter(({ event }) => event === name);

  happened(side, name, times = 1) {
    assert.equal(this.events(side, name).length, times, `${name} at ${side.peer.name}: ${JSON.stringify(side.events)}`);
    return this.events(side, name).at(-1);
  }

  /** The bodies of the messages that a side took. */
  taken = (side) => this.events(side, 'message').map(({ body }) => body);
}
