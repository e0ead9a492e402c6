// peerjs-server, with its limit of connections and its heartbeat out of the way.
import { PeerServer } from 'peer';
import { announce } from './announce.mjs';

const options = { host: '127.0.0.1', port: 0, path: '/', concurrent_limit: 1_000_000, alive_timeout: 3_600_000 };
PeerServer(options, (server) => announce(server.address().port));
