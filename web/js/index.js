// The package: what wasm-bindgen made, the error class, the history, and `for await` over what comes one after the other.
import init, { Channel, FileTransfer, LossyChannel, Session, StreamReader } from "./sealwire.js";

export * from "./sealwire.js";
export { SealwireError } from "./error.js";
export { IndexedDbHistory } from "./history.js";
export default init;

/** Chunks that are put together, so that a large file is not a list of a million pieces. */
const PIECE = 8 << 20;

/** Takes one after the other until the end. Leaving the loop takes nothing more; `left` is told of it. */
function iterate(take, left = () => {}) {
  return {
    async next() {
      const value = await take();
      return { done: value === undefined, value };
    },
    async return(value) {
      left();
      return { done: true, value };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

Session.prototype[Symbol.asyncIterator] = function () {
  return iterate(() => this.next());
};
Session.prototype.offers = function () {
  return iterate(() => this.nextOffer());
};
Channel.prototype[Symbol.asyncIterator] = function () {
  return iterate(() => this.recv());
};
LossyChannel.prototype[Symbol.asyncIterator] = function () {
  return iterate(() => this.recv());
};
FileTransfer.prototype[Symbol.asyncIterator] = function () {
  return iterate(() => this.nextProgress());
};
StreamReader.prototype[Symbol.asyncIterator] = function () {
  return iterate(() => this.read(), () => this.cancel());
};

// Bytes of whoever sent them: no kind that a browser might show as a page.
const untyped = { type: "application/octet-stream" };

StreamReader.prototype.blob = async function (onProgress) {
  const pieces = [];
  let chunks = [];
  let [held, bytes] = [0, 0];
  for await (const chunk of this) {
    chunks.push(chunk);
    held += chunk.length;
    bytes += chunk.length;
    if (held >= PIECE) {
      pieces.push(new Blob(chunks, untyped));
      [chunks, held] = [[], 0];
    }
    onProgress?.(bytes);
  }
  return new Blob([...pieces, ...chunks], untyped);
};
