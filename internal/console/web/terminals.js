import { h, icon } from "./dom.js";
import { feed } from "./feed.js";
import { t } from "./i18n.js";
import { ago, now, number } from "./words.js";

// What a terminal says of itself differs by the version of its app.
const first = (...values) => values.find((v) => v !== undefined && v !== null && v !== "");

export function facts(x) {
  const said = x.telemetry ?? {};
  const battery = said.health?.battery ?? said.systemInfo?.battery ?? {};
  const level = first(battery.level, said.systemInfo?.batteryLevel, typeof battery === "number" ? battery : undefined);
  return {
    version: first(said.version, said.appVersion, said.health?.device?.appVersion, said.systemInfo?.appVersion),
    battery: typeof level === "number" ? Math.round(level) : null,
    charging: Boolean(first(battery.isCharging, battery.charging, false)),
    seen: x.lastSeen && Date.parse(x.lastSeen) > 0 ? x.lastSeen : x.lastHeartbeat,
  };
}

export function terminalsView() {
  if (!feed.terminals.length) return h("p", { class: "card empty" }, t("no_terminals"));
  // Those that are away first: they are what one looks for.
  const rows = [...feed.terminals].sort((a, b) => a.isOnline - b.isOnline || (a.name || a.terminalId).localeCompare(b.name || b.terminalId));
  return h("ul", { class: "cards" }, rows.map(terminal));
}

function terminal(x) {
  const f = facts(x);
  const fact = (label, value, state) => value !== null && value !== undefined && value !== "" && h("div", { class: state }, h("dt", {}, label), h("dd", {}, value));
  const old = f.seen && now() - Date.parse(f.seen) > 120_000;
  return h(
    "li", { key: x.terminalId, class: "card terminal" },
    h("div", { class: "head" }, h("h2", {}, x.name || x.terminalId), h("span", { class: "state " + (x.isOnline ? "ok" : "down") }, icon(x.isOnline ? "ok" : "down"), t(x.isOnline ? "online" : "offline"))),
    x.name && h("p", { class: "muted small" }, x.terminalId),
    h(
      "dl", {},
      fact(t("t_seen"), f.seen ? ago(f.seen) : t("t_missed"), old || !f.seen ? "warn" : ""),
      fact(t("t_waiting"), x.waiting ? t("events_n", { n: x.waiting === 1 ? 1 : number(x.waiting) }) : t("t_waiting_none"), x.waiting ? "warn" : ""),
      fact(t("t_battery"), f.battery === null ? null : `${f.battery} %${f.charging ? " · " + t("charging") : ""}`, f.battery !== null && f.battery < 20 && !f.charging ? "warn" : ""),
      fact(t("t_version"), f.version),
      fact(t("t_address"), x.address),
      fact(t("t_who"), x.userId && `${x.userId} · ${t("role_" + x.role)}`),
      fact(t("t_health"), x.healthScore === undefined ? null : `${Math.round(x.healthScore)} / 100`),
    ),
  );
}
