// A person in front of the console page: real Chromium, one JSON line on stdin
// for each thing to do, one on stdout for what came of it.
//
//   node browser.mjs CHROMIUM SHOTS
//
// SHOTS is the folder for pictures. The browser believes what the certificate
// store in its HOME does (.pki/nssdb), and nothing else; .local names lead to
// this machine, as mDNS would have them. Answers are {"value":…,"ms":…} or {"error":…}.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [executablePath, shots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--host-resolver-rules=MAP *.local 127.0.0.1"] });

let page;
let home;
let faults = [];

const does = {
  // open begins anew, as another person with another device.
  async open({ url, locale = "es-MX", scheme = "light", width = 1280, height = 800 }) {
    await page?.context().close();
    home = new URL(url).host;
    faults = [];
    const context = await browser.newContext({ locale, colorScheme: scheme, viewport: { width, height }, reducedMotion: "reduce", timezoneId: "America/Mexico_City" });
    page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.on("pageerror", (err) => faults.push("error: " + err.message));
    page.on("console", (m) => {
      // Refused logins and a box that is gone are told by the browser, too.
      if (m.type() === "error" && !/Failed to load resource|WebSocket connection/.test(m.text())) faults.push("console: " + m.text());
    });
    page.on("request", (r) => {
      const u = new URL(r.url());
      if (u.protocol !== "data:" && u.host !== home) faults.push("external: " + r.url());
    });
    await page.goto(url);
  },
  reload: () => page.reload(),
  fill: ({ at, text }) => page.fill(at, text),
  click: ({ at }) => page.click(at),
  press: ({ key }) => page.keyboard.press(key),
  select: ({ at, text }) => page.selectOption(at, text),
  // see waits until what is at a place matches.
  async see({ at, text, within = 20_000 }) {
    await page.waitForFunction(([at, text]) => new RegExp(text, "is").test(document.querySelector(at)?.innerText ?? ""), [at, text], { timeout: within, polling: 20 }).catch(async () => {
      throw new Error(`${at} does not show ${text} but: ${await page.locator(at).first().innerText({ timeout: 100 }).catch(() => "nothing")}`);
    });
  },
  text: ({ at }) => page.locator(at).first().innerText(),
  count: ({ at }) => page.locator(at).count(),
  eval: ({ text }) => page.evaluate(text),
  focus: () => page.evaluate(() => document.activeElement?.innerText || document.activeElement?.id || document.activeElement?.tagName),
  async shot({ name }) {
    // In a window as high as the page, so that what sticks to its edge is there.
    const { width, height } = page.viewportSize();
    await page.setViewportSize({ width, height: Math.max(height, await page.evaluate(() => document.documentElement.scrollHeight)) });
    await page.screenshot({ path: join(shots, name + ".png"), fullPage: true });
    await page.setViewportSize({ width, height });
  },
  // pages is how many sheets of paper the page takes as it would be printed.
  async pages() {
    const pdf = await page.pdf({ preferCSSPageSize: true, printBackground: true });
    return pdf.toString("latin1").match(/\/Type\s*\/Page\b/g).length;
  },
  // wide is by how much the page is wider than the window, in pixels.
  wide: () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
  // axe names what breaks the Web Content Accessibility Guidelines, level AA.
  async axe() {
    // Outside of the page's world, where its policy for scripts does not hold.
    const session = await page.context().newCDPSession(page);
    const { frameTree } = await session.send("Page.getFrameTree");
    const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
    await session.send("Runtime.evaluate", { expression: axe, contextId: executionContextId });
    const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
      contextId: executionContextId, awaitPromise: true, returnByValue: true,
      expression: `axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}).then(r => ({
        passed: r.passes.length,
        broken: r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.target + ": " + n.failureSummary.replace(/\\n/g, " ")))}))`,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  },
  faults: () => faults,
};

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const began = performance.now();
  try {
    const value = await does[command.do](command);
    say({ value: value ?? null, ms: Math.round(performance.now() - began) });
  } catch (err) {
    say({ error: String(err.message).split("\n")[0] });
  }
}
await browser.close(); // the test is gone, and so are we
