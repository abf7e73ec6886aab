// What happens, as it happens; and one event's way, hop by hop.
import { h, icon } from "./dom.js";
import { byServer, feed, parked, place, synced } from "./feed.js";
import { matches } from "./filter.js";
import { has, t } from "./i18n.js";
import { ago, clock, hidden, number } from "./words.js";
import { withCode } from "./login.js";

const mostRows = 150;
const classes = ["money", "orders", "alerts", "service", "telemetry"];

let filter = "";
let kind = "";
let frozen = null; // the list as it was when it was paused
let open = null; // seq of the event that is looked at

export const kindName = (name) => (has("e_" + name) ? t("e_" + name) : name);

// sum is the amount of a payload as it stands there, with its currency.
function sum(p) {
  const amount = p?.amount ?? p?.total;
  if (amount === undefined || amount === null || typeof amount === "object") return "";
  return hidden(String(amount)) + (p.currency ? " " + p.currency : "");
}

// gist is what of a payload one wants to see at once.
const gist = (p) => sum(p) || (typeof p?.title === "string" ? hidden(p.title) : "");

const who = (e) => (e.origin === "cloud" ? t("backend") : [e.terminal, e.actor && `${e.actor} (${has("role_" + e.role) ? t("role_" + e.role) : e.role})`].filter(Boolean).join(" · ") || e.origin);

const wanted = (e) => (!kind || e.class === kind) && matches(e, filter, kindName(e.event));

export function eventsView(redraw) {
  const all = frozen ?? feed.events;
  const list = all.filter(wanted);
  const fresh = frozen ? feed.events.filter((e) => e.seq > (frozen[0]?.seq ?? 0)).length : 0;
  const looked = open !== null && (feed.events.find((e) => e.seq === open) ?? feed.parked.find((e) => e.seq === open));
  return [
    feed.parked.length > 0 && parkedCard(redraw),
    h(
      "section", { class: "card", "aria-label": t("events") },
      h(
        "div", { class: "filters" },
        h("label", {}, h("span", {}, t("filter")), h("input", { id: "filter", type: "search", placeholder: t("filter_help"), autocomplete: "off", oninput: (e) => ((filter = e.target.value), redraw()) })),
        h("label", {}, h("span", {}, t("kind")), h("select", { id: "kind", onchange: (e) => ((kind = e.target.value), redraw()) }, h("option", { value: "" }, t("all")), classes.map((c) => h("option", { value: c }, t(c === "alerts" ? "alerts_class" : c))))),
        h("button", { type: "button", id: "pause", "aria-pressed": String(Boolean(frozen)), onclick: () => ((frozen = frozen ? null : feed.events), redraw()) }, frozen ? t("resume") : t("pause")),
      ),
      h("p", { class: "muted small" }, frozen ? t("paused_n", { n: fresh === 1 ? 1 : number(fresh) }) : t("showing", { n: list.length === 1 ? 1 : number(list.length) })),
      h("ol", { class: "tail" }, list.slice(0, mostRows).map((e) => row(e, redraw))),
      !list.length && h("p", { class: "empty" }, all.length ? t("nothing_matches") : t("no_events")),
    ),
    looked && path(looked, redraw),
  ];
}

function row(e, redraw) {
  const word = place(e);
  const state = { in_cloud: "ok", at_server: "ok", not_taken: "down" }[word] ?? "warn";
  return h(
    "li", { key: e.epoch + e.seq },
    h(
      "button", { type: "button", class: "event " + e.class, onclick: () => ((open = e.seq), redraw()) },
      h("time", { datetime: e.time }, clock(e.time, true)),
      h("span", { class: "what" }, h("strong", {}, kindName(e.event)), gist(e.payload) && h("span", { class: "sum" }, gist(e.payload))),
      h("span", { class: "muted by" }, [e.subject, who(e)].filter(Boolean).join(" · ")),
      h("span", { class: "mark " + state }, icon(state === "warn" ? "off" : state), h("span", { class: "unseen" }, t(word))),
    ),
  );
}

