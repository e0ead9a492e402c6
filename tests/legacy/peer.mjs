// An unchanged simple-peer that offers itself again and again: node peer.mjs ws://HOST:PORT/PATH
import wrtc from '@roamhq/wrtc';
import SimplePeer from 'simple-peer';
import { WebSocket } from 'ws';

const socket = new WebSocket(process.argv[2]);
const offer = () => {
  const peer = new SimplePeer({ initiator: true, wrtc });
  peer.on('signal', (signal) => socket.send(JSON.stringify(signal)));
  peer.on('error', () => {});
};
socket.on('open', () => {
  offer();
  setInterval(offer, 100);
});
socket.on('close', () => process.exit(0));
