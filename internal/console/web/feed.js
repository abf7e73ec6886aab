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

async function identify() {
  try {
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
  } catch {
    timers.push(setTimeout(() => feed.who || identify(), 3000));
  }
}

export async function login(body) {
  await post("/api/v1/login", body); // throws Refused
  await identify();
}

export async function logout() {
  leave();
  try {
    await post("/api/v1/logout", {});
  } catch {
    // the cookie stays until the box answers again
  }
  await identify();
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
  every(10_000, async () => (feed.parked = feed.status?.uplink.parked ? (await get("/api/v1/events/parked")).parked : []));
  every(5000, catchUp); // what the socket did not say
  connect();
}

async function refreshStatus() {
  feed.status = await get("/api/v1/status");
  feed.heard = Date.now();
  boxTime(feed.status.clock.now);
}

export const gone = () => feed.heard > 0 && Date.now() - feed.heard > goneAfter;

export async function refreshHistory() {
  const hours = feed.hours;
  const [week, outages] = await Promise.all([get("/api/v1/history?hours=168"), optional("/api/v1/outages")]);
  const wanted = hours * 60;
  feed.week = week;
  feed.history = { ...week, waiting: week.waiting.slice(-wanted), down: week.down.slice(-wanted), from: Date.parse(week.from) + (week.waiting.length - wanted) * week.stepMs };
  feed.outages = outages?.outages ?? null;
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

// synced says whether the back-end has an event by now.
export const synced = (e) => e.origin === "cloud" || e.seq <= (feed.status?.journal.syncedThrough ?? 0);
