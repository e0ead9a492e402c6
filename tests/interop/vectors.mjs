// tests/vectors/*.json against this implementation.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { concat, fromHex, toHex, uint, utf8 } from './bytes.mjs';
import * as keys from './keys.mjs';
import { generateKeyPair, Handshake, nonce } from './noise.mjs';

const load = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), 'utf8'));
/** Every byte string of `actual` as the vector writes it. */
function same(actual, expected, names) {
  for (const [ours, theirs] of Object.entries(names)) assert.equal(toHex(actual[ours]), expected[theirs], theirs);
}

export const vectors = {
  'vectors: pairing secrets, invite, open room'() {
    const { invite, contact, resume, safety_number: number, open } = load('sealwire-1');
    const names = { psk: 'psk', pskId: 'psk_id', room: 'room' };
    const inviter = fromHex(invite.inviter_pk);
    same(keys.pairing('invite', fromHex(invite.secret), inviter), invite, names);
    const both = keys.sorted(fromHex(number.pk_a), fromHex(number.pk_b));
    same(keys.pairing('contact', fromHex(contact.secret), both), contact, names);
    const resumed = keys.pairing('resume', fromHex(resume.secret), fromHex(resume.session_id));
    same(resumed, resume, { psk: 'psk', pskId: 'psk_id' });
    const parsed = { secret: fromHex(invite.secret), inviter, expiry: invite.expiry_unix, relayUrl: invite.relay_url };
    assert.deepEqual(keys.parseInvite(invite.text), parsed);
    assert.equal(keys.formatInvite(parsed), invite.text);
    assert.equal(open.inputs.room, toHex(keys.openRoom('lobby')));
  },

  'vectors: padding, safety number, history'() {
    const { padme, safety_number: number, history } = load('sealwire-1');
    for (const [length, padded] of Object.entries(padme)) assert.equal(keys.padme(Number(length)), padded, length);
    assert.equal(keys.safetyNumber(fromHex(number.pk_a), fromHex(number.pk_b)), number.digits);
    const author = fromHex(history.author_pk);
    let head = keys.historyStart(author, fromHex(history.peer_pk), author);
    assert.equal(toHex(head), history.head_0);
    for (const { n, seen, ts_ms: tsMs, body_utf8: body, head: expected } of [history.message_0, history.message_1]) {
      head = keys.historyNext(head, { n, seen, tsMs, body: utf8(body) });
      assert.equal(toHex(head), expected);
    }
  },

  'vectors: open handshake, frames, rekey, SAS': () => run(load('sealwire-1').open),
  'vectors: paired handshake, frames, rekey, SAS': () => run(load('sealwire-1').paired),

  'vectors: the published XXhfs handshake'() {
    const vector = load('noise-xxhfs');
    const payloads = vector.payloads.map(utf8);
    const sides = pair(vector.name, vector, fromHex(vector.prologue));
    same(exchange(sides, payloads, [vector.m1, vector.m2, vector.m3]), vector, { h: 'h', k1: 'k1', k2: 'k2' });
  },

  'vectors: classical Noise handshakes and transport'() {
    const { vectors: all } = load('noise-classical');
    for (const vector of all) classical(vector);
  },
};

/** Both sides of a run with the secrets of a vector. */
function pair(name, inputs, prologue, psks = []) {
  const static_ = (secret) => secret && generateKeyPair(fromHex(secret));
  const kemSeed = fromHex(inputs.mlkem_keygen_seed_d_z);
  const kemRandom = fromHex(inputs.mlkem_encaps_m);
  const i = { s: static_(inputs.initiator_static_secret), e: fromHex(inputs.initiator_ephemeral_secret), kemSeed };
  const r = { s: static_(inputs.responder_static_secret), e: fromHex(inputs.responder_ephemeral_secret), kemRandom };
  return [
    new Handshake(name, { initiator: true, prologue, psks, ...i }),
    new Handshake(name, { initiator: false, prologue, psks, ...r }),
  ];
}

/** The messages as the vector has them, and the same secrets at both ends. */
function exchange(sides, payloads, messages) {
  payloads.forEach((payload, n) => {
    const message = sides[n % 2].write(payload);
    assert.equal(toHex(message), messages[n], `message ${n + 1}`);
    assert.deepEqual(sides[(n + 1) % 2].read(message), payload);
  });
  const ends = sides.map((side) => side.finish());
  assert.deepEqual(ends[0], ends[1]);
  return ends[0];
}

