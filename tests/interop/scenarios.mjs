// What the endpoints do with each other. Each scenario gets `make(options)`, which gives a world whose left side is this
// implementation; the right one is the crate, or this implementation again.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { KIND } from './link.mjs';
import { CODE, DEFAULT_CAPS, DEFAULT_CHANNELS, HS1, HS2, HS3, OPEN, PAIRED, SIG } from './records.mjs';
import { candidate, fingerprint } from './world.mjs';

const hex = (text) => Buffer.from(text).toString('hex');
const flip = (bytes, at) => {
  const flipped = Buffer.from(bytes, 'hex');
  flipped[at] ^= 1;
  return flipped.toString('hex');
};
const kindOf = (blob) => parseInt(blob.slice(0, 2), 16);
const blobs = (side) => side.sent.filter(({ blob }) => blob).map(({ blob }) => blob);

/** Both modes, and this side with the smaller and the larger endpoint id. */
const SETTINGS = [
  { mode: OPEN, inviter: undefined, what: 'open' },
  { mode: PAIRED, inviter: 'left', what: 'own invite' },
  { mode: PAIRED, inviter: 'right', what: 'peer\'s invite' },
].flatMap((setting) => ['initiator', 'responder'].map((role) => ({ ...setting, role })));
const MODES = { [OPEN]: 'open', [PAIRED]: 'invite' };

async function established(world) {
  await world.meet();
  for (const side of world.sides) world.happened(side, 'established');
  return world;
}

async function send(world, from, bodies) {
  const to = world.other(from);
  const before = world.taken(to).length;
  await world.input(from, { do: 'send', ch: 1, bodies });
  assert.deepEqual(world.taken(to).slice(before), bodies);
}

/** Messages both ways, and everything acknowledged. */
async function talk(world) {
  for (const from of world.sides) {
    await send(world, from, [hex('hello')]);
    await send(world, from, ['']);
    await send(world, from, [hex('one'), '', hex('three')]);
    await send(world, from, [randomBytes(100_000).toString('hex')]);
  }
  await world.pass(200);
  for (const side of world.sides) {
    assert.equal(world.events(side, 'acked').at(-1).next, world.taken(world.other(side)).length);
    assert.deepEqual(world.events(side, 'failed'), []);
  }
}

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
  return world;
}

