// What the page knows of the box, and how it learns it: the status every two
// seconds, and over the box's own Socket.IO a word whenever something happened,
// upon which it asks for what is new. So an event is seen at once, in order and
// whole, and a page that was asleep catches up with one question.
import { get, post, Refused } from "./api.js";
import { io } from "./lib/socket.io.esm.min.js";
import { boxTime } from "./words.js";

const statusEvery = 2000;
const goneAfter = 6000; // without an answer
const mostEvents = 1000; // kept in the page
const batch = 200;

export const feed = {
  who: undefined, // session; null: not logged in; undefined: not known yet
  refused: "", // why the login is of no use: role, no_box
  venue: "",
  status: null,
  heard: 0, // when the box last answered, by this device
  live: false,
  terminals: [],
  events: [], // the newest first
  parked: [],
  history: null,
  week: null,
  outages: null, // null: the box keeps no record of them
  pairing: null,
  hours: 24,
};

let changed = () => {};
let timers = [];
let term = 0; // of a login: rounds of an earlier one end
let socket = null;

// begin asks who is logged in and calls back whenever something has changed.
export async function begin(onChange) {
  changed = onChange;
  await identify();
}

let leaving = false; // the box has not heard of the logout

async function identify() {
  try {
    if (leaving) await goodbye();
    feed.who = await get("/api/v1/session");
    feed.refused = "";
  } catch (err) {
    feed.who = null;
    feed.refused = err.status === 0 ? "no_box" : "";
  }
  if (feed.who) follow();
  else greet();
  changed();
}

// greet learns the venue's name for the login; the box tells that to everybody.
async function greet() {
  try {
    feed.venue = (await get("/")).venue;
    feed.refused = "";
    changed();
    if (leaving) throw new Refused(0); // say it again
  } catch {
    timers.push(setTimeout(() => feed.who || identify(), 3000));
  }
}

export async function login(body) {
  leaving = false;
  await post("/api/v1/login", body); // throws Refused
  await identify();
}

export async function logout() {
  leave();
  leaving = true;
  await identify();
}

// goodbye fails only where the box does not answer: it is said again then.
async function goodbye() {
  try {
    await post("/api/v1/logout", {});
  } catch (err) {
    if (err.status === 0) throw err;
  }
  leaving = false;
}

function leave() {
  term++;
  timers.forEach(clearTimeout);
  timers = [];
  socket?.close();
  socket = null;
  Object.assign(feed, { who: null, status: null, live: false, terminals: [], events: [], parked: [], history: null, week: null, outages: null });
}

// every asks now and again and again; a page that nobody sees asks seldom.
function every(ms, ask) {
  const ours = term;
  const round = async () => {
    let why = 0;
    try {
      await ask();
    } catch (err) {
      if (!(err instanceof Refused)) throw err;
      why = err.status;
    }
    if (ours !== term) return;
    if (why === 401) return leave(), identify();
    if (why === 403) feed.refused = "role";
    changed();
    if (why === 403) return;
    timers.push(setTimeout(round, document.hidden ? ms * 5 : ms));
    if (timers.length > 100) timers = timers.slice(-20);
  };
  round();
}

function follow() {
  every(statusEvery, refreshStatus);
  every(5000, async () => (feed.terminals = (await get("/api/v1/terminals")).terminals));
  every(30_000, refreshHistory);
  every(10_000, refreshParked);
  every(5000, catchUp); // what the socket did not say
  connect();
}

async function refreshStatus() {
  const st = await get("/api/v1/status");
  feed.status = st;
  feed.heard = Date.now();
  boxTime(st.clock.now);
  keepUp(st);
  if (st.uplink.parked !== feed.parked.length) soon(refreshParked);
}

// refreshParked asks for the events anew when something was decided about one:
// what became of it is told with them.
async function refreshParked() {
  const were = feed.parked;
  feed.parked = feed.status?.uplink.parked ? (await get("/api/v1/events/parked")).parked : [];
  if (were.every(parked)) return;
  feed.events = [];
  await poke();
}

let asked = 0; // when the record of outages last was, because it was behind

