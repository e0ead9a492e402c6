// Tells the load where the server is; SIGUSR2 collects garbage, so that only what is in use counts as memory.
export function announce(port) {
  process.on('SIGUSR2', () => globalThis.gc?.());
  console.log(`listening on 127.0.0.1:${port}`);
}
