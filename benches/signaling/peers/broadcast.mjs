// A relay without rooms, as tutorials have it: JSON from one client goes, parsed and printed again, to all others.
import { WebSocket, WebSocketServer } from 'ws';
import { announce } from './announce.mjs';

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, backlog: 4096 });
server.on('connection', (sender) => {
  sender.on('message', (text) => {
    const signal = JSON.parse(text);
    for (const client of server.clients) {
      if (client === sender || client.readyState !== WebSocket.OPEN) continue;
      client.send(JSON.stringify(signal));
    }
  });
});
server.on('listening', () => announce(server.address().port));
