// A back-end of Avoqado Edge boxes: each event has its effect exactly once, in
// order, whenever this process is killed. The channels and schemas are described
// at /docs and /asyncapi.yaml of every box.
//
//   node backend.mjs mqtt://BROKER:1883 VENUE FILE
//
// BACKEND.md shows its regions and says why each is as it is. For practice:
// REFUSE=id refuses that event, ALERT='{"level":"info","title":"…","message":"…"}'
// tells the venue, or whom TARGET='{"tables":["t1"]}' names, COMMAND="BOX
// status.report" asks a box, CONFIG='{"version":2}' configures all boxes.
import { randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";

import Database from "better-sqlite3";
import mqtt from "mqtt";

const topics = (venue) => `avoqado/v1/venues/${venue}`;

// region store
// The effect and the position are in one database, so one transaction writes both.
export function openStore(file) {
  const db = new Database(file);
  db.pragma("journal_mode = WAL");
  db.pragma("synchronous = FULL"); // what is confirmed survives a power cut
  db.exec(`
    -- In place of your tables of payments and orders. n is the order of effects.
    CREATE TABLE IF NOT EXISTS effect (n INTEGER PRIMARY KEY, source TEXT, epoch TEXT, sequence INTEGER, id TEXT, type TEXT, live INTEGER, data TEXT, UNIQUE (id, type));
    CREATE TABLE IF NOT EXISTS position (source TEXT, epoch TEXT, through INTEGER, PRIMARY KEY (source, epoch));
    CREATE TABLE IF NOT EXISTS early (source TEXT, epoch TEXT, sequence INTEGER, PRIMARY KEY (source, epoch, sequence));
    CREATE TABLE IF NOT EXISTS refused (source TEXT, epoch TEXT, sequence INTEGER, reason TEXT, event TEXT, PRIMARY KEY (source, epoch, sequence));
  `);
  return db;
}
// endregion

export class Backend {
  constructor(db, refuse = () => undefined) {
    this.refuse = refuse; // returns why an event will never be taken, or undefined
    const sql = (text) => db.prepare(text);
    this.sql = {
      position: sql("SELECT through FROM position WHERE source = ? AND epoch = ?").pluck(),
      move: sql("INSERT INTO position VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET through = excluded.through"),
      effect: sql("INSERT INTO effect (source, epoch, sequence, id, type, live, data) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id, type) DO NOTHING"),
      isEarly: sql("SELECT 1 FROM early WHERE source = ? AND epoch = ? AND sequence = ?").pluck(),
      addEarly: sql("INSERT INTO early VALUES (?, ?, ?)"),
      dropEarly: sql("DELETE FROM early WHERE source = ? AND epoch = ? AND sequence <= ?"),
      addRefused: sql("INSERT INTO refused VALUES (?, ?, ?, ?, ?)"),
      refused: sql("SELECT reason FROM refused WHERE source = ? AND epoch = ? AND sequence = ?").pluck(),
    };
    // Each is one transaction. After a kill inside it nothing of the batch has
    // happened, and the box sends it again; after a kill behind it all of it has,
    // and is skipped when it comes again.
    this.main = db.transaction((batch) => this.takeMain(batch));
    this.live = db.transaction((batch) => this.takeLive(batch));
  }

  // region main
  // What the event does, here: it is kept, once for its id and type. JSON.parse
  // turns 1.50 into 1.5; amounts that must stay as they came are texts in the
  // events that have them.
  apply(e, live) {
    this.sql.effect.run(e.source, e.epoch, Number(e.sequence), e.id, e.type, live ? 1 : 0, JSON.stringify(e.data));
  }

  // events and events/gzip: all events, in order. Returns what to say on acks.
  takeMain(batch) {
    let answer;
    for (const e of batch) {
      const at = [e.source, e.epoch];
      const sequence = Number(e.sequence); // exact up to 2^53
      let through = this.sql.position.get(...at);
      answer ??= { epoch: e.epoch, through: 0, rejected: [] };
      if (through !== undefined && sequence <= through) {
        // Known. What was refused is named again.
        const reason = this.sql.refused.get(...at, sequence);
        if (reason) answer.rejected.push({ sequence: e.sequence, reason });
      } else if (through !== undefined && e.previous && Number(e.previous) > through) {
        // A message before this one is missing. To confirm the old position
        // again makes the box send from there.
        answer.through = through;
        break;
      } else {
        const reason = this.sql.isEarly.get(...at, sequence) ? undefined : this.refuse(e);
        if (reason) {
          this.sql.addRefused.run(...at, sequence, reason, JSON.stringify(e));
          answer.rejected.push({ sequence: e.sequence, reason });
        } else if (!this.sql.isEarly.get(...at, sequence)) {
          this.apply(e, false);
        }
        this.sql.dropEarly.run(...at, sequence); // its copies are behind the position now
        this.sql.move.run(...at, sequence);
        through = sequence;
      }
      answer.through = through;
    }
    return answer;
  }
  // endregion

  // region live
  // events/live: copies of events that the box sends ahead of its backlog. They
  // come again on the main lane. A back-end that leaves this out loses nothing
  // but time. Nothing is confirmed here.
  takeLive(batch) {
    for (const e of batch) {
      const place = [e.source, e.epoch, Number(e.sequence)];
      const through = this.sql.position.get(e.source, e.epoch) ?? 0;
      if (place[2] <= through || this.sql.isEarly.get(...place) || this.refuse(e)) continue;
      this.apply(e, true);
      this.sql.addEarly.run(...place);
    }
  }
  // endregion
}

// region listen
// The session is kept by the broker while this process is away (clean: false),
// under a client id that is always the same. A message is confirmed to the
// broker after it was handled: mqtt.js sends the PUBACK when handleMessage is done.
export async function listen(url, venue, backend, answered = () => {}) {
  const client = mqtt.connect(url, { clientId: `backend-${venue}`, clean: false, protocolVersion: 4, keepalive: 30 });
  client.handleMessage = (packet, done) => {
    try {
      if (packet.topic.endsWith("/commands/results")) {
        answered(JSON.parse(packet.payload));
        return done();
      }
      const [, box, lane] = packet.topic.match(/^(.*)\/events(.*)$/);
      const batch = JSON.parse(lane === "/gzip" ? gunzipSync(packet.payload, { maxOutputLength: 1 << 20 }) : packet.payload);
      if (lane === "/live") {
        backend.live(batch);
      } else {
        const answer = backend.main(batch);
        if (answer) client.publish(`${box}/acks`, JSON.stringify(answer), { qos: 1 });
      }
      done();
    } catch (err) {
      console.error(`${packet.topic}: ${err.message}`);
      if (err instanceof SyntaxError || err.code?.startsWith("Z_") || err.code === "ERR_BUFFER_TOO_LARGE") return done(); // nobody can read it
      process.exit(1); // the disk is full or ill: unconfirmed, it comes again
    }
  };
  await new Promise((connected) => client.once("connect", connected));
  const boxes = `${topics(venue)}/boxes/+`;
  await client.subscribeAsync([`${boxes}/events`, `${boxes}/events/gzip`, `${boxes}/events/live`, `${boxes}/commands/results`], { qos: 1 });
  return client;
}
// endregion

// region broadcast
// Something for the people of a venue; the same id is shown once.
export const broadcast = (client, venue, event, payload, target = { venue: true }, id = randomUUID()) =>
  client.publishAsync(`${topics(venue)}/broadcasts`, JSON.stringify({ id, event, payload, target }), { qos: 1 });

// endregion

// region command
// An order to one box, under an id that is kept until its answer is there. The
// answer {id, status, result, error} comes on commands/results, also when the box
// is away for days; the same id again gets the first answer and does nothing.
export const command = (client, venue, box, type, params, id = randomUUID(), expiresAt = new Date(Date.now() + 3_600_000).toISOString()) =>
  client.publishAsync(`${topics(venue)}/boxes/${box}/commands`, JSON.stringify({ id, type, params, expiresAt }), { qos: 1 });
// endregion

// region config
// What all boxes of a venue go by: {version, venueStatus, jwks, revoked}. The broker
// keeps it for a box that is away. A box takes it if its version is newer.
export const configure = (client, venue, config) =>
  client.publishAsync(`${topics(venue)}/config`, JSON.stringify({ ...config, serverTime: new Date().toISOString() }), { qos: 1, retain: true });
// endregion

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [url, venue, file] = process.argv.slice(2), refuse = (e) => (e.id === process.env.REFUSE ? "refused for practice" : undefined);
  const answered = (answer) => console.log(JSON.stringify(answer));
  const client = await listen(url, venue, new Backend(openStore(file), refuse), answered);
  console.log("listening");
  const { ALERT, TARGET, COMMAND, CONFIG } = process.env;
  if (ALERT) await broadcast(client, venue, "system_alert", JSON.parse(ALERT), TARGET && JSON.parse(TARGET));
  if (COMMAND) await command(client, venue, ...COMMAND.split(" "));
  if (CONFIG) await configure(client, venue, JSON.parse(CONFIG));
}