const scenarios = {};
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

  // for a frame of the old epoch.
  for (const what of ['EPOCH again', 'a frame of the old epoch']) {
    scenarios[`${name}: ${what} after a rekey is fatal`] = async (make) => {
      const world = await established(await make(setting));
      await send(world, world.left, [hex('old')]);
      const old = world.left.sent.at(-1);
      await world.input(world.left, { do: 'rekey' });
      for (const side of world.sides) world.happened(side, 'rekeyed');
      if (what === 'EPOCH again') await world.input(world.left, { do: 'raw', ch: 1, kind: KIND.epoch, body: '' });
      else await world.input(world.right, { do: 'frame', ch: old.ch, frame: old.frame });
      world.happened(world.right, 'failed');
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

  for (const [what, kind] of [['HS1', HS1], ['HS2', HS2], ['HS3', HS3]]) {
    scenarios[`${name}: a changed byte in ${what}`] = async (make) => {
      // In an open HS1 everything is in clear: the change shows in HS2, to the initiator.
      const last = kind === HS1 && setting.mode === OPEN ? HS2 : kind;
      for (const part of [0.1, 0.5, 1]) {
        const world = await make(setting);
        world.tamper = (side, output) => {
          if (!output.blob || kindOf(output.blob) !== kind) return output;
          const skip = kind === HS1 ? 19 : 1;
          return { ...output, blob: flip(output.blob, Math.floor(skip + (output.blob.length / 2 - 1 - skip) * part)) };
        };
        await world.meet();
        await world.pass(5_000);
        for (const side of world.sides) assert.deepEqual(world.events(side, 'established'), []);
        const kinds = world.sides.flatMap((side) => blobs(side).map(kindOf));
        assert.deepEqual(kinds.sort(), [HS1, HS2, HS3].slice(0, last), 'nothing follows');
      }
    };
  }

  scenarios[`${name}: a changed SIG changes nothing`] = async (make) => {
    const world = await make(setting);
    let changed = 0;
    world.tamper = (side, output) => {
      if (!output.blob || kindOf(output.blob) !== SIG || changed > 8) return output;
      changed += 1;
      world.deliver(side, { blob: flip(output.blob, 100) });
      return output;
    };
    await established(world);
    await talk(world);
  };

  for (const [what, change] of [
    ['a changed byte', (frame) => flip(frame, 20)],
    ['another sequence number', (frame) => flip(frame, 7)],
    ['another epoch', (frame) => flip(frame, 1)],
    ['a byte less', (frame) => frame.slice(0, -2)],
  ]) {
    scenarios[`${name}: ${what} in a frame is fatal`] = async (make) => {
      for (const victim of ['left', 'right']) {
        const world = await established(await make(setting));
        const attacker = world.other(world[victim]);
        const before = world[victim].sent.length;
        world.tamper = (side, output) => (side === attacker ? { ...output, frame: change(output.frame) } : output);
        await world.input(attacker, { do: 'send', ch: 1, bodies: [hex('hello')] });
        world.happened(world[victim], 'failed');
        assert.deepEqual(world.taken(world[victim]), []);
        assert.equal(world[victim].sent.length, before, 'nothing is said about it');
      }
    };
  }

  scenarios[`${name}: a frame twice is fatal`] = async (make) => {
    const world = await established(await make(setting));
    world.tamper = (side, output) => {
      if (side === world.left) world.deliver(side, output);
      return output;
    };
    await world.input(world.left, { do: 'send', ch: 1, bodies: [hex('hello')] });
    world.happened(world.right, 'failed');
    assert.deepEqual(world.taken(world.right), [hex('hello')]);
  };
}

for (const mode of [OPEN, PAIRED]) {
  const silence = async (make, setting, answer) => {
    const world = await make({ mode, role: 'initiator', ...setting });
    await world.meet();
    const expected = answer === undefined ? [] : [`05${answer.toString(16).padStart(2, '0')}`];
    assert.deepEqual(blobs(world.right), expected);
    assert.deepEqual(world.events(world.right, 'established'), []);
  };

  scenarios[`${MODES[mode]}: another version is rejected`] = (make) => silence(make, { left: { version: 2 } }, CODE.version);

  scenarios[`${MODES[mode]}: another psk_id is rejected`] = (make) =>
    silence(make, { left: { pskId: Uint8Array.from({ length: 16 }, () => 7) } }, CODE.unknownPsk);

  scenarios[`${MODES[mode]}: the other mode is rejected`] = (make) =>
    silence(make, { left: { mode: mode === OPEN ? PAIRED : OPEN, psk: mode === OPEN ? new Uint8Array(32) : undefined } }, CODE.unknownPsk);

  scenarios[`${MODES[mode]}: another room or psk is met with silence`] = async (make) => {
    const psk = mode === PAIRED ? new Uint8Array(32) : undefined;
    const world = await make({ mode, role: 'initiator', left: { room: new Uint8Array(32), psk } });
    await world.meet();
    for (const side of world.sides) assert.deepEqual(world.events(side, 'established'), []);
    // In open mode HS1 says nothing about the room: this side notices at HS2.
    assert.deepEqual(blobs(world.right).map(kindOf), mode === OPEN ? [HS2] : []);
  };

  scenarios[`${MODES[mode]}: an HS1 twice is answered once`] = async (make) => {
    const world = await make({ mode, role: 'initiator' });
    world.tamper = (side, output) => {
      if (output.blob && kindOf(output.blob) === HS1) world.deliver(side, output);
      return output;
    };
    await established(world);
    assert.equal(blobs(world.right).filter((blob) => kindOf(blob) === HS2).length, 1);
  };
}

/** What a payload of this side, or its description, may and may not be: settings of the left side, and whether it does. */
const record = (type, value) => Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 255]), Buffer.from(value)]);
const insert = (...bytes) => (payload, place) =>
  place === SIG || payload.length === 0 ? payload : Buffer.concat([...bytes, payload]).subarray(0, payload.length);
