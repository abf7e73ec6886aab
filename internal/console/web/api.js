// What the box is asked over HTTP. The cookie that the login set goes along.

const patience = 5000;

// Refused is an answer that is none: status 0 if the box did not answer.
export class Refused extends Error {
  constructor(status, body) {
    super(body?.error ?? "");
    this.status = status;
    this.code = body?.code ?? "";
  }
}

export async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(patience),
    });
  } catch {
    throw new Refused(0);
  }
  let json = null;
  try {
    json = await answer.json();
  } catch {
    if (answer.ok) throw new Refused(0); // cut off
  }
  if (!answer.ok) throw new Refused(answer.status, json);
  return json;
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body);

// key makes an idempotency key; crypto.randomUUID is not there without TLS.
export const key = () =>
  "console-" + [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");
