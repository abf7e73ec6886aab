// The dashboard of the existing system as a test sees it: the real Socket.IO
// client of the browser, one JSON line on stdout for each thing that happens,
// one JSON line on stdin for each thing to do.
//
//   node dashboard.mjs URL TOKEN VENUE [OPTIONS]
//
// OPTIONS is a JSON object laid over the Socket.IO client's options.
//
// Says:  {"t":"connect","sid":…,"recovered":…,"pid":…}  {"t":"disconnect","reason":…}
//        {"t":"connect_error","message":…}       {"t":"event","name":…,"raw":…}
//        {"t":"ack","id":…,"raw":…}              {"t":"ack","id":…,"error":…}
// "raw" is the JSON array of an event or ack as it came over the wire, byte for
// byte: name and payload, or the answer. Id 0 is the ack of join_room.
//
// Does:  {"emit":NAME,"payload":…,"ack":true,"id":1,"timeout":5000}
// It ends when stdin does.

import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [url, token, venue, options = "{}"] = process.argv.slice(2);

const socket = io(url, {
  auth: { token },
  transports: ["websocket", "polling"],
  autoConnect: false,
  ...JSON.parse(options),
});

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

// What arrived, as it arrived. The client parses a packet at once but hands it
// on a tick later, in order; so the texts wait here for their events.
const events = [];
const acks = new Map();
socket.io.on("open", () => {
  events.length = 0;
  acks.clear();
  socket.io.engine.on("data", (data) => {
    if (typeof data !== "string") return;
    const [, type, id, raw] = /^(\d)(\d*)(.*)$/s.exec(data) ?? [];
    if (type === "2") events.push(raw);
    if (type === "3") acks.set(Number(id), raw);
    if (type === "5") events.push(undefined); // binary: no text of its own
  });
});

function emit(name, payload, id, timeout) {
  const packetId = socket.ids; // what the client will number this packet
  socket.timeout(timeout ?? 10_000).emit(name, payload, (error) => {
    if (error) say({ t: "ack", id, error: error.message });
    else say({ t: "ack", id, raw: acks.get(packetId) });
    acks.delete(packetId);
  });
}

socket.on("connect", () => {
  say({ t: "connect", sid: socket.id, recovered: socket.recovered, pid: socket._pid });
  emit("join_room", { roomType: "venue", venueId: venue }, 0);
});
socket.on("disconnect", (reason) => say({ t: "disconnect", reason }));
socket.on("connect_error", (error) => say({ t: "connect_error", message: error.message, data: error.data }));
socket.onAny((name) => say({ t: "event", name, raw: events.shift() }));

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    if (command.emit && command.ack) emit(command.emit, command.payload, command.id, command.timeout);
    else if (command.emit) socket.emit(command.emit, command.payload);
  })
  .on("close", () => process.exit(0)); // the test is gone, and so are we

socket.connect();
