// The relay of the tutorial that this crate comes from: what one client sends, every other one gets.
// Prints its port, then hands on until it is killed.
import { WebSocket, WebSocketServer } from 'ws';

const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (socket) => {
  socket.on('message', (message) => {
    const text = JSON.stringify(JSON.parse(message));
    for (const other of server.clients) {
      if (other !== socket && other.readyState === WebSocket.OPEN) other.send(text);
    }
  });
});
