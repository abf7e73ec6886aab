// A browser as a person uses it: a real Chromium, which believes what its own
// certificate store does and nothing else.
//
//   node browser.mjs CHROMIUM HOME URL...
//
// Opens each URL, and from its page a WebSocket to the same host. HOME holds the
// store (.pki/nssdb). Says one JSON line per URL:
//   {"url":…,"status":200,"text":…,"secure":true,"websocket":"0{…}"}
//   {"url":…,"error":"net::ERR_CERT_AUTHORITY_INVALID"}

import { chromium } from "playwright-core";

const [executablePath, home, ...urls] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--host-resolver-rules=MAP *.local 127.0.0.1"], // as mDNS would
  env: { ...process.env, HOME: home },
});

// hello returns the first message that a WebSocket to the page's host brings.
const hello = () =>
  new Promise((resolve) => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket.io/?EIO=4&transport=websocket`);
    socket.onmessage = ({ data }) => resolve(data);
    socket.onerror = () => resolve("error");
  });

for (const url of urls) {
  const context = await browser.newContext();
  const page = await context.newPage();
  let said = { url };
  try {
    const response = await page.goto(url);
    said = {
      url,
      status: response.status(),
      text: (await page.evaluate(() => document.body.innerText)).slice(0, 200),
      secure: await page.evaluate(() => isSecureContext),
      websocket: await page.evaluate(hello),
    };
  } catch (failure) {
    said.error = /net::\w+/.exec(failure.message)?.[0] ?? failure.message;
  }
  process.stdout.write(JSON.stringify(said) + "\n");
  await context.close();
}
await browser.close();
