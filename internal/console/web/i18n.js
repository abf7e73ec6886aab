// The page's words. A word that is missing is shown by its name: a test looks
// whether both languages have the same.
import en from "./en.js";
import es from "./es.js";

const all = { es, en };
let current = "en";

export const lang = () => current;

// begin takes the language that was chosen here before, else the browser's.
export function begin() {
  let chosen = null;
  try {
    chosen = localStorage.getItem("lang");
  } catch {
    // no storage in this browser: asked each time
  }
  const wished = [chosen, ...(navigator.languages ?? [])].map((l) => l?.slice(0, 2)).find((l) => l in all);
  use(wished ?? "es");
}

export function choose(language) {
  try {
    localStorage.setItem("lang", language);
  } catch {
    // as above
  }
  use(language);
}

function use(language) {
  current = language;
  document.documentElement.lang = language;
  document.getElementById("skip").textContent = t("skip");
}

// t is the word for a name, its {holes} filled. One that ends in _one is for n = 1.
export function t(name, holes = {}) {
  const words = all[current];
  const text = (holes.n === 1 && words[name + "_one"]) || words[name];
  if (text === undefined) return name;
  return text.replace(/\{(\w+)\}/g, (_, hole) => holes[hole] ?? "");
}

// has says whether there is a word for a name.
export const has = (name) => name in all[current];
