// Blobs, the records in them, and session descriptions (docs/protocol.md §6, §8.1, §8.2): bytes to objects and back.
import { concat, Reader, text, toHex, uint, utf8 } from './bytes.mjs';

export const HS1 = 1, HS2 = 2, HS3 = 3, SIG = 4, REJECT = 5;
export const OPEN = 0, PAIRED = 1;
/** Codes of REJECT and BYE. */
export const CODE = { version: 1, unknownPsk: 2, used: 3, expired: 4, busy: 5, policy: 6 };
export const RELIABLE = 1;
export const DEFAULT_CAPS = { maxVersion: 1, maxFrame: 65_536, maxMessage: 4 << 20, window: 8 << 20 };
export const DEFAULT_CHANNELS = [{ ch: 1, kind: RELIABLE, label: 'main' }];

const check = (holds, what) => {
  if (!holds) throw new Error(what);
};

// Blobs.

export const hs1Blob = (mode, pskId, message, version = 1) =>
  concat(Uint8Array.of(HS1, version, mode), pskId, message);
export const hsBlob = (kind, message) => concat(Uint8Array.of(kind), message);
export const sigBlob = (n, ciphertext) => concat(Uint8Array.of(SIG), uint(n, 8), ciphertext);
export const rejectBlob = (code) => Uint8Array.of(REJECT, code);

/** An HS1 of another version is `{ kind, version }` alone: its layout is not known. */
export function parseBlob(blob) {
  check(blob.length <= 16_384, 'blob too long');
  const reader = new Reader(blob);
  const kind = reader.uint(1);
  if (kind === HS1) {
    const version = reader.uint(1);
    if (version !== 1) return { kind, version };
    const mode = reader.uint(1);
    check(mode === OPEN || mode === PAIRED, 'unknown mode');
    return { kind, version, mode, pskId: reader.take(16), message: reader.rest };
  }
  if (kind === SIG) return { kind, n: reader.uint(8), ciphertext: reader.rest };
  if (kind === REJECT) {
    const code = reader.uint(1);
    reader.end();
    return { kind, code };
  }
  check(kind === HS2 || kind === HS3, 'unknown kind of blob');
  return { kind, message: reader.rest };
}

// Payloads.

const TYPE = { caps: 1, offer: 2, answer: 3, candidates: 4, bye: 9, channels: 10 };

/** What each payload holds, by mode: `!` must be there once, `?` may be there once, `*` any number of times. */
const PLACES = {
  [PAIRED]: {
    [HS1]: { caps: '!', channels: '!', offer: '!', candidates: '*' },
    [HS2]: { caps: '!', channels: '!', answer: '!', candidates: '*' },
    [HS3]: { candidates: '*' },
    [SIG]: { candidates: '*', bye: '?' },
  },
  [OPEN]: {
    [HS2]: { caps: '!', channels: '!' },
    [HS3]: { caps: '!', channels: '!', offer: '!', candidates: '*' },
    [SIG]: { answer: '?', candidates: '*', bye: '?' },
  },
};
/** the multiple and the limit of each padded payload. */
const SIZES = { [HS1]: [512, 14_848], [HS2]: [512, 14_848], [HS3]: [512, 15_872], [SIG]: [256, 16_128] };

const ENCODE = {
  caps: ({ maxVersion, maxFrame, maxMessage, window }) =>
    concat(uint(maxVersion, 1), uint(0, 4), uint(maxFrame, 4), uint(maxMessage, 4), uint(window, 4)),
  offer: utf8,
  answer: utf8,
  candidates: utf8,
  bye: (code) => Uint8Array.of(code),
  channels: (channels) =>
    concat(...channels.map(({ ch, kind, label }) => concat(Uint8Array.of(ch, kind, utf8(label).length), utf8(label)))),
};
const DECODE = { caps, offer: description, answer: description, candidates: candidate, bye, channels };

/** Records and zeros: the only order is that of `records`. */
export function encodePayload(place, mode, records) {
  if (mode === OPEN && place === HS1) return new Uint8Array();
  const parts = Object.entries(records).flatMap(([name, value]) =>
    [value].flat(name === 'candidates' ? 1 : 0).map((one) => {
      const bytes = ENCODE[name](one);
      return concat(Uint8Array.of(TYPE[name]), uint(bytes.length, 2), bytes);
    }));
  const [multiple, limit] = SIZES[place];
  const bytes = concat(...parts);
  const padded = Math.max(1, Math.ceil(bytes.length / multiple)) * multiple;
  check(padded <= limit, 'payload too long');
  return concat(bytes, new Uint8Array(padded - bytes.length));
}

