// Everything that is asked of the gateway; nothing is ever asked of anyone else.

const ROOT = new URL("../api/v1/", document.baseURI);
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const NO_ANSWER = "The gateway does not answer. It may have been stopped, or the network between is down.";

/** The event that tells the page that the gateway asks for a key: there was none, or the session is over. */
export const NO_KEY = "no-key";

/** An answer that is no success: `status` 0 when there was none. */
export class Refused extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

/** An id in a path: the gateway reads `~`, which no id holds, as the slash that would end its part. */
const part = (id) => encodeURIComponent(id.replaceAll("/", "~"));
const jobPath = (job) => `jobs/${part(job)}`;
const featurePath = (job, feature) => `${jobPath(job)}/features/${part(feature)}`;

export const jobs = (query, signal) => get("jobs", query, signal);
export const job = (id, signal) => get(jobPath(id), {}, signal);
export const explanations = (id, query, signal) => get(`${jobPath(id)}/explanations`, query, signal);
export const feature = (id, name, signal) => get(featurePath(id, name), {}, signal);
export const history = (id, name, signal) => get(`${featurePath(id, name)}/history`, {}, signal);
export const counts = (id, query, signal) => get(`${jobPath(id)}/counts`, query, signal);
export const files = (id, signal) => get(`${jobPath(id)}/files`, {}, signal);
export const lag = (signal) => get("lag", {}, signal);
export const models = (signal) => get("models", {}, signal);
export const cancel = (id) => post(`${jobPath(id)}/cancel`, {});
export const review = (id, name, said) => post(`${featurePath(id, name)}/reviews`, said);
export const session = () => get("session", {});
export const openSession = (key) => post("session", { key });
export const closeSession = () => asked(new URL("session", ROOT), { method: "DELETE" });
export const allEvents = (signal) => lasting("events", signal);
export const jobEvents = (id, signal) => lasting(`${jobPath(id)}/events`, signal);
export const explainNow = (order, signal) => streamed("explain", { method: "POST", body: JSON.stringify(order), signal });
export const file = (id, name) => new URL(`${jobPath(id)}/files/${part(name)}`, ROOT).href;

/** What is away: "kafka", "gateway", or null when all is there. */
export async function away() {
  try {
    const answer = await fetch(new URL("../../readyz", ROOT), { cache: "no-store" });
    return answer.ok ? null : "kafka";
  } catch {
    return "gateway";
  }
}

async function get(path, query, signal) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return (await asked(url, { signal })).json();
}

async function post(path, body) {
  return (await asked(new URL(path, ROOT), { method: "POST", body: JSON.stringify(body) })).json();
}

async function asked(url, options) {
  const headers = { Accept: "application/json", ...(options.body && { "Content-Type": "application/json" }), ...options.headers };
  let answer;
  try {
    answer = await fetch(url, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The gateway does not answer", NO_ANSWER);
  }
  if (answer.ok) return answer;
  if (answer.status === 401) dispatchEvent(new Event(NO_KEY));
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, problem.title ?? answer.statusText, problem.detail ?? "");
}

/** Server-sent events of one answer, signs of life (without data) among them; by fetch, for an EventSource can neither send a body nor tell why it was refused. */
async function* streamed(path, options) {
  const answer = await asked(new URL(path, ROOT), { ...options, headers: { ...options.headers, Accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        yield parsed(block);
      }
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

function parsed(block) {
  const event = { name: "message", id: null, lines: [] };
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon === 0) continue;
    const [name, value] = colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
    if (name === "event") event.name = value;
    else if (name === "id") event.id = value;
    else if (name === "data") event.lines.push(value);
  }
  return { name: event.name, id: event.id, data: event.lines.length ? JSON.parse(event.lines.join("\n")) : null };
}

/** Events that go on where they stopped when the connection breaks; one named `broken` says that it did. */
async function* lasting(path, signal) {
  let last = null;
  let wait = FIRST_WAIT_MS;
  while (!signal.aborted) {
    try {
      for await (const event of streamed(path, { signal, headers: last === null ? {} : { "Last-Event-ID": last } })) {
        last = event.id ?? last;
        wait = FIRST_WAIT_MS;
        if (event.data !== null) yield event;
      }
    } catch (error) {
      const isFinal = error.status >= 400 && error.status < 500 && error.status !== 429;
      if (signal.aborted || isFinal) return;
    }
    yield { name: "broken", data: null };
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(2 * wait, LONGEST_WAIT_MS);
  }
}
