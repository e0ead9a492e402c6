// The endpoint of the crate behind the example `interop_stdio`, with the same face as `Endpoint`.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Peer {
  /** `start` is the first command; `null` is resolved for a program that ended. */
  static async start(program, start) {
    const peer = new Peer(spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] }));
    const answer = await peer.ask({ do: 'start', ...start });
    const facts = Object.assign({}, ...answer);
    return Object.assign(peer, { name: 'crate', fingerprint: start.fingerprint, ...facts });
  }

  constructor(child) {
    this.child = child;
    this.lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  handle = (input) => this.ask(input);

  async ask(command) {
    this.child.stdin.write(`${JSON.stringify(command)}\n`);
    const { value, done } = await this.lines.next();
    if (done) throw new Error('the example ended');
    return JSON.parse(value);
  }

  end() {
    this.child.stdin.end();
  }
}
