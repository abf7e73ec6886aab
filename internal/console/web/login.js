import { h } from "./dom.js";
import { feed, login, logout } from "./feed.js";
import { t } from "./i18n.js";

let way = "code"; // or token
let problem = "";
let busy = false;

export function loginView(redraw) {
  if (feed.refused === "role") {
    return h(
      "main", { id: "content", class: "lone", tabindex: "-1" },
      h("h1", {}, t("login_title", { venue: feed.who?.venueId ?? "" })),
      h("p", { class: "wrong", role: "alert" }, t("login_role", { role: t("role_" + feed.who?.role) })),
      h("button", { type: "button", onclick: () => ((feed.refused = ""), logout()) }, t("logout")),
    );
  }
  const choose = (name) =>
    h("button", { type: "button", "aria-pressed": String(way === name), onclick: () => ((way = name), (problem = ""), redraw()) }, t("login_" + name));
  const send = async (e) => {
    e.preventDefault();
    const value = e.target.elements.secret.value.trim();
    if (!value || busy) return;
    busy = true;
    redraw();
    try {
      await login(way === "code" ? { code: value.replace(/\D/g, "") } : { token: value.replace(/^Bearer\s+/, "") });
      problem = "";
    } catch (err) {
      problem = err.status === 0 ? "login_no_box" : err.status === 429 ? "login_slow" : "login_wrong";
    }
    busy = false;
    redraw();
  };
  const about = problem ? "problem help" : "help";
  return h(
    "main", { id: "content", class: "lone", tabindex: "-1" },
    h("h1", {}, t("login_title", { venue: feed.venue })),
    feed.refused === "no_box" && h("p", { class: "wrong", role: "alert" }, t("login_no_box")),
    h("div", { class: "choice", role: "group", "aria-label": t("login") }, choose("code"), choose("token")),
    h(
      "form", { key: way, onsubmit: send },
      h("label", { for: "secret" }, t(way === "code" ? "code_label" : "token_label")),
      way === "code"
        ? h("input", { id: "secret", name: "secret", class: "code", inputmode: "numeric", autocomplete: "one-time-code", maxlength: 7, pattern: "[0-9 ]*", required: true, "aria-describedby": about })
        : h("input", { id: "secret", name: "secret", type: "password", autocomplete: "off", required: true, "aria-describedby": about }),
      h("p", { id: "help", class: "muted" }, ...withCode(way === "code" ? t("code_help", { command: "\u0000avoqado-edge token code\u0000" }) : t("token_help"))),
      h("p", { id: "problem", class: "wrong", role: "alert", hidden: !problem }, problem ? t(problem) : ""),
      h("button", { type: "submit", class: "main", disabled: busy }, t("login")),
    ),
  );
}

// withCode shows what stands between two marks as a command.
export const withCode = (text) => text.split("\u0000").map((part, i) => (i % 2 ? h("code", {}, part) : part));
