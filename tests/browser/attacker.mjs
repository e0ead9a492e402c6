// A signaling server that changes one bit of every blob on its way.

import { WebSocketServer } from "ws";

function flip(blob) {
  const bytes = Buffer.from(blob, "base64url");
  bytes[Math.floor(Math.random() * bytes.length)] ^= 1 << Math.floor(Math.random() * 8);
  return bytes.toString("base64url");
}

export async function attack() {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  const rooms = new Map();
  server.on("connection", (socket) => {
    let here;
    const leave = () => here && rooms.get(here.room)?.delete(here.ep);
    socket.on("close", leave);
    socket.on("error", leave);
    socket.on("message", (text) => {
      const envelope = JSON.parse(text);
      if (envelope.type === "join") {
        const room = rooms.get(envelope.room) ?? new Map();
        rooms.set(envelope.room, room);
        socket.send(JSON.stringify({ type: "welcome", peers: [...room.keys()], ice: [] }));
        for (const other of room.values()) other.send(JSON.stringify({ type: "joined", ep: envelope.ep }));
        room.set(envelope.ep, socket);
        here = envelope;
      } else if (envelope.type === "send" && here) {
        const other = rooms.get(here.room).get(envelope.to);
        other?.send(JSON.stringify({ type: "message", from: here.ep, blob: flip(envelope.blob) }));
      } else if (envelope.type === "leave") {
        socket.close(1000);
      }
    });
  });
  await new Promise((resolve) => server.once("listening", resolve));
  return { url: `ws://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}
