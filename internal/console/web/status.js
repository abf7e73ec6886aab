// One glance: is all well, if not since when and why, what waits, what to do.
import { h, icon } from "./dom.js";
import { byServer, feed, gone, refreshHistory } from "./feed.js";
import { t } from "./i18n.js";
import { cause, clock, now, number, size, span } from "./words.js";
import { chart, chartText, outageList, timeline } from "./chart.js";
import { kindName } from "./events.js";

const lowDisk = 256 << 20;
const stuckWrite = 5000; // a write under way for longer

const hop = (name) => feed.status?.way?.find((h) => h.name === name);

// mood is the state of everything in one word and one sentence.
export function mood() {
  const st = feed.status;
  if (gone()) {
    const time = clock(feed.heard);
    return { state: "down", title: t("hero_gone", { time }), sub: t("hero_gone_sub") };
  }
  if (!st) return { state: "unknown", title: "…", sub: "" };
  const n = st.journal.backlog.events;
  const safe = n ? t("hero_safe", { n: n === 1 ? 1 : number(n) }) : t("hero_safe_zero");
  const stuck = st.journal.stuckSince && now() - Date.parse(st.journal.stuckSince) > stuckWrite;
  if (st.journal.fault || stuck) return { state: "down", title: t("hero_fault"), sub: t("hero_fault_sub") };
  if (!["ok", "trim"].includes(st.journal.level)) return { state: "down", title: t("hero_room"), sub: t("hero_fault_sub") };
  const broken = st.way.find((h) => h.state === "down");
  if (broken) return { state: broken.name === "lan" ? "down" : "warn", title: t("hero_" + broken.name, { time: clock(broken.since) }), sub: safe, hop: broken };
  if (st.uplink.state === "off") return { state: "ok", title: t("hero_off"), sub: t("hero_off_sub") };
  if (st.uplink.state !== "online") return { state: "unknown", title: t("hero_starting"), sub: t("hero_starting_sub") };
  if (st.uplink.paused) return { state: "warn", title: t("hero_paused", { time: clock(st.uplink.paused.since) }), sub: t("hero_paused_sub", { n: n === 1 ? 1 : number(n) }) };
  const aside = st.uplink.parked;
  if (aside) return { state: "warn", title: t("hero_parked", { n: aside }), sub: t("hero_parked_sub") };
  if (n > 50) return { state: "ok", title: t("hero_draining"), sub: t("hero_draining_sub", { n: n === 1 ? 1 : number(n) }) };
  return { state: "ok", title: t("hero_ok"), sub: t(byServer() ? "hero_ok_sub_server" : "hero_ok_sub") };
}

export function statusView(redraw) {
  const m = mood();
  let st = feed.status;
  if (st && gone()) st = { ...st, way: st.way.map((hop) => ({ ...hop, state: "unknown", since: new Date(feed.heard).toISOString() })) };
  return [
    hero(m),
    st && way(st),
    st && gone() && h("p", { class: "muted", key: "stale" }, t("stale", { time: clock(feed.heard) })),
    st && notices(st),
    st && tiles(st),
    st && st.uplink.state !== "off" && backlog(redraw),
    st && st.uplink.state !== "off" && outages(),
  ];
}

function hero(m) {
  const [what, todo] = m.hop?.cause ? cause(m.hop.cause) : [];
  const error = m.hop && feed.status.uplink.error;
  return h(
    "section", { class: "hero " + m.state, "aria-labelledby": "mood" },
    icon(m.state === "ok" ? "ok" : m.state === "down" ? "down" : m.state === "warn" ? "warn" : "unknown"),
    h(
      "div", {},
      h("p", { id: "mood", class: "title", role: "status" }, m.title),
      h("p", {}, m.sub),
      what && h("p", { class: "todo" }, h("strong", {}, what), " ", todo),
      error && h("details", { class: "small" }, h("summary", {}, t("error")), h("code", {}, error)),
    ),
  );
}

