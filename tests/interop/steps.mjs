// What most scenarios have in common.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { OPEN, PAIRED } from './records.mjs';

export const hex = (text) => Buffer.from(text).toString('hex');
export const flip = (bytes, at) => {
  const flipped = Buffer.from(bytes, 'hex');
  flipped[at] ^= 1;
  return flipped.toString('hex');
};
export const kindOf = (blob) => parseInt(blob.slice(0, 2), 16);
export const blobs = (side) => side.sent.filter(({ blob }) => blob).map(({ blob }) => blob);

/** Both modes, invites of either side, and this side with the smaller and the larger endpoint id. */
export const SETTINGS = [
  { mode: OPEN, inviter: undefined, what: 'open' },
  { mode: PAIRED, inviter: 'left', what: 'own invite' },
  { mode: PAIRED, inviter: 'right', what: 'peer\'s invite' },
].flatMap((setting) => ['initiator', 'responder'].map((role) => ({ ...setting, role })));
export const MODES = { [OPEN]: 'open', [PAIRED]: 'invite' };

export async function established(world) {
  await world.meet();
  for (const side of world.sides) world.happened(side, 'established');
  return world;
}

export async function send(world, from, bodies) {
  const to = world.other(from);
  const before = world.taken(to).length;
  await world.input(from, { do: 'send', ch: 1, bodies });
  assert.deepEqual(world.taken(to).slice(before), bodies);
}

export function neverEstablished(world, what) {
  for (const side of world.sides) assert.deepEqual(world.events(side, 'established'), [], what);
}

/** Messages both ways, and everything acknowledged. */
export async function talk(world) {
  for (const from of world.sides) {
    await send(world, from, [hex('hello')]);
    await send(world, from, ['']);
    const frames = () => from.sent.filter(({ ch }) => ch === 1).length;
    const before = frames();
    await send(world, from, [hex('one'), '', hex('three')]);
    assert.equal(frames(), before + 1, 'a batch');
    await send(world, from, [randomBytes(100_000).toString('hex')]);
  }
  await world.pass(200);
  for (const side of world.sides) {
    assert.equal(world.events(side, 'acked').at(-1).next, world.taken(world.other(side)).length);
    assert.deepEqual(world.events(side, 'failed'), []);
  }
}