/** Changes in CAPS and CHANNELS, the first two records wherever they are; this side itself believes its own. */
const splice = (at, count, ...bytes) => (payload) => {
  if (payload[0] !== 1) return payload;
  const changed = [...payload];
  changed.splice(at, count, ...bytes);
  return Buffer.from([...changed, ...new Uint8Array(payload.length)]).subarray(0, payload.length);
};
const PAYLOADS = {
  'an unknown record is skipped': [{ forge: insert(record(0x7f, 'new')) }, true],
  'lines of an SDP end in LF': [{ forgeSdp: (sdp) => sdp.replaceAll('\r\n', '\n') }, true],
  'candidates of an SDP are ignored': [{ forgeSdp: (sdp) => `${sdp}a=${candidate(9)}\r\na=end-of-candidates\r\n` }, true],
  'a fingerprint in lower case': [{ forgeSdp: (sdp) => sdp.replace(/[0-9A-F:]{95}/, (digits) => digits.toLowerCase()) }, true],
  'no limit in an SDP': [{ maxMessageSize: 0 }, true],
  'another channel besides': [{ channels: [...DEFAULT_CHANNELS, { ch: 2, kind: 1, label: 'more' }] }, true],
  'an unknown critical record': [{ forge: insert(record(0x80, 'new')) }, false],
  'CAPS twice': [{ forge: insert(record(1, Buffer.from('0100000000000100000040000000800000', 'hex'))) }, false],
  'a record in the wrong place': [{ forge: insert(record(9, [6])) }, false],
  'max_version 2': [{ forge: splice(3, 1, 2) }, true],
  'flags are ignored': [{ forge: splice(4, 4, 1, 2, 3, 4) }, true],
  'padding that is not zero': [{ forge: (payload) => payload.map((byte, at) => (at === payload.length - 1 ? 1 : byte)) }, false],
  'a payload that is not padded': [{ forge: (payload) => payload.subarray(0, Math.max(payload.length - 1, 0)) }, false],
  'max_frame too small': [{ forge: splice(8, 4, 0, 0, 0x04, 0xff) }, false],
  'max_message beyond the window': [{ forge: splice(12, 4, 0, 0x7f, 0xff, 0xc1) }, false],
  'max_version 0': [{ forge: splice(3, 1, 0) }, false],
  'a channel twice': [{ forge: splice(20, 3, 10, 0, 10, 1, 1, 0) }, false],
  'no channel in common': [{ forge: splice(26, 1, 'M'.charCodeAt(0)) }, false],
  'no channel': [{ forge: splice(20, 10, 10, 0, 0) }, false],
  'two sections': [{ forgeSdp: (sdp) => `${sdp}m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n` }, false],
  'two fingerprints': [{ forgeSdp: (sdp) => `${sdp}a=fingerprint:sha-256 ${fingerprint(9)}\r\n` }, false],
  'a setup of the other role': [{ forgeSdp: (sdp) => `${sdp}a=setup:passive\r\n` }, false],
  'two limits that differ': [{ maxMessageSize: 2_000, forgeSdp: (sdp) => `${sdp}a=max-message-size:3000\r\n` }, false],
  'a limit that is no number': [{ maxMessageSize: '2k' }, false],
  'no mid': [{ forgeSdp: (sdp) => sdp.replace('a=mid:0\r\n', '') }, false],
  'a CR within a line': [{ forgeSdp: (sdp) => `${sdp}a=x\ry\r\n` }, false],
  'a candidate of two lines': [{ candidates: [`${candidate(1)}\r\na=x`] }, false],
  'a candidate that is none': [{ candidates: ['a=x'] }, false],
  'a candidate too long': [{ candidates: ['candidate:'.padEnd(1_025, 'x')] }, false],
  'a candidate just short enough': [{ candidates: ['candidate:'.padEnd(1_024, 'x')] }, true],
  'a max-message-size below the floor': [{ maxMessageSize: 1_279 }, false],
  '65 candidates': [{ candidates: Array.from({ length: 65 }, (_, port) => candidate(port)) }, false],
};
for (const [what, [left, works]] of Object.entries(PAYLOADS)) {
  scenarios[`a payload: ${what}`] = async (make) => {
    for (const setting of SETTINGS.filter(({ inviter }) => inviter !== 'right')) {
      const world = await make({ ...setting, left });
      await world.meet();
      for (const side of world.sides) {
        if (works) world.happened(side, 'established');
        else assert.deepEqual(world.events(side, 'established'), [], `${setting.what}, ${setting.role}`);
      }
    }
  };
}

