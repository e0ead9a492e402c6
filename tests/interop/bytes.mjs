// Bytes, integers and texts as docs/protocol.md §2 writes them.

export const utf8 = (text) => new TextEncoder().encode(text);
/** Throws on bytes that are not UTF-8. */
export const text = (bytes) => new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
export const concat = (...parts) => new Uint8Array(Buffer.concat(parts));
export const toHex = (bytes) => Buffer.from(bytes).toString('hex');
export const fromHex = (hex) => new Uint8Array(Buffer.from(hex, 'hex'));
export const equal = (a, b) => Buffer.compare(a, b) === 0;
/** The bytewise order of endpoint ids and public keys. */
export const less = (a, b) => Buffer.compare(a, b) < 0;

/** unsigned, big-endian, `length` bytes. */
export function uint(value, length) {
  const bytes = new Uint8Array(length);
  let rest = BigInt(value);
  for (let at = length - 1; at >= 0; at -= 1, rest >>= 8n) bytes[at] = Number(rest & 255n);
  return bytes;
}

/** Up to 2^53; nothing here counts further. */
export const readUint = (bytes) => bytes.reduce((value, byte) => value * 256 + byte, 0);

/** what does not come out the same again was not strict. */
export function fromBase64url(encoded) {
  const bytes = new Uint8Array(Buffer.from(encoded, 'base64url'));
  if (toBase64url(bytes) !== encoded) throw new Error('base64url is not strict');
  return bytes;
}
export const toBase64url = (bytes) => Buffer.from(bytes).toString('base64url');

export class Reader {
  constructor(bytes) {
    this.rest = bytes;
  }
  take(length) {
    if (this.rest.length < length) throw new Error('cut short');
    const taken = this.rest.subarray(0, length);
    this.rest = this.rest.subarray(length);
    return taken;
  }
  uint(length) {
    return readUint(this.take(length));
  }
  end() {
    if (this.rest.length > 0) throw new Error('bytes left over');
  }
}