function run(vector) {
  const { inputs } = vector;
  const paired = inputs.psk !== '';
  const ids = [inputs.room, inputs.ep_initiator, inputs.ep_responder, inputs.psk_id].map(fromHex);
  const prologue = concat(keys.P, Uint8Array.of(paired ? 1 : 0), ...ids);
  assert.equal(toHex(prologue), vector.prologue);
  const sides = pair(vector.name, inputs, prologue, paired ? [fromHex(inputs.psk)] : []);
  const end = exchange(sides, inputs.payloads_utf8.map(utf8), [vector.m1, vector.m2, vector.m3]);
  same(end, vector, { h: 'h', k1: 'k1', k2: 'k2', x: 'x' });
  ['m1', 'm2'].forEach((m) => assert.equal(toHex(sha256(fromHex(vector[m]))), vector[`sha256_${m}`]));

  const epoch = keys.epochKeys(end);
  same(epoch, vector.epoch0, { i2r: 'i2r', r2i: 'r2i', rekeyPsk: 'rekey_psk' });
  same(epoch, vector, { resume: 'resume_secret' });
  const session = keys.sessionKeys(end);
  const names = { sessionId: 'session_id', resumeRoom: 'resume_room', contact: 'contact_secret', sas: 'sas_key' };
  same(session, vector, names);
  frames(vector, epoch.i2r);
  rekey(vector.rekey1, end.h, epoch.rekeyPsk);

  const [nI, nR] = [vector.sas.nonce_initiator, vector.sas.nonce_responder].map(fromHex);
  const publics = [inputs.initiator_static_secret, inputs.responder_static_secret]
    .map((secret) => generateKeyPair(fromHex(secret)).public);
  assert.equal(toHex(keys.sasCommitment(end.h, nR)), vector.sas.commit);
  assert.deepEqual(keys.sasCode(session.sas, nI, nR, ...publics), vector.sas.code);
}

function frames(vector, directional) {
  const chain = keys.chains(directional)[1];
  const used = Array.from({ length: 17 }, () => chain.next());
  for (const [seq, key] of Object.entries(vector.ch1_i2r_mk)) assert.equal(toHex(used[seq].key), key, `mk ${seq}`);
  const hello = { kind: 1, body: utf8('hello') };
  const padded = keys.sealFrame(used[0], 0, hello.kind, hello.body, 65_536);
  const bare = keys.sealFrame(used[15], 0, hello.kind, hello.body);
  assert.equal(toHex(padded), vector.frame_ch1_seq0);
  assert.equal(toHex(bare), vector.frame_ch1_seq15_nopad);
  assert.deepEqual(keys.openFrame(used[0].key, padded, 65_536), hello);
  assert.deepEqual(keys.openFrame(used[15].key, bare, 65_536), hello);
}

function rekey(vector, h, psk) {
  const prologue = concat(keys.P, utf8(' rekey'), uint(1, 2), h);
  assert.equal(toHex(prologue), vector.prologue);
  const sides = pair(vector.name, vector.inputs, prologue, [psk]);
  const end = exchange(sides, [new Uint8Array(), new Uint8Array()], [vector.r1, vector.r2]);
  same(end, vector, { h: 'h', x: 'x' });
  same(keys.epochKeys(end), vector, { i2r: 'i2r', r2i: 'r2i' });
}

function classical(vector) {
  const side = (initiator) => {
    const who = initiator ? 'init' : 'resp';
    const secret = (name) => vector[`${who}_${name}`] && fromHex(vector[`${who}_${name}`]);
    const s = secret('static') && generateKeyPair(secret('static'));
    const psks = (vector[`${who}_psks`] ?? []).map(fromHex);
    return new Handshake(vector.protocol_name, { initiator, prologue: secret('prologue'), s, e: secret('ephemeral'), psks });
  };
  const sides = [side(true), side(false)];
  const last = sides[0].messages.length;
  exchange(sides, ...['payload', 'ciphertext'].map((field) =>
    vector.messages.slice(0, last).map((message) => (field === 'payload' ? fromHex(message[field]) : message[field]))));
  if (vector.handshake_hash) assert.equal(toHex(sides[0].h), vector.handshake_hash, vector.protocol_name);
  const { k1, k2 } = sides[0].finish();
  const sent = [0, 0];
  vector.messages.slice(last).forEach(({ payload, ciphertext }, after) => {
    const from = (last + after) % 2;
    const sealed = chacha20poly1305(from === 0 ? k1 : k2, nonce(sent[from]++)).encrypt(fromHex(payload));
    assert.equal(toHex(sealed), ciphertext, vector.protocol_name);
  });
}