/** Frames of this side that break a rule, each in a session of its own, and some that do not. */
const FRAMES = {
  'DUMMY on a channel': [1, KIND.dummy, 'ff00', true],
  'DUMMY on channel 0': [0, KIND.dummy, '', true],
  'a PONG that nobody asked for': [0, KIND.pong, '0102030405060708', true],
  'an ACK of nothing new': [0, KIND.ack, '01000000000000', true],
  'an unknown kind': [0, 0x30, '', false],
  'an unknown kind on a channel': [1, 0x04, '', false],
  'READY again': [0, KIND.ready, '010100000000000000', false],
  'READY_OK again': [0, KIND.readyOk, '', false],
  'DATA on channel 0': [0, KIND.data, '', false],
  'a PING on a channel': [1, KIND.ping, '0102030405060708', false],
  'a frame on a channel that is not live': [2, KIND.data, '', false],
  'a PING of 7 bytes': [0, KIND.ping, '01020304050607', false],
  'an ACK of what was not sent': [0, KIND.ack, '01000000000001', false],
  'an ACK of channel 0': [0, KIND.ack, '00000000000000', false],
  'an ACK with a head, without a history': [0, KIND.ack, '01000000000000'.padEnd(78, '0'), false],
  'an empty part': [1, KIND.part, '', false],
  'a batch of one': [1, KIND.batch, '000161', false],
  'a batch that is not filled': [1, KIND.batch, '0001610001', false],
  'a CLOSE without a code': [0, KIND.close, '', false],
  'a CLOSE with a long reason': [0, KIND.close, '00'.padEnd(2 * 130, '61'), false],
  'a CLOSE that is not UTF-8': [0, KIND.close, '00ff', false],
  'EPOCH in epoch 0': [1, KIND.epoch, '', false],
  'REKEY1 of zeros, or from a responder': [0, KIND.rekey1, '00'.repeat(1_248), false],
  'REKEY2 that nobody asked for': [0, KIND.rekey2, '00'.repeat(1_152), false],
  'REKEY_REQ with a body': [0, KIND.rekeyReq, '00', false],
  'SAS_COMMIT of 31 bytes': [0, 0x21, '00'.repeat(31), false],
};
for (const [what, [ch, kind, body, works]] of Object.entries(FRAMES)) {
  scenarios[`a frame: ${what}`] = async (make) => {
    for (const role of ['initiator', 'responder']) {
      const world = await established(await make({ mode: PAIRED, role}));
      const before = world.right.sent.length;
      await world.input(world.left, { do: 'raw', ch, kind, body });
      if (works) await talk(world);
      else {
        world.happened(world.right, 'failed');
        assert.equal(world.right.sent.length, before, 'nothing is said about it');
      }
    }
  };
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

  scenarios[`invite, as ${role}: another key than the inviter's ends the attempt`] = async (make) => {
    const world = await make({ mode: PAIRED, role, impostor: true, left: { expectedKey: undefined } });
    await world.meet();
    await world.pass(5_000);
    for (const side of world.sides) assert.deepEqual(world.events(side, 'established'), []);
    assert.deepEqual(blobs(world.right).map(kindOf), [role === 'initiator' ? HS2 : HS1], 'nothing follows');
  };
}

export { scenarios };
