// Elements, and a page that is drawn anew as often as one likes: draw() brings
// what is there to what should be, so focus, selection and open details stay.

const svgTags = new Set(["svg", "path", "rect", "circle", "line", "text", "g", "title"]);
const handlers = ["onclick", "oninput", "onchange", "onsubmit", "onclose"];

// h makes an element. Attributes that are false, null or undefined are left out;
// on… are handlers; the key says which element of a list it is.
export function h(tag, attrs = {}, ...children) {
  const el = svgTags.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attrs ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) el[name] = value;
    else if (name === "key") el.dataset.key = value;
    else el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...children.flat(Infinity).filter((c) => c !== false && c !== null && c !== undefined && c !== ""));
  return el;
}

// draw makes the children of el be these.
export function draw(el, ...children) {
  const wanted = document.createElement("div");
  wanted.append(...children.flat(Infinity).filter(Boolean));
  children_(el, wanted);
  el.querySelector("dialog:not([open])")?.showModal(); // which keeps the focus in it, and Escape closes
}

function children_(old, now) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const want of [...now.childNodes]) {
    const key = want.dataset?.key;
    let have = key ? keyed.get(key) : at;
    if (key) keyed.delete(key);
    if (have && !alike(have, want)) have = null;
    if (have) {
      if (have !== at) old.insertBefore(have, at);
      else at = at.nextSibling;
      same(have, want);
    } else {
      old.insertBefore(want, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

const alike = (a, b) => a.nodeName === b.nodeName && (a.dataset?.key ?? "") === (b.dataset?.key ?? "");

function same(old, now) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== now.data) old.data = now.data;
    return;
  }
  if (old.dataset.keep !== undefined) return; // somebody else draws there
  for (const { name } of [...old.attributes]) {
    if (!now.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of now.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of handlers) old[name] = now[name];
  children_(old, now);
}

const paths = {
  ok: "M4 12.5l5 5L20 6.500",
  down: "M6 6l12 12M18 6L6 18",
  unknown: "M9 9a3 3 0 1 1 4.500 2.600c-1 .6-1.500 1.200-1.500 2.400M12 18v.5",
  off: "M6 12h12",
  warn: "M12 5v9M12 18.500v.5",
};

// icon is never the only bearer of a meaning: a word stands beside it.
export const icon = (name) =>
  h("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, h("path", { d: paths[name] ?? paths.unknown }));
