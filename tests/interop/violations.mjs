// What an endpoint must refuse, and whether in silence; see scenarios.mjs for the form.
import assert from 'node:assert/strict';
import { KIND } from './link.mjs';
import { CODE, DEFAULT_CHANNELS, HS1, HS2, HS3, OPEN, PAIRED, SIG } from './records.mjs';
import { blobs, established, flip, hex, kindOf, MODES, neverEstablished, send, SETTINGS, talk } from './steps.mjs';
import { candidate, fingerprint } from './world.mjs';

export const violations = {};
for (const setting of SETTINGS) {
  const name = `${setting.what}, as ${setting.role}`;

  // for a frame of the old epoch.
  for (const what of ['EPOCH again', 'a frame of the old epoch']) {
    violations[`${name}: ${what} after a rekey is fatal`] = async (make) => {
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

  for (const [what, kind] of [['HS1', HS1], ['HS2', HS2], ['HS3', HS3]]) {
    violations[`${name}: a changed byte in ${what}`] = async (make) => {
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
        neverEstablished(world);
        const kinds = world.sides.flatMap((side) => blobs(side).map(kindOf));
        assert.deepEqual(kinds.sort(), [HS1, HS2, HS3].slice(0, last), 'nothing follows');
      }
    };
  }

  violations[`${name}: a changed SIG changes nothing`] = async (make) => {
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
    violations[`${name}: ${what} in a frame is fatal`] = async (make) => {
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

  violations[`${name}: a frame twice is fatal`] = async (make) => {
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

  violations[`${MODES[mode]}: another version is rejected`] = (make) => silence(make, { left: { version: 2 } }, CODE.version);

  violations[`${MODES[mode]}: another psk_id is rejected`] = (make) =>
    silence(make, { left: { pskId: Uint8Array.from({ length: 16 }, () => 7) } }, CODE.unknownPsk);

  violations[`${MODES[mode]}: the other mode is rejected`] = (make) => {
    const left = mode === OPEN ? { mode: PAIRED, psk: new Uint8Array(32) } : { mode: OPEN, psk: undefined };
    return silence(make, { left }, CODE.unknownPsk);
  };

  violations[`${MODES[mode]}: another room or psk is met with silence`] = async (make) => {
    const psk = mode === PAIRED ? new Uint8Array(32) : undefined;
    const world = await make({ mode, role: 'initiator', left: { room: new Uint8Array(32), psk } });
    await world.meet();
    neverEstablished(world);
    // In open mode HS1 says nothing about the room: this side notices at HS2.
    assert.deepEqual(blobs(world.right).map(kindOf), mode === OPEN ? [HS2] : []);
  };

  violations[`${MODES[mode]}: an HS1 twice is answered once`] = async (make) => {
    const world = await make({ mode, role: 'initiator' });
    world.tamper = (side, output) => {
      if (output.blob && kindOf(output.blob) === HS1) world.deliver(side, output);
      return output;
    };
    await established(world);
    assert.equal(blobs(world.right).filter((blob) => kindOf(blob) === HS2).length, 1);
  };
}

const record = (type, value) =>
  Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 255]), Buffer.from(value)]);
const insert = (record) => (payload, place) =>
  place === SIG || payload.length === 0 ? payload : Buffer.concat([record, payload]).subarray(0, payload.length);
