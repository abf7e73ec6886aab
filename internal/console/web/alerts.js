// Words to the people of the venue: one to send, and those that were sent.
import { key, post } from "./api.js";
import { h } from "./dom.js";
import { feed, place } from "./feed.js";
import { has, t } from "./i18n.js";
import { clock, now } from "./words.js";

const levels = ["info", "warning", "error", "critical"];
const roles = ["MANAGER", "WAITER", "CASHIER", "KITCHEN", "HOST"];

let once = key(); // the same as long as it is the same alert
let state = ""; // sent, problem
let why = "";
let busy = false;

export function alertsView(redraw) {
  const recent = feed.events.filter((e) => e.event === "system_alert").slice(0, 20);
  return [
    form(redraw),
    h(
      "section", { class: "card", "aria-labelledby": "recent" },
      h("h2", { id: "recent" }, t("recent_alerts")),
      recent.length ? h("ol", { class: "lines alerts" }, recent.map(line)) : h("p", { class: "muted" }, t("no_alerts")),
    ),
  ];
}

function form(redraw) {
  const send = async (e) => {
    e.preventDefault();
    const f = e.target;
    const said = new FormData(f);
    const title = said.get("title").trim();
    const message = said.get("message").trim();
    if (!title || !message) {
      state = "problem";
      why = t("required");
      return redraw();
    }
    if (busy) return;
    busy = true;
    redraw();
    const minutes = Number(said.get("expires"));
    const payload = { level: said.get("level"), title, message, venueId: feed.who.venueId, idempotencyKey: once };
    if (said.getAll("role").length) payload.targetRoles = said.getAll("role");
    if (minutes) payload.expiresAt = new Date(now() + minutes * 60_000).toISOString();
    try {
      await post("/api/v1/events", { event: "system_alert", payload });
      state = "sent";
      once = key();
      f.reset();
    } catch (err) {
      state = "problem";
      why = t("not_sent", { why: err.status === 0 ? t("login_no_box") : err.message });
    }
    busy = false;
    redraw();
  };
  const option = (type, name, value, label, checked) => h("label", { class: "option", key: value }, h("input", { type, name, value, checked }), h("span", {}, label));
  return h(
    "section", { class: "card", "aria-labelledby": "compose" },
    h("h2", { id: "compose" }, t("send_alert")),
    h(
      "form", { id: "alert", onsubmit: send, oninput: () => ((once = key()), state && ((state = ""), redraw())) },
      h("fieldset", {}, h("legend", {}, t("level")), h("div", { class: "options" }, levels.map((l) => option("radio", "level", l, t("l_" + l), l === "info")))),
      h("label", { for: "title" }, t("title")), h("input", { id: "title", name: "title", maxlength: 120, autocomplete: "off", required: true }),
      h("label", { for: "message" }, t("message")), h("textarea", { id: "message", name: "message", rows: 3, maxlength: 1000, required: true }),
      h("fieldset", {}, h("legend", {}, t("to_whom")), h("div", { class: "options" }, roles.map((r) => option("checkbox", "role", r, t("role_" + r))))),
      h("label", { for: "expires" }, t("expires_in")), h("select", { id: "expires", name: "expires" }, [0, 15, 60, 480].map((m) => h("option", { value: m }, t("x_" + m)))),
      h("button", { type: "submit", class: "main", disabled: busy }, t("send")),
      h("p", { class: state === "problem" ? "wrong" : "right", role: "status" }, state === "sent" ? t("sent") : state === "problem" ? why : ""),
    ),
  );
}

function line(e) {
  const p = e.payload;
  const level = levels.includes(p.level) ? p.level : "info";
  return h(
    "li", { key: String(e.seq), class: level },
    h("p", {}, h("span", { class: "level" }, t("l_" + level)), " ", h("strong", {}, String(p.title ?? ""))),
    h("p", {}, String(p.message ?? "")),
    h("p", { class: "muted small" }, [clock(e.time), e.origin === "cloud" ? t("backend") : e.actor, (e.audience.roles ?? []).map((r) => (has("role_" + r) ? t("role_" + r) : r)).join(", ") || t("to_all"), t(place(e))].filter(Boolean).join(" · ")),
  );
}

