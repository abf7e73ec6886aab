// What a technician asks about the box.
import { h } from "./dom.js";
import { feed } from "./feed.js";
import { has, t } from "./i18n.js";
import { cause, clock, number, size, span } from "./words.js";

// state is the word for a state, which programs have in English.
const state = (name) => (has("s_" + name) ? t("s_" + name) : name);

export function boxView() {
  const st = feed.status;
  if (!st) return null;
  const j = st.journal;
  const card = (id, ...facts) => h("section", { class: "card", "aria-labelledby": "b-" + id, key: id }, h("h2", { id: "b-" + id }, t(id)), h("dl", { class: "facts" }, facts));
  const fact = (label, value, mood) => value !== null && value !== undefined && value !== "" && h("div", { class: mood }, h("dt", {}, t(label)), h("dd", {}, value));
  const failures = Object.entries(st.uplink.failures ?? {}).map(([name, n]) => `${cause(name)[0].replace(/\.$/, "")} (${name}): ${number(n)}`);
  return h(
    "div", { class: "columns" },
    card(
      "about",
      fact("b_name", st.name || st.box), fact("b_venue", st.venue), fact("b_version", st.version), fact("b_uptime", span(st.uptimeMs)),
      fact("b_address", st.discovery.interfaces?.length ? st.discovery.interfaces.join(", ") : st.lan.address), fact("b_mdns", st.discovery.instance ?? state(st.discovery.state)),
      fact("b_clock", `${clock(st.clock.now, true)} · ${t(st.clock.trusted ? "clock_ok" : "clock_bad")}`, st.clock.trusted ? "" : "warn"),
      fact("b_clients", number(st.lan.clients)),
      st.boxes.state !== "off" && fact("boxes", `${state(st.boxes.state)} · ${t("since", { time: clock(st.boxes.since) })}`),
    ),
    card(
      "storage",
      fact("b_free", `${size(st.disk.freeBytes)} ${t("disk_of", { total: size(st.disk.totalBytes) })}`),
      fact("b_room", j.level === "ok" ? t("room_ok") : `${j.level}: ${j.levelReason}`, j.level === "ok" ? "" : "down"),
      fact("b_journal", t("b_journal_v", { size: size(j.bytes), n: j.segments === 1 ? 1 : number(j.segments) })),
      fact("b_stored", number(j.storedThrough)), st.uplink.state !== "off" && fact("b_synced", number(j.syncedThrough)),
      fact("b_written", size(j.writtenBytes ?? 0)),
      fact("b_life", j.lifeYears ? t("life_years", { n: number(Math.round(j.lifeYears * 10) / 10) }) : t("life_unknown"), j.lifeYears > 0 && j.lifeYears < 2 ? "warn" : ""),
      j.quarantined > 0 && fact("b_quarantine", number(j.quarantined), "down"),
    ),
    st.lan.key && h(
      "section", { class: "card pairing", "aria-labelledby": "b-pairing", key: "pairing" },
      h("h2", { id: "b-pairing" }, t("pairing")),
      h("img", { src: "/api/v1/pairing.svg", alt: t("pairing_help"), width: 280, height: 280 }),
      h("p", { class: "muted small" }, t("pairing_help")),
    ),
    st.uplink.state !== "off" && card(
      "cloud",
      fact("b_broker", st.uplink.broker), fact("b_state", `${state(st.uplink.state)} · ${t("since", { time: clock(st.uplink.since) })}`),
      fact("b_confirm", t("confirm_" + (st.uplink.confirm || "backend"))), fact("b_connects", number(st.uplink.connects)),
      fact("b_failures", failures.join(" · ")), fact("b_config", st.uplink.configVersion ? `${st.uplink.configVersion} ${st.uplink.venueStatus ?? ""}` : ""),
    ),
    h(
      "section", { class: "card", "aria-labelledby": "b-tech", key: "tech" },
      h("h2", { id: "b-tech" }, t("tech")),
      h("h3", {}, t("problems")),
      st.problems.length ? h("ul", { class: "lines", lang: "en" }, st.problems.map((p) => h("li", {}, p))) : h("p", { class: "muted" }, t("no_problems")),
      h("p", {}, h("a", { href: "/docs" }, t("docs"))),
    ),
  );
}
