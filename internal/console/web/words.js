// Figures and times as people say them, in the language of the page.
import { has, lang, t } from "./i18n.js";

const cache = new Map();
function format(make, options) {
  const id = lang() + make.name + JSON.stringify(options);
  if (!cache.has(id)) cache.set(id, new make(lang(), options));
  return cache.get(id);
}

export const number = (n) => format(Intl.NumberFormat, {}).format(n);

// The clock of the box counts, not that of the phone.
let skew = 0;
export const boxTime = (said) => (skew = said ? Date.parse(said) - Date.now() : skew);
export const now = () => Date.now() + skew;

const day = (at) => format(Intl.DateTimeFormat, { year: "numeric", month: "numeric", day: "numeric" }).format(at);

// clock is a time of day, with the day where it is not today.
export function clock(at, seconds = false) {
  const date = new Date(at);
  if (!at || Number.isNaN(date.getTime()) || date.getFullYear() < 2000) return "–";
  const time = { hour: "2-digit", minute: "2-digit", ...(seconds && { second: "2-digit" }), hourCycle: "h23" };
  if (day(date) === day(now())) return format(Intl.DateTimeFormat, time).format(date);
  return format(Intl.DateTimeFormat, { weekday: "short", day: "numeric", month: "short", ...time }).format(date);
}

export const weekday = (at) => format(Intl.DateTimeFormat, { weekday: "short", day: "numeric" }).format(new Date(at));

// span is a length of time in its two largest units at most.
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return t("s", { n: s });
  if (s < 3600) return t("min", { n: Math.floor(s / 60) });
  const hours = Math.floor(s / 3600);
  const minutes = Math.floor((s % 3600) / 60);
  if (hours < 48) return t("h", { n: hours }) + (minutes && hours < 10 ? " " + t("min", { n: minutes }) : "");
  return t("days", { n: Math.floor(hours / 24) });
}

export const ago = (at) => t("ago", { span: span(now() - Date.parse(at)) });

export function size(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let u = 0;
  for (; bytes >= 1000 && u < units.length - 1; u++) bytes /= 1000;
  return format(Intl.NumberFormat, { maximumFractionDigits: u && bytes < 10 ? 1 : 0 }).format(bytes) + " " + units[u];
}

// hidden masks what looks like a card number (13 to 19 digits that pass Luhn's
// check, ISO/IEC 7812) and leaves its last four.
export const hidden = (text) =>
  text.replace(/\b\d(?:[ -]?\d){12,18}\b/g, (found) => {
    const digits = [...found.replace(/\D/g, "")].reverse().map(Number);
    const sum = digits.reduce((all, d, i) => all + (i % 2 ? (d > 4 ? d * 2 - 9 : d * 2) : d), 0);
    return sum % 10 ? found : "•••• " + found.replace(/\D/g, "").slice(-4);
  });

// cause is what a cause of the uplink means: [what it is, what to do].
export const cause = (name) => t(has("c_" + name) ? "c_" + name : "c_other").split("|");