/** Changes in CAPS and CHANNELS, the first two records wherever they are; this side itself believes its own. */
const splice = (at, count, ...bytes) => (payload) => {
  if (payload[0] !== 1) return payload;
  const changed = [...payload];
  changed.splice(at, count, ...bytes);
  return Buffer.from([...changed, ...new Uint8Array(payload.length)]).subarray(0, payload.length);
};
const lower = (digits) => digits.toLowerCase();
const line = (added) => ({ forgeSdp: (sdp) => `${sdp}${added}\r\n` });
/** What the payloads and the description of the left side are like, and whether that is accepted. */
const PAYLOADS = {
  'an unknown record is skipped': [{ forge: insert(record(0x7f, 'new')) }, true],
  'lines of an SDP end in LF': [{ forgeSdp: (sdp) => sdp.replaceAll('\r\n', '\n') }, true],
  'candidates of an SDP are ignored': [line(`a=${candidate(9)}\r\na=end-of-candidates`), true],
  'a fingerprint in lower case': [{ forgeSdp: (sdp) => sdp.replace(/[0-9A-F:]{95}/, lower) }, true],
  'no limit in an SDP': [{ maxMessageSize: 0 }, true],
  'another channel besides': [{ channels: [...DEFAULT_CHANNELS, { ch: 2, kind: 1, label: 'more' }] }, true],
  'an unknown critical record': [{ forge: insert(record(0x80, 'new')) }, false],
  'CAPS twice': [{ forge: insert(record(1, Buffer.from('0100000000000100000040000000800000', 'hex'))) }, false],
  'a record in the wrong place': [{ forge: insert(record(9, [6])) }, false],
  'max_version 2': [{ forge: splice(3, 1, 2) }, true],
  'flags are ignored': [{ forge: splice(4, 4, 1, 2, 3, 4) }, true],
  'padding that is not zero': [{ forge: (payload) => (payload.length > 0 ? payload.with(-1, 1) : payload) }, false],
  'a payload that is not padded': [{ forge: (payload) => payload.subarray(0, Math.max(payload.length - 1, 0)) }, false],
  'max_frame too small': [{ forge: splice(8, 4, 0, 0, 0x04, 0xff) }, false],
  'max_message beyond the window': [{ forge: splice(12, 4, 0, 0x7f, 0xff, 0xc1) }, false],
  'max_version 0': [{ forge: splice(3, 1, 0) }, false],
  'a channel twice': [{ forge: splice(20, 3, 10, 0, 10, 1, 1, 0) }, false],
  'no channel in common': [{ forge: splice(26, 1, 'M'.charCodeAt(0)) }, false],
  'no channel': [{ forge: splice(20, 10, 10, 0, 0) }, false],
  'two sections': [line('m=audio 9 UDP/TLS/RTP/SAVPF 0'), false],
  'two fingerprints': [line(`a=fingerprint:sha-256 ${fingerprint(9)}`), false],
  'a setup of the other role': [line('a=setup:passive'), false],
  'two limits that differ': [{ maxMessageSize: 2_000, ...line('a=max-message-size:3000') }, false],
  'a limit that is no number': [{ maxMessageSize: '2k' }, false],
  'no mid': [{ forgeSdp: (sdp) => sdp.replace('a=mid:0\r\n', '') }, false],
  'a CR within a line': [line('a=x\ry'), false],
  'a candidate of two lines': [{ candidates: [`${candidate(1)}\r\na=x`] }, false],
  'a candidate that is none': [{ candidates: ['a=x'] }, false],
  'a candidate too long': [{ candidates: ['candidate:'.padEnd(1_025, 'x')] }, false],
  'a candidate just short enough': [{ candidates: ['candidate:'.padEnd(1_024, 'x')] }, true],
  'a max-message-size below the floor': [{ maxMessageSize: 1_279 }, false],
  '65 candidates': [{ candidates: Array.from({ length: 65 }, (_, port) => candidate(port)) }, false],
};
for (const [what, [left, works]] of Object.entries(PAYLOADS)) {
  violations[`a payload: ${what}`] = async (make) => {
    for (const setting of SETTINGS.filter(({ inviter }) => inviter !== 'right')) {
      const world = await make({ ...setting, left });
      await world.meet();
      if (works) for (const side of world.sides) world.happened(side, 'established');
      else neverEstablished(world, `${setting.what}, ${setting.role}`);
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
  violations[`a frame: ${what}`] = async (make) => {
    for (const role of ['initiator', 'responder']) {
      const world = await established(await make({ mode: PAIRED, role }));
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
  violations[`invite, as ${role}: another key than the inviter's ends the attempt`] = async (make) => {
    const world = await make({ mode: PAIRED, role, impostor: true, left: { expectedKey: undefined } });
    await world.meet();
    await world.pass(5_000);
    neverEstablished(world);
    assert.deepEqual(blobs(world.right).map(kindOf), [role === 'initiator' ? HS2 : HS1], 'nothing follows');
  };
}