// keepUp has the past end where the status is now: what waits belongs to this
// minute, and an outage to the list as soon as it is one.
function keepUp(st) {
  const past = feed.history;
  const most = Math.max(past?.waiting.at(-1) ?? 0, st.journal.backlog.events);
  if (past && past.waiting.at(-1) !== most) feed.history = { ...past, waiting: [...past.waiting.slice(0, -1), most] };
  const down = st.way.some((hop) => hop.state === "down" && hop.name !== "lan");
  const told = feed.outages?.some((o) => !o.end);
  if (feed.outages && down !== told && Date.now() - asked > 3 * statusEvery) {
    asked = Date.now();
    soon(refreshOutages);
  }
}

async function refreshOutages() {
  feed.outages = (await optional("/api/v1/outages"))?.outages ?? null;
}

// byServer: it is the server that confirms, so what the back-end has is not known.
export const byServer = () => feed.status?.uplink.confirm === "broker";

export const gone = () => feed.heard > 0 && Date.now() - feed.heard > goneAfter;

export async function refreshHistory() {
  const hours = feed.hours;
  const [week] = await Promise.all([get("/api/v1/history?hours=168"), refreshOutages()]);
  const wanted = hours * 60;
  feed.week = week;
  feed.history = { ...week, waiting: week.waiting.slice(-wanted), down: week.down.slice(-wanted), from: Date.parse(week.from) + (week.waiting.length - wanted) * week.stepMs };
  if (feed.status) keepUp(feed.status);
}

// optional is for what not every box has.
async function optional(path) {
  try {
    return await get(path);
  } catch (err) {
    if (err.status === 404 || err.status === 403) return null;
    throw err;
  }
}

function connect() {
  socket = io({ transports: ["websocket", "polling"], reconnectionDelayMax: 5000 });
  socket.on("connect", () => {
    feed.live = true;
    poke();
    changed();
  });
  socket.on("disconnect", () => {
    feed.live = false;
    soon(refreshStatus);
    changed();
  });
  socket.on("connect_error", () => {
    feed.live = false;
    changed();
    if (!socket?.active && feed.who) timers.push(setTimeout(() => socket?.connect(), 5000));
  });
  let uplink = "";
  socket.on("sync_status", (said) => {
    const turned = uplink !== "" && uplink !== said.uplink;
    uplink = said.uplink;
    if (feed.status) {
      feed.status.journal.syncedThrough = said.syncedThrough;
      feed.status.journal.storedThrough = Math.max(said.storedThrough, feed.status.journal.storedThrough);
      feed.status.journal.backlog.events = said.pending;
    }
    if (turned) {
      soon(refreshStatus);
      timers.push(setTimeout(() => soon(refreshHistory), 2000));
    }
    if (said.storedThrough > newest()) poke();
    changed();
  });
  socket.onAny((name) => {
    if (name !== "sync_status" && !name.startsWith("terminal:heartbeat") && name !== "terminal:log") poke();
  });
}

async function soon(ask) {
  try {
    await ask();
    changed();
  } catch {
    // the next round tells
  }
}

const newest = () => feed.events[0]?.seq ?? 0;

let catching = false;
let again = false;

// poke catches up at once; while it does, once more is enough for all.
async function poke() {
  again = true;
  if (catching) return;
  while (again && feed.who) {
    again = false;
    await soon(catchUp);
  }
}

async function catchUp() {
  if (catching) return;
  catching = true;
  try {
    for (let more = true; more; ) {
      const from = feed.events.length ? `after=${newest()}&` : "";
      const { events, storedThrough } = await get(`/api/v1/events?${from}limit=${batch}`);
      if (!from && !events.length) return;
      if (storedThrough - newest() > mostEvents && from) {
        feed.events = []; // asleep for long: begin with the newest again
        continue;
      }
      const known = newest();
      feed.events = [...events.filter((e) => e.seq > known).reverse(), ...feed.events].slice(0, mostEvents);
      more = events.length === batch && newest() < storedThrough;
    }
  } finally {
    catching = false;
  }
}

// parked is what the back-end has been asked to take and will not, or that waits
// behind it.
export const parked = (e) => feed.parked.find((p) => p.seq === e.seq);

// place is the word for how far an event has come.
export function place(e) {
  if (parked(e) || e.decided === "drop") return "not_taken";
  if (e.decided) return "moved";
  if (!synced(e)) return "in_box";
  return byServer() && e.origin !== "cloud" ? "at_server" : "in_cloud";
}

// synced says whether the back-end has an event by now.
export const synced = (e) => e.origin === "cloud" || (e.seq <= (feed.status?.journal.syncedThrough ?? 0) && !parked(e) && !e.decided);
