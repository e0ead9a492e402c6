// Node's `ws` with rooms: what a signaling server is at the least. ws://HOST/ROOM/NAME; {to, blob} becomes {from, blob}.
import { WebSocketServer } from 'ws';
import { announce } from './announce.mjs';

const rooms = new Map();
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, backlog: 4096, maxPayload: 24 * 1024 });
server.on('connection', (socket, request) => {
  const [, room, name] = request.url.split('/');
  const members = rooms.get(room) ?? new Map();
  rooms.set(room, members.set(name, socket));
  socket.on('message', (data) => {
    const { to, blob } = JSON.parse(data);
    members.get(to)?.send(JSON.stringify({ from: name, blob }));
  });
  socket.on('close', () => {
    if (members.delete(name) && members.size === 0) rooms.delete(room);
  });
});
server.on('listening', () => announce(server.address().port));
