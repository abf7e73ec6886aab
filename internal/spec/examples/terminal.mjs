// A terminal of Avoqado Edge in Node. TERMINALS.md shows its regions and says why
// each is as it is. Events and acks are described at /docs of every box.
//
//   node terminal.mjs BOX TOKEN_FILE SERIAL FOLDER
//
// BOX is the text of the box's QR code (avoqado-edge pair), or a URL. A line of
// JSON on stdin is a sale: {"event":"payment_completed","payload":{…}}. What
// happens is said on stdout, a line of JSON each.
import { createHash, createPublicKey, randomBytes, randomUUID, verify, X509Certificate } from "node:crypto";
import fs from "node:fs";
import { networkInterfaces } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

import { Bonjour } from "bonjour-service";
import { io } from "socket.io-client";

// region pairing
// What the QR code of a box says. No secret: keep it as long as the app is installed.
export function readPairing(text) {
  const url = new URL(text);
  const q = url.searchParams;
  if (url.protocol !== "avoqado-edge:" || url.host !== "pair" || q.get("v") !== "1") throw new Error("this is no QR code of a box");
  return { venue: q.get("venue"), key: q.get("key"), addresses: q.getAll("a") };
}
// endregion

// region discover
// Returns the box at the address where it was last, at one of the QR code, or
// wherever mDNS says; whoever answers must prove to be the box that was paired.
export async function findBox(pairing, lastAddress) {
  const known = [lastAddress, ...pairing.addresses].filter(Boolean);
  try {
    return await Promise.any(known.map((address) => ask(address, pairing)));
  } catch {
    return browse(pairing, 5000); // the router gave it another address
  }
}

// Asks on each network by its address: where the router has died there may be no
// default route, and multicast needs one or the other.
function browse(pairing, ms) {
  const own = Object.values(networkInterfaces()).flat().filter((a) => a.family === "IPv4" && !a.internal);
  const asking = own.map((a) => new Bonjour({ interface: a.address, bind: "0.0.0.0" }));
  const found = new Promise((resolve, reject) => {
    setTimeout(reject, ms, new Error("no box of this venue answers"));
    for (const bonjour of asking) {
      bonjour.find({ type: "avoqado-edge" }, ({ addresses = [], port }) => {
        for (const a of addresses) ask(a.includes(":") ? `[${a}]:${port}` : `${a}:${port}`, pairing).then(resolve, () => {});
      });
    }
  });
  return found.finally(() => asking.forEach((bonjour) => bonjour.destroy()));
}
// endregion

// region card
// Asks who is there. mDNS and addresses are hearsay: the signed card is proof. It
// must be made for this question, by the key of the QR code, for this address.
async function ask(address, pairing) {
  const nonce = randomBytes(16).toString("hex");
  const response = await fetch(`http://${address}/.well-known/avoqado-edge?nonce=${nonce}`, { signal: AbortSignal.timeout(2000) });
  const [head, payload, signature] = (await response.json()).jws.split(".");
  const { alg, typ, jwk } = JSON.parse(Buffer.from(head, "base64url"));
  const key = createPublicKey({ key: jwk, format: "jwk" });
  const card = JSON.parse(Buffer.from(payload, "base64url"));
  const proven =
    alg === "EdDSA" && typ === "avoqado-edge-card+jws" && key.asymmetricKeyType === "ed25519" &&
    createHash("sha256").update(key.export({ type: "spki", format: "der" })).digest("hex") === pairing.key &&
    verify(null, Buffer.from(`${head}.${payload}`), key, Buffer.from(signature, "base64url")) &&
    card.nonce === nonce && card.venue === pairing.venue && card.addresses.includes(address);
  if (!proven) throw new Error(`${address} is not the box that was paired`);
  if (!card.tls) return { address, url: `http://${address}` };
  return { address, url: `https://${address}`, ca: card.fingerprint && (await authority(address, card.fingerprint)) };
}
// endregion

// region pin
// The box's own CA. It comes over plain HTTP, so it is believed for its
// fingerprint alone, which stands on the signed card and in the QR code.
async function authority(address, fingerprint) {
  const response = await fetch(`http://${address}/ca.crt`, { signal: AbortSignal.timeout(2000) });
  const pem = await response.text();
  if (createHash("sha256").update(new X509Certificate(pem).raw).digest("hex") !== fingerprint) throw new Error(`${address} shows another CA`);
  return pem; // give it to io() as "ca": then this CA counts, and no other
}
// endregion

