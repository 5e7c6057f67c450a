// Shows the page that the address names, and what is true on all pages: whether Kafka is away, keys, and what was said last.

import * as api from "./api.js";
import { el, fill } from "./dom.js";
import { helpDialog, onKey, shortcut } from "./keyboard.js";
import { place } from "./place.js";

const PAGES = {
  jobs: (parts) => (parts.length > 1 ? import("./page_job.js") : import("./page_jobs.js")),
  compare: () => import("./page_compare.js"),
  explain: () => import("./page_explain.js"),
  operations: () => import("./page_operations.js"),
};
const LOOK_EVERY_MS = 5_000;
const AWAY = {
  kafka: "Kafka is away. What is stored can be read; live progress, reviews and orders wait until it is back.",
  gateway: "The gateway does not answer. What you see is what it said last.",
};

const main = document.getElementById("main");
const leave = document.getElementById("leave");
let shown = { name: null, leave: null, moved: null };
let turn = 0;

/** Say something to everyone: read out by screen readers, shown for a moment below. */
export function say(text) {
  const box = document.getElementById("said");
  fill(box, el("p", {}, text));
  setTimeout(() => box.textContent.includes(text) && fill(box), 6_000);
}

async function show() {
  const { parts, query } = place();
  const name = parts[0] in PAGES ? parts[0] : "jobs";
  const page = `${name}/${parts[1] ?? ""}`;
  if (shown.name === page && shown.moved) return shown.moved(parts, query);
  const mine = ++turn;
  shown.leave?.();
  shown = { name: page };
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const leaving = new AbortController();
  main.setAttribute("aria-busy", "true");
  try {
    const { open } = await PAGES[name](parts);
    if (mine !== turn) return;
    shown.leave = () => leaving.abort();
    const moved = await open(main, { parts, query, signal: leaving.signal, say });
    if (mine === turn) shown.moved = moved;
  } catch (error) {
    if (mine === turn && error.name !== "AbortError") showError(error);
  } finally {
    if (mine === turn) main.removeAttribute("aria-busy");
  }
}

function showError(error) {
  shown.name = null;
  if (error.status === 401) return; // askForKey has the page
  document.title = "Not shown · miStudioExplain";
  fill(
    main,
    el("h1", {}, error.status === 404 ? "Not there" : (error.title ?? "This page could not be shown")),
    el("p", { class: "empty" }, error.message),
    el("p", {}, el("button", { type: "button", click: again }, "Try again"), " ", el("a", { href: "#/jobs" }, "All jobs")),
  );
}

function again() {
  shown.name = null;
  show();
}

/** Ask for a key in the place of the page, which cannot go on without one. */
function askForKey() {
  if (document.getElementById("key")) return;
  turn += 1;
  shown.leave?.();
  shown = { name: null, leave: null, moved: null };
  main.removeAttribute("aria-busy");
  leave.hidden = true;
  fill(main, keyForm());
}

/** Say whose key is used, where one is, and let it be put away. */
async function showSession() {
  const who = await api.session().catch(() => ({ key_id: null }));
  leave.hidden = who.key_id === null;
  leave.title = `Key ${who.key_id} of ${who.tenant}: may ${who.scopes?.join(", ")}`;
}

function keyForm() {
  document.title = "API key · miStudioExplain";
  const field = el("input", { id: "key", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const problem = el("p", { class: "problem", role: "alert" });
  const use = async (event) => {
    event.preventDefault();
    try {
      await api.openSession(field.value.trim());
      fill(main);
      again();
      showSession();
    } catch (error) {
      fill(problem, error.message);
      field.select();
    }
  };
  queueMicrotask(() => field.focus());
  return el(
    "form",
    { class: "narrow", submit: use },
    el("h1", {}, "This gateway asks for an API key"),
    el("p", {}, "The browser does not keep it: it gets a session of its own, for this gateway alone and out of reach of scripts, until you sign out or close it."),
    el("label", { for: "key" }, "API key"),
    field,
    problem,
    el("button", { type: "submit", class: "main" }, "Use this key"),
  );
}

async function watchKafka() {
  const box = document.getElementById("away");
  const why = document.hidden ? undefined : await api.away().catch(() => undefined);
  if (why !== undefined && box.dataset.why !== String(why)) {
    box.dataset.why = String(why);
    box.hidden = why === null;
    fill(box, why && el("p", {}, AWAY[why]));
  }
  setTimeout(watchKafka, LOOK_EVERY_MS);
}

leave.addEventListener("click", async () => {
  try {
    await api.closeSession();
    askForKey();
  } catch (error) {
    say(error.message);
  }
});
addEventListener(api.NO_KEY, askForKey);
document.getElementById("help").addEventListener("click", helpDialog);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener("keydown", onKey);
shortcut("?", "show these keys", helpDialog);
shortcut("g j", "all jobs", () => (location.hash = "#/jobs"));
shortcut("g c", "compare", () => (location.hash = "#/compare"));
shortcut("g e", "explain now", () => (location.hash = "#/explain"));
shortcut("g o", "operations", () => (location.hash = "#/operations"));
addEventListener("hashchange", show);
show();
showSession();
watchKafka();
