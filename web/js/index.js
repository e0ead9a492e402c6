// The package: what wasm-bindgen made, the error class, and `for await` over sessions and channels.
import init, { Channel, LossyChannel, Session } from "./sealwire.js";

export * from "./sealwire.js";
export { SealwireError } from "./error.js";
export default init;

/** Takes one after the other until the end. Leaving the loop takes nothing more and closes nothing. */
function iterate(take) {
  return {
    async next() {
      const value = await take();
      return { done: value === undefined, value };
    },
    async return(value) {
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
Channel.prototype[Symbol.asyncIterator] = function () {
  return iterate(() => this.recv());
};
LossyChannel.prototype[Symbol.asyncIterator] = function () {
  return iterate(() => this.recv());
};