/** The records of a payload, `candidates` always a list. */
export function decodePayload(place, mode, payload) {
  if (mode === OPEN && place === HS1) {
    check(payload.length === 0, 'an open HS1 has no payload');
    return { candidates: [] };
  }
  const [multiple, limit] = SIZES[place];
  check(payload.length % multiple === 0 && payload.length >= multiple && payload.length <= limit, 'size of a payload');
  const allowed = PLACES[mode][place];
  const records = { candidates: [] };
  const reader = new Reader(payload);
  while (reader.rest.length > 0) {
    const type = reader.uint(1);
    if (type === 0) {
      check(reader.rest.every((byte) => byte === 0), 'padding is not zero');
      break;
    }
    const value = reader.take(reader.uint(2));
    const name = Object.keys(TYPE).find((known) => TYPE[known] === type);
    if (!name) {
      check(type < 0x80, 'unknown record');
      continue;
    }
    check(allowed[name], 'a record in the wrong place');
    const decoded = DECODE[name](value);
    if (allowed[name] === '*') records[name].push(decoded);
    else {
      check(!(name in records), 'a record twice');
      records[name] = decoded;
    }
  }
  for (const name in allowed) check(allowed[name] !== '!' || name in records, `no ${name}`);
  return records;
}

/** */
function caps(value) {
  const reader = new Reader(value);
  const maxVersion = reader.uint(1);
  reader.uint(4);
  const [maxFrame, maxMessage, window] = [reader.uint(4), reader.uint(4), reader.uint(4)];
  reader.end();
  check(maxFrame >= 1_280 && maxFrame <= 65_536, 'max_frame');
  check(maxMessage >= 65_536 && maxMessage <= window - 64 && window >= 262_144, 'max_message or window');
  return { maxVersion, maxFrame, maxMessage, window };
}

function bye(value) {
  check(value.length === 1, 'length of BYE');
  return value[0];
}

/** */
function channels(value) {
  const reader = new Reader(value);
  const list = [];
  while (reader.rest.length > 0) {
    const [ch, kind, label] = [reader.uint(1), reader.uint(1), reader.take(reader.uint(1))];
    check(ch >= 1 && ch <= 15 && ch > (list.at(-1)?.ch ?? 0), 'order of channels');
    check(kind === 1 || kind === 2, 'kind of channel');
    check(label.length <= 64, 'label too long');
    list.push({ ch, kind, label: text(label) });
  }
  check(list.length > 0, 'no channel');
  return list;
}

/** the channels of both lists, byte by byte the same. */
export function liveChannels(ours, theirs) {
  const entry = (one) => toHex(ENCODE.channels([one]));
  const live = ours.filter((one) => theirs.some((other) => entry(one) === entry(other)));
  check(live.length > 0, 'no live channel');
  return live;
}

/** */
function candidate(value) {
  const line = text(value);
  check(value.length <= 1_024 && /^candidate:[^\r\n\0]*$/.test(line), 'candidate');
  return line;
}

// Session descriptions.

function description(value) {
  check(value.length <= 8_192, 'SDP too long');
  return text(value);
}

/** The least that §8.2 asks for. */
export function makeSdp(setup, fingerprint, maxMessageSize) {
  return [
    'v=0', 'o=- 1 1 IN IP4 127.0.0.1', 's=-', 't=0 0',
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel', 'c=IN IP4 0.0.0.0', 'a=mid:0',
    'a=ice-ufrag:sealwire', 'a=ice-pwd:sealwiresealwiresealwire',
    `a=fingerprint:sha-256 ${fingerprint}`, `a=setup:${setup}`, 'a=sctp-port:5000',
    ...(maxMessageSize === undefined ? [] : [`a=max-message-size:${maxMessageSize}`]), '',
  ].join('\r\n');
}

/** what this side needs of the peer's description. */
export function readSdp(sdp, setup) {
  const lines = sdp.split('\n').map((line) => line.replace(/\r$/, ''));
  check(lines.every((line) => /^([a-z]=[^\r\0]*)?$/.test(line)), 'a line of an SDP');
  /** The different values of one attribute. */
  const values = (name) => {
    const attributes = lines.map((line) => /^a=\s*([^:]*?)\s*(?::(.*))?$/.exec(line) ?? []);
    return new Set(attributes.filter(([, one]) => one?.toLowerCase() === name).map(([, , value = '']) => value));
  };
  const one = (set, what) => {
    check(set.size === 1, what);
    return [...set][0];
  };
  const sections = lines.filter((line) => line.startsWith('m='));
  check(sections.length === 1 && /^m=application( |$)/.test(sections[0]), 'exactly one section, application');
  check(one(values('mid'), 'mid') === '0', 'mid');
  check(one(values('setup'), 'setup') === setup, 'setup');
  const fingerprints = [...values('fingerprint')].map((value) => value.toUpperCase());
  const fingerprint = one(new Set(fingerprints), 'fingerprints differ');
  check(/^SHA-256 ([0-9A-F]{2}:){31}[0-9A-F]{2}$/.test(fingerprint), 'fingerprint is not sha-256');
  const sizes = values('max-message-size');
  const digits = sizes.size === 0 ? '65536' : one(sizes, 'limits differ');
  check(/^[0-9]+$/.test(digits), 'limit');
  const size = Number(digits);
  check(size === 0 || size >= 1_280, 'limit below the floor');
  return { fingerprint: fingerprint.slice('SHA-256 '.length), maxMessageSize: size === 0 ? Infinity : size };
}