// region outbox
// What the box has to get, a file each, oldest first. An app that has a database
// makes it a table, and writes the row in the transaction of the sale.
export class Outbox {
  constructor(dir) {
    this.dir = dir;
    fs.mkdirSync(path.join(dir, "refused"), { recursive: true });
  }

  // Returns when the event is on disk. The key is made here, once: every try to
  // send it, also after a power cut, bears the same.
  add(event, payload) {
    const last = this.files().at(-1) ?? "0";
    const name = `${String(parseInt(last, 10) + 1).padStart(12, "0")}.json`;
    write(this.dir, name, { event, payload: { ...payload, idempotencyKey: randomUUID() } });
  }

  files() {
    return fs.readdirSync(this.dir).filter((name) => name.endsWith(".json")).sort();
  }

  oldest() {
    const [name] = this.files();
    return name && { name, ...JSON.parse(fs.readFileSync(path.join(this.dir, name), "utf8")) };
  }

  done({ name }) {
    fs.rmSync(path.join(this.dir, name));
  }

  // Puts it aside, for a person to look at, under its key: numbers come again.
  refuse({ name, payload }) {
    fs.renameSync(path.join(this.dir, name), path.join(this.dir, "refused", `${payload.idempotencyKey}.json`));
  }
}

// Returns when the file is on disk, whole.
function write(dir, name, value) {
  const file = fs.openSync(path.join(dir, `${name}.new`), "w");
  fs.writeSync(file, JSON.stringify(value));
  fs.fsyncSync(file);
  fs.closeSync(file);
  fs.renameSync(path.join(dir, `${name}.new`), path.join(dir, name));
  const folder = fs.openSync(dir, "r");
  fs.fsyncSync(folder); // the name, too
  fs.closeSync(folder);
}
// endregion

// region inbox
// What this terminal was asked to do, a file for each id: {event, asked, result,
// told}. What is in here is not begun again, after a power cut in the middle either.
export class Inbox {
  constructor(dir) {
    this.dir = dir;
    fs.mkdirSync(dir, { recursive: true });
  }

  get(id) {
    const file = path.join(this.dir, this.name(id));
    return fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) : undefined;
  }

  // Returns when it is on disk.
  put(id, known) {
    write(this.dir, this.name(id), known);
  }

  name(id) {
    return `${encodeURIComponent(id)}.json`;
  }

  // The ids of what has not been told yet.
  open() {
    const names = fs.readdirSync(this.dir).filter((name) => name.endsWith(".json"));
    return names.map((name) => decodeURIComponent(name.slice(0, -5))).filter((id) => !this.get(id).told);
  }
}
// endregion

export class Terminal {
  constructor({ serial, tokens, outbox, inbox, work, find, say }) {
    Object.assign(this, { serial, tokens, outbox, inbox, work, find, say, failures: 0, missed: 0, draining: false, renewing: false });
    this.cut = inbox.open(); // by a power cut, before this start
  }

  // region connect
  // "find" is findBox with what the app knows.
  async connect(box) {
    box ??= await this.find();
    this.say({ t: "box", message: box.url });
    this.socket = io(box.url, {
      ca: box.ca,
      transports: ["websocket"],
      reconnectionDelayMax: 30_000,
      // Asked at each connect, so that a new token is used as soon as there is one.
      // The versions say that it remembers charges, and answers what became of one.
      auth: (send) => send({ token: this.tokens.current(), terminalId: this.serial, terminalPaymentAckVersion: 1, terminalPaymentProbeVersion: 1 }),
    });
    this.socket.on("connect", () => this.connected());
    this.socket.on("connect_error", (err) => this.notConnected(err));
    this.socket.on("sync_status", (status) => this.say({ t: "status", message: forWaiters(status, this.outbox.files().length) }));
    this.socket.on("sync_required", ({ reason }) => this.reload(reason));
    this.socket.on("authentication_success", ({ lease }) => lease && this.renew(lease));
    this.socket.on("tpv_command", (command) => this.obey(command));
    this.socket.on("terminal:payment_request", (request, ...more) => this.charge(request, more.at(-1)));
    this.socket.on("terminal:payment_probe", (probe) => this.probe(probe));
    this.socket.onAny((name, payload) => this.heard(name, payload));
  }

