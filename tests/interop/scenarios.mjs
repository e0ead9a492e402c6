// What works between two endpoints. Each scenario gets `make(options)`, which gives a world whose left side is this
// implementation; the right one is the crate, or this implementation again.
import assert from 'node:assert/strict';
import { KIND } from './link.mjs';
import { DEFAULT_CAPS, HS3, OPEN, PAIRED } from './records.mjs';
import { established, hex, kindOf, send, SETTINGS, talk } from './steps.mjs';
import { candidate } from './world.mjs';

async function session(make, setting) {
  const world = await make(setting);
  world.late = candidate(3);
  await established(world);
  for (const side of world.sides) {
    assert.equal(world.happened(side, 'established').peer, world.other(side).peer.key);
    const candidates = world.events(side, 'candidate').map((event) => event.candidate);
    assert.deepEqual(candidates, [1, 2, 3].map(candidate));
  }
  await talk(world);
  await world.input(world.left, { do: 'raw', ch: 0, kind: KIND.ping, body: '0102030405060708' });
  assert.equal(world.happened(world.left, 'pong').body, '0102030405060708');
  // the crate asks after 5 s of silence; this implementation only answers.
  await world.pass(5_000);
  if (world.right.peer.name === 'crate') world.happened(world.left, 'pinged');
  return world;
}

export const scenarios = {};
for (const setting of SETTINGS) {
  const name = `${setting.what}, as ${setting.role}`;

  scenarios[`${name}: session, closed here`] = async (make) => {
    const world = await session(make, setting);
    await world.input(world.left, { do: 'close', code: 0 });
    await world.pass(2_000);
    for (const side of world.sides) assert.equal(world.happened(side, 'closed').code, 0);
  };

  scenarios[`${name}: session, closed there`] = async (make) => {
    const world = await session(make, setting);
    // A code without a meaning counts as 1 (§12.4).
    const [sent, taken] = setting.mode === OPEN ? [0x41, 0x41] : [0x80, 1];
    await world.input(world.right, { do: 'close', code: sent });
    await world.pass(2_000);
    for (const side of world.sides) assert.equal(world.happened(side, 'closed').code, taken);
  };

  scenarios[`${name}: smallest frames`] = async (make) => {
    const world = await make({ ...setting, left: { caps: { ...DEFAULT_CAPS, maxFrame: 1_280 } } });
    await talk(await established(world));
    const longest = Math.max(...world.right.sent.map(({ frame = '' }) => frame.length / 2));
    assert.equal(longest, 1_280);
  };

  scenarios[`${name}: an SDP that limits messages`] = async (make) => {
    const world = await make({ ...setting, left: { maxMessageSize: 2_000 } });
    await talk(await established(world));
    const longest = Math.max(...world.right.sent.map(({ frame = '' }) => frame.length / 2));
    assert.equal(longest, 2_000);
  };

  for (const asker of ['here', 'there']) {
    scenarios[`${name}: rekey, asked for ${asker}`] = async (make) => {
      const world = await make(setting);
      await talk(await established(world));
      for (const epoch of [1, 2, 3]) {
        await world.pass(1_000);
        await world.input(asker === 'here' ? world.left : world.right, { do: 'rekey' });
        for (const side of world.sides) assert.equal(world.happened(side, 'rekeyed', epoch).epoch, epoch);
        await talk(world);
        const epochs = world.sides.map(({ sent }) => sent.at(-1).frame.slice(0, 4));
        assert.deepEqual(epochs, Array(2).fill(epoch.toString(16).padStart(4, '0')));
      }
      await world.input(world.left, { do: 'close', code: 0 });
      for (const side of world.sides) world.happened(side, 'closed');
    };
  }

  // Messages that are on their way while the epoch changes arrive, in order.
  scenarios[`${name}: rekey under traffic`] = async (make) => {
    const world = await make(setting);
    await established(world);
    let count = 0;
    const sent = { left: [], right: [] };
    world.tamper = (side, output) => {
      if (output.ch === 0 && count < 20) {
        for (const which of ['left', 'right']) {
          const body = hex(`${which} ${(count += 1)}`);
          sent[which].push(body);
          world.queue.push([world[which], { do: 'send', ch: 1, bodies: [body] }]);
        }
      }
      return output;
    };
    await world.input(world.left, { do: 'rekey' });
    for (const side of world.sides) world.happened(side, 'rekeyed');
    assert.deepEqual(world.taken(world.right), sent.left);
    assert.deepEqual(world.taken(world.left), sent.right);
  };

  for (const closer of ['left', 'right']) {
    scenarios[`${name}: a CLOSE while the epoch changes, from the ${closer}`] = async (make) => {
      for (const after of [1, 2]) {
        const world = await established(await make(setting));
        // After REKEY1, or after REKEY2, was sent.
        let seen = 0;
        world.tamper = (side, output) => {
          seen += 1;
          if (seen === after) world.queue.push([world[closer], { do: 'close', code: 0 }]);
          return output;
        };
        await world.input(setting.role === 'initiator' ? world.left : world.right, { do: 'rekey' });
        await world.pass(2_000);
        for (const side of world.sides) {
          assert.equal(world.happened(side, 'closed').code, 0);
          assert.deepEqual(world.events(side, 'failed'), []);
        }
      }
    };
  }

  if (setting.role === 'initiator') {
    // while this side's EPOCH on channel 1 is on its way, the next REKEY1 is not answered.
    scenarios[`${name}: REKEY1 waits until the old epoch is retired`] = async (make) => {
      const world = await established(await make(setting));
      const late = [];
      world.tamper = (side, output) => {
        if (side !== world.left || output.ch !== 1) return output;
        late.push(output);
        return undefined;
      };
      const sent = () => world.right.sent.filter(({ ch }) => ch === 0).length;
      await world.input(world.left, { do: 'rekey' });
      for (const side of world.sides) world.happened(side, 'rekeyed');
      await world.pass(1_000);
      const before = sent();
      await world.input(world.left, { do: 'rekey' });
      await world.input(world.left, { do: 'send', ch: 1, bodies: [hex('still in epoch 1')] });
      assert.equal(sent(), before, 'REKEY2 waits');
      world.tamper = (side, output) => output;
      for (const output of late) world.deliver(world.left, output);
      await world.pass(200);
      for (const side of world.sides) assert.equal(world.happened(side, 'rekeyed', 2).epoch, 2);
      assert.deepEqual(world.taken(world.right), [hex('still in epoch 1')]);
      await talk(world);
    };
  }
}

for (const role of ['initiator', 'responder']) {
  // one end sees the link open, and sends READY, before the other does.
  for (const first of ['left', 'right']) {
    scenarios[`invite, as ${role}: the link opens at the ${first} first`] = async (make) => {
      const world = await make({ mode: PAIRED, role });
      world.openFirst = first;
      world.tamper = (side, output) => {
        if (output.frame && world.openFirst) {
          world.deliver(side, output);
          world.openFirst = undefined;
          world.open(world.other(side));
          return undefined;
        }
        return output;
      };
      await talk(await established(world));
    };
  }

  // READY may be faster over the link than HS3 over the server.
  scenarios[`invite, as ${role}: READY overtakes HS3`] = async (make) => {
    const world = await make({ mode: PAIRED, role });
    let held;
    world.tamper = (side, output) => {
      if (output.blob && kindOf(output.blob) === HS3) {
        held = [side, output];
        return undefined;
      }
      if (held && output.frame) {
        world.deliver(side, output);
        world.deliver(...held);
        return undefined;
      }
      return output;
    };
    await talk(await established(world));
  };
}
