// The page: who is in, which section is shown, and the frame around it.
import { draw, h } from "./dom.js";
import { begin as listen, feed, gone, logout } from "./feed.js";
import { begin as speak, choose, lang, t } from "./i18n.js";
import { loginView } from "./login.js";
import { statusView, mood } from "./status.js";
import { terminalsView } from "./terminals.js";
import { eventsView } from "./events.js";
import { alertsView } from "./alerts.js";
import { boxView } from "./box.js";
import { paintCharts } from "./chart.js";

const views = { status: statusView, terminals: terminalsView, events: eventsView, alerts: alertsView, box: boxView };

const place = () => (location.hash.slice(1) in views ? location.hash.slice(1) : "status");

let due = false;

// redraw soon; many changes at once are one drawing.
export function redraw() {
  if (due) return;
  due = true;
  setTimeout(() => {
    due = false;
    paint();
  }, 16);
}

function languages() {
  const other = (code, name) =>
    h("button", { type: "button", lang: code, "aria-pressed": String(lang() === code), onclick: () => (choose(code), redraw()) }, h("abbr", { title: name }, code.toUpperCase()));
  return h("div", { class: "languages", role: "group", "aria-label": t("language") }, other("es", "Español"), other("en", "English"));
}

function paint() {
  const app = document.getElementById("app");
  if (feed.who === undefined) return;
  if (!feed.who || feed.refused === "role") {
    document.title = `${t("login")} · Avoqado Edge`;
    draw(app, h("header", { class: "top" }, brand(""), languages()), loginView(redraw));
    return;
  }
  const here = place();
  const now = mood();
  document.title = `${now.title} · ${feed.status?.name || feed.who.venueId}`;
  draw(
    app,
    h(
      "header",
      { class: "top" },
      brand(feed.status?.name || feed.who.venueId),
      h("span", { class: "live " + (feed.live && !gone() ? "ok" : "unknown") }, h("i", { class: "dot" }), feed.live && !gone() ? t("live") : t("not_live")),
      languages(),
      h("button", { type: "button", class: "quiet", onclick: logout }, t("logout")),
    ),
    h(
      "nav",
      { class: "places", "aria-label": t("nav") },
      Object.keys(views).map((name) =>
        h("a", { key: name, href: "#" + name, "aria-current": name === here ? "page" : null }, glyph(name), h("span", {}, t(name)), name === "status" && now.state !== "ok" && h("i", { class: "dot " + now.state })),
      ),
    ),
    h("main", { id: "content", key: here, tabindex: "-1" }, h("h1", { class: "unseen" }, t(here)), views[here](redraw)),
  );
  paintCharts();
}

const brand = (name) => h("span", { class: "brand" }, h("span", { class: "logo", "aria-hidden": "true" }), h("span", {}, name || "Avoqado Edge"));

const glyphs = {
  status: "M4 12h4l3-7 4 14 2-7h3",
  terminals: "M7 3h10v18H7zM7 7h10M10 17h4",
  events: "M5 6h14M5 12h14M5 18h9",
  alerts: "M6 17V11a6 6 0 0 1 12 0v6l1.500 1.500H4.500zM10 21h4",
  box: "M4 8l8-4 8 4v8l-8 4-8-4zM4 8l8 4 8-4M12 12v8",
};
const glyph = (name) => h("svg", { class: "glyph", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, h("path", { d: glyphs[name] }));

speak();
window.addEventListener("hashchange", () => {
  redraw();
  setTimeout(() => {
    window.scrollTo(0, 0);
    document.getElementById("content")?.focus({ preventScroll: true });
  }, 30);
});
document.getElementById("skip").addEventListener("click", (e) => {
  e.preventDefault(); // the hash is the section
  document.getElementById("content")?.focus();
});
document.addEventListener("visibilitychange", redraw);
setInterval(redraw, 1000); // times that run
listen(redraw);