function parkedCard(redraw) {
  return h(
    "section", { class: "card", "aria-labelledby": "parked" },
    h("h2", { id: "parked" }, t("parked")),
    h("p", { class: "muted" }, withCode(t("parked_help", { command: "\u0000avoqado-edge events list --parked\u0000" }))),
    h(
      "ol", { class: "lines" },
      feed.parked.map((e) =>
        h(
          "li", { key: String(e.seq) },
          h("button", { type: "button", class: "link", onclick: () => ((open = e.seq), redraw()) }, `${kindName(e.event)} ${e.subject ?? ""} (${e.seq})`),
          h("span", {}, " · ", e.reason ? `${t("reason")}: ${e.reason}` : t("p_behind", { seq: e.behind })),
          h("span", { class: "muted" }, " · " + t("parked_since", { ago: ago(e.parkedAt) })),
        ),
      ),
    ),
  );
}

// path is an event's way from hop to hop.
function path(e, redraw) {
  const closed = () => {
    open = null;
    redraw();
  };
  const shut = (ev) => ev.currentTarget.closest("dialog").close(); // and the focus is back where it was
  const hop = (state, name, ...texts) => h("li", { class: state }, icon(state), h("div", {}, h("strong", {}, name), h("p", {}, texts.filter(Boolean).join(" "))));
  return h(
    "dialog", { class: "sheet", key: "path" + e.seq, "aria-labelledby": "path-title", onclose: closed, onclick: (ev) => ev.target === ev.currentTarget && shut(ev) },
    h(
      "div", { class: "inner" },
      h("div", { class: "head" }, h("h2", { id: "path-title" }, kindName(e.event), " ", h("span", { class: "muted small" }, e.event)), h("button", { type: "button", id: "shut", onclick: shut }, t("close"))),
      h("h3", { class: "unseen" }, t("path")),
      h(
        "ol", { class: "path" },
        hop("ok", t("p_accepted"), clock(e.time, true) + ",", e.origin === "cloud" ? t("p_from_cloud") : t("p_from", { who: has("role_" + e.role) ? `${e.actor} (${t("role_" + e.role)})` : e.actor || e.origin }), e.terminal && t("p_at", { terminal: e.terminal })),
        hop("ok", t("p_stored"), t("p_seq", { seq: number(e.seq) })),
        hop("ok", t("p_shown"), audience(e.audience)),
        toCloud(e, hop),
      ),
      h("dl", { class: "facts" }, fact("ID", e.id), fact("correlationId", e.correlationId), fact(t("expires"), e.expiresAt && clock(e.expiresAt))),
      h("details", {}, h("summary", {}, t("payload")), h("pre", { tabindex: "0" }, hidden(JSON.stringify(e.payload, null, 2)))),
    ),
  );
}

const fact = (label, value) => value && h("div", {}, h("dt", {}, label), h("dd", {}, value));

function audience(a) {
  const list = [...(a.roles ?? []).map((r) => (has("role_" + r) ? t("role_" + r) : r)), ...(a.users ?? []), ...(a.terminals ?? []), ...(a.tables ?? []), ...(a.orders ?? [])];
  return a.venue || !list.length ? t("p_everyone") : t("p_to", { who: list.join(", ") });
}

function toCloud(e, hop) {
  const name = t("p_cloud");
  const set = parked(e);
  if (e.origin === "cloud") return hop("ok", name, t("p_origin"));
  if (feed.status?.uplink.state === "off") return hop("off", name, t("p_off"));
  if (set) return hop("down", name, set.reason ? t("p_parked", { reason: set.reason }) : t("p_behind", { seq: set.behind }));
  if (e.decided === "drop") return hop("down", name, t("p_dropped"));
  if (e.decided) return hop("off", name, t("p_moved"));
  if (synced(e)) return hop("ok", name, t(byServer() ? "p_confirmed_server" : "p_confirmed"));
  const before = e.seq - 1 - (feed.status?.journal.syncedThrough ?? 0);
  return hop("warn", name, before > 0 ? t("p_waiting", { n: number(before) }) : t("p_waiting_first"));
}
