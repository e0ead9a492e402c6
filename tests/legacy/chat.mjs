// Two unchanged simple-peers connect through a relay with two places and chat; a third client comes and is refused.
//   node chat.mjs ws://HOST:PORT/PATH [bare|wrapped]
// Signals are sent as simple-peer has them, or wrapped as {"type":"signal","payload":...}. The last line of a success is "done".
import assert from 'node:assert/strict';
import { once } from 'node:events';
import wrtc from '@roamhq/wrtc';
import SimplePeer from 'simple-peer';
import { WebSocket } from 'ws';

const [url, form = 'bare'] = process.argv.slice(2);
const wrap = form === 'wrapped' ? (payload) => ({ type: 'signal', payload }) : (signal) => signal;
const unwrap = form === 'wrapped' ? ({ payload }) => payload : (signal) => signal;

process.on('unhandledRejection', (error) => {
  console.error(error);
  process.exit(1);
});

async function connect(initiator) {
  const socket = new WebSocket(url);
  await once(socket, 'open');
  socket.on('close', (code) => console.log(`a socket was closed with ${code}`));
  const start = () => {
    const peer = new SimplePeer({ initiator, wrtc });
    peer.on('signal', (signal) => socket.send(JSON.stringify(wrap(signal))));
    socket.on('message', (text, isBinary) => {
      assert(!isBinary, 'signals arrive as text');
      peer.signal(unwrap(JSON.parse(text)));
    });
    return peer;
  };
  return { socket, start };
}

async function exchange(from, to, text) {
  const heard = once(to, 'data');
  from.send(text);
  assert.equal(String(await heard), text);
}

// Both are there before the first signal: a relay keeps nothing.
const [first, second] = [await connect(true), await connect(false)];
const [b, a] = [second.start(), first.start()];
await Promise.all([once(a, 'connect'), once(b, 'connect')]);
await exchange(a, b, 'hello');
await exchange(b, a, 'hello yourself');
console.log('chatted');

const third = new WebSocket(url);
third.on('message', () => assert.fail('a third client hears nothing'));
third.on('open', () => third.send('{"type":"offer","sdp":"v=0"}'));
third.on('error', () => {});
const [code] = await once(third, 'close');
console.log(`a third was closed with ${code}`);

for (const [from, to] of [[first, second], [second, first]]) {
  from.socket.removeAllListeners('message');
  to.socket.removeAllListeners('message');
  for (const probe of ['{"text": [1,  2.50] }', Buffer.from('{"binary":true}')]) {
    const heard = once(to.socket, 'message');
    from.socket.send(probe);
    const [text, isBinary] = await heard;
    assert(!isBinary, 'what was binary arrives as text');
    assert.equal(String(text), String(probe));
  }
}
await exchange(a, b, 'still here');
await exchange(b, a, 'so am I');
for (const { socket } of [first, second]) assert.equal(socket.readyState, WebSocket.OPEN);
console.log('done');
process.exit(0);