function way(st) {
  return h(
    "section", { class: "card way", "aria-label": t("way") },
    h("ol", {}, st.way.map((hop) =>
      h(
        "li", { key: hop.name, class: hop.state },
        icon(hop.state),
        h("span", { class: "name" }, t(hop.name)),
        h("span", { class: "word" }, t(hop.state)),
        h("span", { class: "muted since" }, hop.state === "off" ? "" : t("since", { time: clock(hop.since) })),
      ))),
  );
}

function notices(st) {
  const list = [];
  const say = (state, key, holes) => list.push(h("li", { key, class: state }, icon(state === "down" ? "down" : "warn"), h("span", {}, t(key, holes))));
  if (st.uplink.parked) say("warn", "n_parked", { n: st.uplink.parked });
  if (st.journal.level !== "ok" && !st.journal.fault) say("down", "n_level", { reason: st.journal.levelReason ?? "" });
  if (st.journal.quarantined) say("down", "n_quarantine", { n: st.journal.quarantined });
  if (st.journal.stuckSince) say("down", "n_stuck");
  if (st.disk.totalBytes && st.disk.freeBytes < lowDisk) say("down", "n_disk", { free: size(st.disk.freeBytes) });
  if (st.journal.lifeYears > 0 && st.journal.lifeYears < 2) say("warn", "n_flash", { years: number(Math.round(st.journal.lifeYears * 10) / 10) });
  if (!st.clock.trusted) say("warn", "n_clock");
  if (st.boxes.state === "alone") say("warn", "n_boxes");
  if (st.discovery.state === "failing") say("warn", "n_discovery");
  if (st.uplink.warning) say("warn", "n_warning", { error: st.uplink.warning.error });
  if (st.uplink.rejectedAt && now() - Date.parse(st.uplink.rejectedAt) < 3600_000) say("warn", "n_rejected");
  if (!list.length) return null;
  return h("section", { class: "card notices", "aria-labelledby": "look" }, h("h2", { id: "look" }, t("look")), h("ul", {}, list));
}

function tiles(st) {
  const b = st.journal.backlog;
  const online = feed.terminals.filter((x) => x.isOnline).length;
  const last = feed.events[0];
  const tile = (key, label, big, small, href) =>
    h("a", { key, class: "tile", href }, h("span", { class: "label" }, label), h("span", { class: "big", id: "tile-" + key }, big), h("span", { class: "muted" }, small));
  return h(
    "section", { class: "tiles", "aria-label": t("status") },
    st.uplink.state !== "off" && tile("waiting", t("waiting"), number(b.events), b.events ? (b.oldestAgeMs ? t("waiting_oldest", { ago: t("ago", { span: span(b.oldestAgeMs) }) }) : t("events_n", { n: b.events })) : st.uplink.parked ? t("waiting_parked", { n: st.uplink.parked }) : t(byServer() ? "waiting_none_server" : "waiting_none"), "#events"),
    tile("terminals", t("terminals_online"), number(online), feed.terminals.length ? t("online_of", { online: number(online), all: number(feed.terminals.length) }) : t("nobody_yet"), "#terminals"),
    tile("last", t("last_event"), last ? span(now() - Date.parse(last.time)) : "–", last ? kindName(last.event) : t("no_events"), "#events"),
    tile("disk", t("disk"), size(st.disk.freeBytes), t("disk_free", { free: Math.round((100 * st.disk.freeBytes) / (st.disk.totalBytes || 1)) + " %" }), "#box"),
  );
}

function backlog(redraw) {
  const range = (hours, word) =>
    h("button", { type: "button", "aria-pressed": String(feed.hours === hours), onclick: async () => ((feed.hours = hours), await refreshHistory().catch(() => {}), redraw()) }, t(word));
  return h(
    "section", { class: "card", "aria-labelledby": "backlog" },
    h("div", { class: "head" }, h("h2", { id: "backlog" }, t("backlog")), h("div", { class: "choice", role: "group", "aria-label": t("range") }, range(1, "r1"), range(24, "r24"), range(168, "r168"))),
    chart(),
    h("p", { class: "muted small", id: "chart-text" }, chartText()),
  );
}

function outages() {
  return h("section", { class: "card", "aria-labelledby": "outages" }, h("h2", { id: "outages" }, t("outages")), timeline(), outageList());
}

