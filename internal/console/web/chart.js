// Pictures of the past: how much waited, with the outages shaded, and the week.
import { h } from "./dom.js";
import { feed, gone } from "./feed.js";
import { lang, t } from "./i18n.js";
import { cause, clock, now, number, span, weekday } from "./words.js";

/* global uPlot */

let plot = null;
let painted = ""; // what the plot was made for

export const chart = () => h("div", { id: "chart", key: "chart", class: "chart", "data-keep": "", role: "img", "aria-describedby": "chart-text", "aria-labelledby": "backlog" });

// chartText says what the picture shows.
export function chartText() {
  const f = feed.history;
  if (!f || f.waiting.every((n) => n === null)) return t("chart_none");
  const most = Math.max(...f.waiting.map((n) => n ?? 0));
  const shade = runs(f, 0, f.down.length).length ? " " + t("chart_shade") : "";
  if (!most) return t("chart_flat") + shade;
  return t("chart_max", { n: number(most), time: clock(f.from + f.waiting.indexOf(most) * f.stepMs) }) + shade;
}

// paintCharts fills the box that the page keeps for the plot.
export function paintCharts() {
  const el = document.getElementById("chart");
  if (!el || !feed.history) {
    plot?.destroy();
    plot = null;
    painted = "";
    return;
  }
  const f = feed.history;
  const width = el.clientWidth;
  if (!width) return;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const made = [lang(), feed.hours, width, dark].join();
  const x = f.waiting.map((_, i) => (f.from + i * f.stepMs) / 1000);
  const data = [x, f.waiting];
  if (plot && made === painted && plot.root.isConnected) {
    if (plot.data[0].at(-1) !== x.at(-1) || plot.data[1].at(-1) !== f.waiting.at(-1)) plot.setData(data);
    return;
  }
  plot?.destroy();
  el.replaceChildren();
  painted = made;
  plot = new uPlot(options(width), data, el);
}

