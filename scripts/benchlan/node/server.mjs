// The peer: the box's job as one would write it on Node. It checks tokens, keeps
// a venue's room, answers heartbeats, tells logs to the venue, and stores
// payments in SQLite before it answers and passes them on.
//
//   node server.mjs DATABASE each|grouped
//
// "each" commits every payment by itself. "grouped" commits what came in one turn
// of the event loop together, which costs its authors some thought.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";

import Database from "better-sqlite3";
import jwt from "jsonwebtoken";
import { Server } from "socket.io";

const [path, commit] = process.argv.slice(2);
const secret = process.env.ACCESS_TOKEN_SECRET;

const db = new Database(path);
db.pragma("journal_mode = WAL");
db.pragma("synchronous = FULL");
if (db.pragma("journal_mode", { simple: true }) !== "wal" || db.pragma("synchronous", { simple: true }) !== 2) {
  throw new Error("SQLite is not as durable as it was told to be");
}
db.exec(`CREATE TABLE events (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, subject TEXT, time INTEGER NOT NULL, payload TEXT NOT NULL)`);
const insert = db.prepare("INSERT INTO events (id, kind, subject, time, payload) VALUES (?, ?, ?, ?, ?)");
const insertAll = db.transaction((rows) => rows.map((row) => insert.run(row).lastInsertRowid));

let waiting = [];
function store(row, done) {
  if (commit === "each") {
    done(insert.run(row).lastInsertRowid);
    return;
  }
  if (waiting.push([row, done]) > 1) return;
  setImmediate(() => {
    const batch = waiting;
    waiting = [];
    const seqs = insertAll(batch.map(([row]) => row));
    batch.forEach(([, done], i) => done(seqs[i]));
  });
}

const http = createServer();
const io = new Server(http, { serveClient: false });

io.use((socket, next) => {
  try {
    const claims = jwt.verify(socket.handshake.auth.token, secret, { algorithms: ["HS256"] });
    if (claims.terminalSerialNumber && claims.terminalSerialNumber !== socket.handshake.auth.terminalId) {
      throw new Error("wrong terminal");
    }
    socket.data = { user: claims.sub, venue: claims.venueId, role: claims.role, correlationId: randomUUID() };
    next();
  } catch {
    next(new Error("Authentication failed"));
  }
});

const roomOf = (venue) => `venue_${venue}`;
const enriched = (socket, event) => ({ ...event, correlationId: randomUUID(), venueId: socket.data.venue });
const beats = new Map();

io.on("connection", (socket) => {
  const { user, venue, role, correlationId } = socket.data;
  socket.join(roomOf(venue));
  socket.join(`role_${venue}_${role}`);
  socket.join(`user_${venue}_${user}`);

  socket.on("join_room", (payload, ack) => {
    if (payload?.venueId !== venue) return ack?.({ correlationId, success: false, error: "Access denied to specified venue" });
    const answer = { correlationId, success: true, message: `Already in venue room: ${venue}`, roomType: "venue", venueId: venue };
    ack?.(answer);
    socket.emit("room_joined", answer);
  });

  socket.on("tpv:heartbeat", (payload, ack) => {
    if (!payload?.terminalId || payload.venueId !== venue || !payload.health) return ack?.({ success: false, error: "Missing required fields" });
    const now = Date.now();
    if (now - (beats.get(payload.terminalId) ?? 0) < 30_000) return ack?.({ success: true, debounced: true });
    beats.set(payload.terminalId, now);
    const id = randomUUID();
    const { terminalId, healthScore, health, timestamp } = payload;
    io.to(roomOf(venue)).emit("terminal:heartbeat", enriched(socket, { id, terminalId, healthScore, health, timestamp }));
    ack?.({ success: true, id });
  });

  socket.on("tpv:log", (payload, ack) => {
    if (!payload?.level || !payload.message || !payload.terminalId || payload.venueId !== venue) {
      return ack?.({ success: false, error: "Missing required fields in log payload" });
    }
    const id = randomUUID();
    const { terminalId, level, tag, message, timestamp } = payload;
    io.to(roomOf(venue)).emit("terminal:log", enriched(socket, { id, terminalId, level, tag, message, timestamp }));
    ack?.({ success: true, id });
  });

  socket.on("payment_completed", (payload, ack) => {
    if (!payload?.paymentId || !(payload.amount > 0) || payload.venueId !== venue) {
      return ack?.({ correlationId, success: false, error: "Payment ID is required", statusCode: 400 });
    }
    const id = randomUUID();
    const event = enriched(socket, { ...payload, userId: user, status: "completed", timestamp: new Date().toISOString() });
    store([id, "payment_completed", payload.paymentId, Date.now(), JSON.stringify(event)], (seq) => {
      ack?.({
        correlationId, success: true, message: "Payment completed event broadcasted", eventType: "completed",
        paymentId: payload.paymentId, eventId: id, seq: Number(seq), durability: "stored",
      });
      socket.to(roomOf(venue)).emit("payment_completed", event);
    });
  });
});

http.listen(0, "127.0.0.1", () => console.log(http.address().port));
process.on("SIGTERM", () => process.exit(0));