  connected() {
    this.say({ t: "connect", recovered: this.socket.recovered });
    this.failures = this.missed = 0;
    // Events of the venue come by themselves; those of a table or an order alone
    // come to who has joined its room, after each connect.
    this.socket.emit("join_room", { roomType: "venue", venueId: this.tokens.venue });
    this.drain();
  }
  // endregion

  // region recover
  // socket.recovered: every event that was missed comes now, in order, each once,
  // also after a restart of the box. The client does that by itself: it keeps the
  // second argument of each event, its place in the journal, and shows it to the
  // box when it comes back. If not recovered, what may be of use still comes,
  // marked "replayed"; and whoever has missed what the box no longer has is told
  // sync_required: then fetch what the screen shows anew.
  reload(reason) {
    this.say({ t: "reload", reason });
  }

  // An event may be heard twice, so set what is so ("order o1 is READY") instead
  // of counting ("one more order is ready"). A replayed one makes no sound.
  heard(name, payload) {
    this.say({ t: "event", name, raw: JSON.stringify([name, payload]) });
  }
  // endregion

  // region drain
  // Sends what the outbox holds, one at a time, until it is empty.
  async drain() {
    if (this.draining) return;
    this.draining = true;
    for (let item; this.socket.connected && (item = this.outbox.oldest()); ) {
      // No ack says nothing: it may be stored, or not. It is sent again under the
      // same key, and the box answers as it did the first time ("duplicate").
      const ack = await this.socket.timeout(10_000).emitWithAck(item.event, item.payload).catch(() => undefined);
      const own = /^(tpv_|terminal:)/.test(item.event); // what a terminal says of itself: success alone, no code
      if (ack?.durability === "stored" || (own && ack?.success)) {
        this.outbox.done(item); // on the disk of the box
        this.failures = 0;
        this.say({ t: "stored", name: item.payload.idempotencyKey, raw: JSON.stringify([ack]) });
      } else if (ack && !ack.retryable && ack.code !== "authentication_required" && (!own || this.failures > 8)) {
        this.outbox.refuse(item); // it will never be taken, and must not stop the others
        this.failures = 0;
        this.say({ t: "refused", name: item.payload.idempotencyKey, message: ack.error });
      } else {
        await this.backoff(ack?.retryAfterMs);
      }
    }
    this.draining = false;
  }

  // Waits 1 s, 2 s, 4 s … 30 s, with jitter so that terminals do not come in step.
  backoff(atLeast = 0) {
    const ms = Math.min(30_000, 1000 * 2 ** Math.min(this.failures++, 5)) * (0.5 + Math.random() / 2);
    return new Promise((wake) => setTimeout(wake, Math.max(ms, atLeast)));
  }

  sell(event, payload) {
    this.outbox.add(event, payload); // first to disk: from here on it cannot be lost
    this.drain();
  }
  // endregion

  // region asked
  // "work" is the app: carryOut and charge do it, outcome asks the card processor
  // what became of a charge that was cut off, and charges nothing.
  async obey(command) {
    const { commandId } = command, about = { commandId, terminalId: this.serial };
    const known = this.inbox.get(commandId);
    if (known) return known.result && this.sell("tpv_command_result", known.result); // as it was told before
    this.inbox.put(commandId, { event: "tpv_command_result", asked: command });
    this.sell("tpv_command_ack", about);
    this.sell("tpv_command_started", about);
    this.finish(commandId, { ...about, ...(await this.work.carryOut(command)) });
  }

  async charge(request, answer) {
    const { requestId } = request;
    const known = this.inbox.get(requestId);
    // One id is one charge: not another amount, and not what was said to be unknown.
    const accepted = !known || (known.asked?.amountCents === request.amountCents && known.asked?.tipCents === request.tipCents);
    if (!known) this.inbox.put(requestId, { event: "terminal:payment_result", asked: request });
    answer({ accepted, requestId }); // within 5 s, and not before it is on disk
    if (known) return accepted && known.result && this.sell("terminal:payment_result", known.result);
    this.finish(requestId, await this.work.charge(request));
  }

  probe({ requestId }) {
    const known = this.inbox.get(requestId);
    if (!known) this.inbox.put(requestId, { told: true }); // should it come after all, it is not charged
    const disposition = known?.result ? "RESOLVED" : known?.asked ? "ACTIVE" : "NOT_FOUND";
    this.sell("terminal:payment_probe_result", { requestId, disposition, finalResult: known?.result });
  }