function options(width) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const label = (s) => (feed.hours > 24 ? weekday(s * 1000) : new Intl.DateTimeFormat(lang(), { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(s * 1000));
  return {
    width, height: 200, legend: { show: false }, padding: [12, 8, 0, 0],
    cursor: { drag: { x: false, y: false }, points: { size: 8 } },
    scales: { x: { time: true }, y: { range: (_, __, max) => [0, Math.max(10, Math.ceil((max ?? 0) * 1.1))] } },
    axes: [
      { ...axis, size: 28, space: 70, values: (_, splits) => splits.map(label) },
      { ...axis, size: 46, values: (_, splits) => splits.map((v) => (v % 1 ? "" : number(v))) },
    ],
    series: [{}, { stroke: color("--accent"), fill: color("--accent-soft"), width: 2, points: { show: false } }],
    hooks: {
      drawClear: [(u) => shade(u, color("--bad-soft"))],
      setCursor: [(u) => point(u)],
    },
  };
}

function point(u) {
  const el = document.getElementById("chart-text");
  if (!el) return;
  const i = u.cursor.idx;
  const n = i === null || i === undefined ? null : u.data[1][i];
  el.textContent = n === null || n === undefined || u.cursor.left < 0 ? chartText() : t("at_point", { time: clock(u.data[0][i] * 1000), n: t("events_n", { n: n === 1 ? 1 : number(n) }) });
}

function shade(u, fill) {
  const f = feed.history;
  if (!f) return;
  const { ctx } = u;
  ctx.save();
  ctx.fillStyle = fill;
  for (const [from, to] of runs(f, 0, f.down.length)) {
    const left = u.valToPos((f.from + from * f.stepMs) / 1000, "x", true);
    const right = u.valToPos((f.from + to * f.stepMs) / 1000, "x", true);
    ctx.fillRect(left, u.bbox.top, Math.max(2, right - left), u.bbox.height);
  }
  ctx.restore();
}

// bad is how many seconds of a minute make it one of an outage: a reconnection
// is none.
const bad = 10;

// runs are the stretches of minutes without a connection: [from, to).
function runs(f, from, to) {
  const list = [];
  for (let i = from; i < to; i++) {
    if (!(f.down[i] >= bad)) continue;
    const begin = i;
    while (i < to && f.down[i] >= 1) i++;
    list.push([begin, i]);
  }
  return list;
}

// stretches joins minutes of one kind: up, down or none.
function stretches(f, from, to) {
  const down = new Array(to - from).fill(false);
  for (const [a, b] of runs(f, from, to)) down.fill(true, a - from, b - from);
  for (const o of feed.outages ?? []) { // also those that are shorter than a minute
    const minute = (at) => Math.floor((at - Date.parse(f.from)) / f.stepMs) - from;
    const [a, b] = [minute(Date.parse(o.start)), o.end ? minute(Date.parse(o.end)) + 1 : down.length];
    if (b > 0) down.fill(true, Math.max(0, a), b);
  }
  const kind = (i) => (f.down[i] === null ? "none" : down[i - from] ? "down" : "up");
  const list = [];
  for (let i = from; i < to; ) {
    const begin = i;
    const k = kind(i);
    while (i < to && kind(i) === k) i++;
    list.push({ kind: k, from: begin, to: i });
  }
  return list;
}

// timeline is the week, a row per day, from midnight to midnight.
export function timeline() {
  const f = feed.week;
  if (!f) return h("p", { class: "muted" }, t("chart_none"));
  const start = Date.parse(f.from);
  const minute = (at) => Math.floor((at - start) / f.stepMs);
  const rows = [];
  for (let back = 0; back < 7; back++) {
    const midnight = new Date(now());
    midnight.setHours(0, 0, 0, 0);
    midnight.setDate(midnight.getDate() - back);
    const next = new Date(midnight);
    next.setDate(next.getDate() + 1);
    const from = Math.max(0, minute(midnight));
    const to = Math.min(f.down.length, minute(next));
    const parts = to > from ? stretches(f, from, to) : [];
    const total = parts.filter((p) => p.kind === "down").reduce((n, p) => n + p.to - p.from, 0);
    const shift = minute(midnight);
    rows.push(
      h(
        "li", { key: weekday(midnight) },
        h("span", { class: "day" }, weekday(midnight)),
        h(
          "svg", { viewBox: "0 0 1440 40", preserveAspectRatio: "none", role: "img", "aria-label": `${weekday(midnight)}: ${total ? t("total_down", { span: span(total * f.stepMs) }) : t("outages_none")}` },
          h("rect", { class: "none", x: 0, y: 0, width: Math.max(0, Math.min(1440, f.down.length - shift)), height: 40 }), // not what is still to come,
          parts.filter((p) => p.kind !== "none").map((p) => h("rect", { class: p.kind, x: p.from - shift, y: 0, width: Math.max(p.kind === "down" ? 5 : 1, p.to - p.from), height: 40 }, h("title", {}, `${clock(start + p.from * f.stepMs)} – ${clock(start + p.to * f.stepMs)}: ${t("legend_" + p.kind)}`))),
        ),
      ),
    );
  }
  return [
    h("ol", { class: "week" }, rows, h("li", { key: "hours", class: "hours", "aria-hidden": "true" }, h("span", { class: "day" }), h("span", { class: "scale" }, ["0", "6", "12", "18", "24"].map((x) => h("span", {}, x))))),
    h("p", { class: "legend small muted" }, ["up", "down", "none"].map((k) => h("span", {}, h("i", { class: "swatch " + k }), t("legend_" + k)))),
  ];
}

// outageList tells each outage in a line: as the box recorded it with its cause,
// else as the minutes show it.
export function outageList() {
  const week = now() - 7 * 24 * 3600_000;
  let list;
  if (feed.outages) {
    list = feed.outages
      .filter((o) => !o.end || Date.parse(o.end) > week)
      .map((o) => ({ id: o.id, from: Date.parse(o.start), to: o.end ? Date.parse(o.end) : null, what: cause(o.cause)[0], n: o.held?.events }));
  } else if (feed.week) {
    const f = feed.week;
    const start = Date.parse(f.from);
    list = runs(f, 0, f.down.length).map(([a, b]) => ({ from: start + a * f.stepMs, to: b >= f.down.length ? null : start + b * f.stepMs, n: Math.max(...f.waiting.slice(a, b).map((n) => n ?? 0)) }));
  }
  if (!list) return null;
  if (!list.length) return h("p", { class: "muted" }, t("outages_none"));
  const until = gone() ? now() - (Date.now() - feed.heard) : now(); // what is not known any more does not go on
  list.sort((a, b) => b.from - a.from);
  return h(
    "ul", { class: "lines" },
    list.slice(0, 20).map((o) =>
      h(
        "li", { key: String(o.from) },
        h("strong", {}, o.to === null ? t("outage_open", { from: clock(o.from), span: span(until - o.from) }) : t("outage_line", { from: clock(o.from), span: span(o.to - o.from) })),
        o.what && h("span", {}, " · " + o.what),
        o.n ? h("span", { class: "muted" }, " · " + t("held", { n: o.n === 1 ? 1 : number(o.n) })) : null,
        o.id && h("span", {}, " · ", h("a", { href: `/api/v1/outages/${o.id}?format=html&lang=${lang()}`, target: "_blank", rel: "noopener" }, t("report"))),
      ),
    ),
  );
}
