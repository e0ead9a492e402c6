// node run.mjs [the built example interop_stdio]: the vectors, then every scenario of this implementation with the crate
// behind the example, or with itself where none is given. The exit code is 0 when all passed.
import { randomBytes } from 'node:crypto';
import { toHex, uint } from './bytes.mjs';
import { Endpoint } from './endpoint.mjs';
import { formatInvite, openRoom, pairing, parseInvite } from './keys.mjs';
import { generateKeyPair } from './noise.mjs';
import { Peer } from './peer.mjs';
import { DEFAULT_CAPS, DEFAULT_CHANNELS, OPEN, PAIRED } from './records.mjs';
import { scenarios } from './scenarios.mjs';
import { vectors } from './vectors.mjs';
import { violations } from './violations.mjs';
import { candidate, fingerprint, World } from './world.mjs';

const ROOM = 'a room';
const SERVER = 'ws://127.0.0.1:8080';
const CANDIDATES = [candidate(1), candidate(2)];
const program = process.argv[2];

/** One endpoint of this implementation. */
function ours(name, own) {
  const endpoint = new Endpoint(own);
  const facts = { name, ep: toHex(own.ep), key: toHex(own.identity.public), fingerprint: own.fingerprint };
  return { ...facts, handle: (input) => endpoint.handle(input) };
}

/** What an endpoint of this implementation needs to know to meet. `invite` is a text. */
function meeting(mode, identity, invite) {
  if (mode === OPEN) return { mode, room: openRoom(ROOM), pskId: new Uint8Array(16) };
  const { secret, inviter } = parseInvite(invite);
  const expectedKey = toHex(identity.public) === toHex(inviter) ? undefined : inviter;
  return { mode, ...pairing('invite', secret, inviter), expectedKey };
}

function own(place, ep, mode, identity, invite) {
  const about = { caps: DEFAULT_CAPS, channels: DEFAULT_CHANNELS, fingerprint: fingerprint(place), candidates: CANDIDATES };
  const honest = { version: 1, forge: (payload) => payload, forgeSdp: (sdp) => sdp };
  return { ep, identity, ...honest, ...about, ...meeting(mode, identity, invite) };
}

/** The right side, the invite if there is one, and the room that the right side is in. */
async function makeRight(withCrate, { mode, inviter, impostor }, identity) {
  const issue = (from) => formatInvite({ secret: randomBytes(32), inviter: from.public, expiry: 0, relayUrl: SERVER });
  const start = { fingerprint: fingerprint(2), candidates: CANDIDATES };
  const ep = randomBytes(16);
  let invite = mode === PAIRED ? issue(impostor ? generateKeyPair() : identity) : undefined;
  if (!withCrate) {
    const right = generateKeyPair();
    if (inviter === 'right') invite = issue(right);
    return { right: ours('right', own(2, ep, mode, right, invite)), invite };
  }
  if (mode === OPEN) return { right: await Peer.start(program, { meeting: 'open', room: ROOM, ...start }) };
  if (inviter === 'right') {
    const right = await Peer.start(program, { meeting: 'invite', server: SERVER, ...start });
    return { right, invite: right.invite };
  }
  return { right: await Peer.start(program, { meeting: 'redeem', invite, ...start }), invite };
}

/** The world of a scenario: `role` and `left`, which overrides settings, are this side's. */
async function make(withCrate, { mode, role, inviter = 'left', impostor, left = {} }) {
  const identity = generateKeyPair();
  const { right, invite } = await makeRight(withCrate, { mode, inviter, impostor }, identity);
  // The next smaller or larger endpoint id decides the role.
  const ep = uint(BigInt(`0x${right.ep}`) + (role === 'initiator' ? -1n : 1n), 16);
  const settings = own(1, ep, mode, identity, invite);
  if (right.room && right.room !== toHex(settings.room)) throw new Error('the rooms differ');
  return new World(ours('left', { ...settings, ...left }), right);
}

let failures = 0;
async function check(name, run) {
  try {
    await run();
    console.log(`ok    ${name}`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL  ${name}\n${error.stack}`);
  }
}

async function play(name, scenario, withCrate) {
  const worlds = [];
  const collect = async (options) => {
    worlds.push(await make(withCrate, options));
    return worlds.at(-1);
  };
  await check(`${withCrate ? 'crate' : 'itself'}: ${name}`, () => scenario(collect));
  for (const world of worlds) world.end();
}

for (const [name, run] of Object.entries(vectors)) await check(name, run);
for (const [name, scenario] of Object.entries({ ...scenarios, ...violations })) await play(name, scenario, program !== undefined);
console.log(failures > 0 ? `${failures} failed` : 'all passed');
process.exitCode = failures > 0 ? 1 : 0;
