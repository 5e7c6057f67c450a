// All jobs, those heard of last first; running ones move by themselves.

import * as api from "./api.js";
import { el, fill } from "./dom.js";
import { at } from "./place.js";
import { extent, outcomes, status } from "./progress.js";
import { count, known, moment, plural } from "./words.js";

const STEP = 50;
const MOST = 1000; // as many as the gateway lists
const AT_MOST_EVERY_MS = 500;
const AGAIN_MS = 10_000; // for jobs that were only asked for, of which nothing has moved yet

export async function open(main, { signal }) {
  document.title = "Jobs · miStudioExplain";
  let limit = STEP;
  const drawn = new Map();
  const list = el("ul", { class: "jobs" });
  const more = el("button", { type: "button", class: "plain", hidden: true, click: () => {
    limit = Math.min(MOST, limit + STEP);
    look();
  } }, "Show more jobs");
  const first = await api.jobs({ limit }, signal);
  fill(main, el("h1", {}, "Jobs"), list, more);
  show(first.jobs);
  later();
  follow();

  /** Draw what changed, so that a link that has the focus keeps it. */
  function show(jobs) {
    const items = jobs.map((job) => {
      const state = JSON.stringify(job);
      const before = drawn.get(job.explain_job_id);
      if (before?.state === state) return before.item;
      const item = before?.item ?? el("li", {}, el("h2", {}, el("a", { href: at(["jobs", job.explain_job_id]) }, job.explain_job_id)), el("div", {}));
      fill(item.lastChild, line(job));
      drawn.set(job.explain_job_id, { state, item });
      return item;
    });
    const isShown = items.length === 0 ? list.querySelector(".empty") !== null : items.length === list.children.length && items.every((item, i) => list.children[i] === item);
    if (!isShown) fill(list, items.length === 0 ? nothing() : items);
    more.hidden = jobs.length < limit || limit >= MOST;
  }

  async function look() {
    try {
      if (!document.hidden) show((await api.jobs({ limit }, signal)).jobs);
    } catch {
      // The line above the page says what is away; the next look may find it again.
    }
  }

  /** Look when a job moves or goes. */
  async function follow() {
    let waiting = null;
    for await (const event of api.allEvents(signal)) {
      if (!["progress", "removed", "reset"].includes(event.name) || waiting !== null) continue;
      waiting = setTimeout(() => {
        waiting = null;
        if (!signal.aborted) look();
      }, AT_MOST_EVERY_MS);
    }
  }

  function later() {
    const timer = setTimeout(() => look().then(later), AGAIN_MS);
    signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  }
}

function line(job) {
  const { done, whole } = extent(job);
  return [
    el(
      "p",
      { class: "far" },
      status(job),
      el("b", {}, known(whole) ? `${count(done)} of ${plural(whole, "feature")}` : plural(done, "feature")),
      job.target_model && el("span", {}, job.target_model),
      job.flagged > 0 && el("span", {}, `${count(job.flagged)} to look at`),
      el("span", { class: "quiet" }, `last heard of ${moment(job.heard_ms)}`),
    ),
    outcomes(job),
  ];
}

function nothing() {
  return el(
    "li",
    { class: "empty" },
    el("p", {}, "No job yet. Send the features of a find job, and it appears here by itself:"),
    el("pre", {}, "mistudio-explain publish results.json"),
    el("p", {}, "Or ", el("a", { href: "#/explain" }, "explain one feature now"), "."),
  );
}