  // The result is on disk, then in the outbox, then marked as told. A power cut in
  // between tells it twice, which the box knows, and never not at all.
  finish(id, result) {
    const known = { ...this.inbox.get(id), result };
    this.inbox.put(id, known);
    this.sell(known.event, result);
    this.inbox.put(id, { ...known, told: true });
  }

  // After a start: what was cut off before it is told, and not done again.
  async resume() {
    for (const id of this.cut) {
      const { event, asked, result } = this.inbox.get(id);
      const cut = { commandId: id, terminalId: this.serial, resultStatus: "FAILED", errorMessage: "interrupted" };
      this.finish(id, result ?? (event === "tpv_command_result" ? cut : await this.work.outcome(asked)));
    }
  }
  // endregion

  // region token
  async notConnected(err) {
    this.say({ t: "connect_error", message: err.message });
    if (this.socket.active) {
      // No way to the box. The client tries on by itself; now and then see whether
      // the box is somewhere else.
      if (++this.missed % 3 === 0) await this.moved();
      return;
    }
    // The box has refused, and then the client does not try again by itself.
    if (/token/i.test(err.message)) await this.tokens.renew().catch(() => {});
    await this.backoff();
    this.socket.connect();
  }

  async moved() {
    const box = await this.find().catch(() => undefined);
    if (!box || box.url === this.socket.io.uri || this.socket.connected) return;
    this.socket.close();
    await this.connect(box);
  }

  // The token has ended, and is accepted since the internet is gone. Get a new one
  // as soon as there is a way, and show it.
  async renew(lease) {
    this.say({ t: "lease", message: lease.until });
    if (this.renewing) return;
    this.renewing = true;
    while (!(await this.tokens.renew().catch(() => false))) await this.backoff();
    this.renewing = false;
    this.socket.disconnect().connect();
  }
  // endregion
}

// region status
// What a waiter reads. "kept" is what this terminal has not handed over yet.
export function forWaiters(status, kept) {
  if (kept > 0) return `${kept} por entregar a la caja`;
  if (status.uplink === "offline") return `Sin internet. Todo guardado en la caja: ${status.pendingForThisTerminal} de esta terminal por enviar`;
  if (status.pending > 0) return `Enviando: faltan ${status.pending}`;
  return "Al día";
}
// endregion

// In place of the app and its card reader, for practice: a file has what cards were
// charged with. HOLD=1 is a customer who takes for ever to fetch his receipt.
function practice(folder, say) {
  const file = path.join(folder, "charged");
  const charged = () => (fs.existsSync(file) ? fs.readFileSync(file, "utf8").split("\n") : []);
  const success = ({ requestId }) => ({ requestId, status: "success", paymentId: `pay-${requestId}`, completedAt: new Date().toISOString() });
  return {
    carryOut: async ({ commandId }) => {
      say({ t: "doing", name: commandId });
      return { resultStatus: "SUCCESS" };
    },
    charge: async (request) => {
      fs.appendFileSync(file, `${request.requestId}\n`);
      say({ t: "charged", name: request.requestId });
      if (process.env.HOLD) await new Promise(() => {});
      return success(request);
    },
    outcome: async (request) =>
      charged().includes(request.requestId) ? success(request) : { requestId: request.requestId, status: "failed", outcomeEvidence: "PRE_AUTHORIZATION" },
  };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [where, tokenFile, serial, folder] = process.argv.slice(2);
  const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
  // In place of the app's login: the file holds what the back-end gave last.
  const tokens = {
    token: fs.readFileSync(tokenFile, "utf8"),
    current: () => tokens.token,
    renew: async () => tokens.token !== (tokens.token = fs.readFileSync(tokenFile, "utf8")),
  };
  tokens.venue = JSON.parse(Buffer.from(tokens.token.split(".")[1], "base64url")).venueId;
  let last;
  const find = async () => {
    if (/^https?:/.test(where)) return { url: where };
    const box = await findBox(readPairing(where), last);
    last = box.address; // an app keeps it over its restarts
    return box;
  };
  const outbox = new Outbox(folder), inbox = new Inbox(path.join(folder, "asked"));
  const terminal = new Terminal({ serial, tokens, outbox, inbox, work: practice(folder, say), find, say });
  await terminal.connect();
  await terminal.resume();
  createInterface({ input: process.stdin })
    .on("line", (line) => {
      const { event, payload } = JSON.parse(line);
      terminal.sell(event, payload);
    })
    .on("close", () => process.exit(0));
}
