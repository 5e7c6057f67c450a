// One job: its progress, the list of its features, and the feature that was chosen beside it.

import * as api from "./api.js";
import { detail } from "./detail.js";
import { el, fill } from "./dom.js";
import { shortcut } from "./keyboard.js";
import { listing } from "./listing.js";
import { passageKeys } from "./passages.js";
import { at, place } from "./place.js";
import { extent, files, progress, status } from "./progress.js";
import { plural } from "./words.js";

export async function open(main, { parts, query, signal, say }) {
  const id = parts[1];
  document.title = `${id} · miStudioExplain`;
  const state = { report: null, shown: 0 };
  const reading = api.job(id, signal);
  const list = listing(id, { signal });
  list.adopt(query);
  const loading = list.load();
  const known = await reading;
  state.report = known.report;
  const numbers = el("div", { class: "progress" });
  const fresh = el("button", { type: "button", class: "fresh", hidden: true, click: refresh });
  const beside = el("article", { class: "card", id: "feature", tabindex: "-1", "aria-label": "Feature" });
  const split = el("div", { class: "split" }, el("div", { class: "side" }, fresh, list.root), beside);
  const heading = el("h1", { dir: "auto" }, id);
  const actions = el("div", { class: "actions" }, el("a", { href: at(["compare"], { a: id }) }, "Compare with another job"), cancelButton());
  const head = el("header", { class: "job" }, el("p", { class: "crumb" }, el("a", { href: "#/jobs" }, "Jobs")), heading, subtitle(), numbers, actions);
  fill(main, head, split);
  const feature = detail(beside, id, { signal, say, reviewed: list.reviewed });
  drawn();
  await loading;
  state.shown = done();
  moved(parts);
  bind();
  if (["requested", "running"].includes(known.status)) follow();
  api.files(id, signal).then((found) => actions.append(files(id, found.files) ?? "")).catch(() => undefined); // the page is whole without them
  return moved;

  function drawn(how = {}) {
    if (state.report) progress(numbers, { ...state.report, expected: state.report.expected ?? known.expected }, how); // what was promised, until it is sealed
    else fill(numbers, el("p", { class: "far" }, status(known), el("span", { class: "quiet" }, "nothing was counted yet")));
  }

  function done() {
    return state.report ? extent(state.report).done : 0;
  }

  function subtitle() {
    const { find_job_id: find, target_model: model } = known;
    return el("p", { class: "quiet" }, model && ["features of ", el("code", {}, model)], find && [" found by ", el("code", {}, find)]);
  }

  function cancelButton() {
    if (!["requested", "running"].includes(known.status)) return null;
    const button = el("button", { type: "button", class: "plain", click: async () => {
      if (!confirm(`Cancel ${id}? What waits of it ends as skipped.`)) return;
      try {
        await api.cancel(id);
        say(`${id} is being cancelled`);
        button.remove();
      } catch (error) {
        say(error.message);
      }
    } }, "Cancel job");
    return button;
  }

  /** Another feature of the same job, or none, or other filters. */
  function moved(now) {
    const name = now[2] === "features" && now[3] !== undefined ? now[3] : null;
    split.classList.toggle("has-feature", name !== null);
    head.classList.toggle("is-folded", name !== null);
    document.title = name === null ? `${id} · miStudioExplain` : `${name} · ${id} · miStudioExplain`;
    list.chosen(name);
    feature.show(name, state.report);
  }

  function bind() {
    const go = (by) => () => {
      const next = list.step(by);
      if (next !== null) location.hash = at(["jobs", id, "features", next], place().query);
    };
    shortcut("/", "search", () => list.search.focus(), signal);
    shortcut("j", "next feature", go(1), signal);
    shortcut("k", "previous feature", go(-1), signal);
    shortcut("Escape", "back to the list", () => (location.hash = at(["jobs", id], place().query)), signal);
    shortcut("r", "review: then 1 right, 2 partly, 3 wrong, 4 unclear", feature.review, signal);
    shortcut("c", "keep for comparison", feature.keep, signal);
    passageKeys(beside, signal);
  }

  async function follow() {
    for await (const event of api.jobEvents(id, signal)) {
      if (signal.aborted) return;
      if (event.name === "broken") drawn({ lost: true });
      else if (event.name === "waiting" || event.name === "reset") drawn({ waits: event.data.why });
      else if (event.name === "progress") {
        state.report = event.data;
        drawn();
        const added = done() - state.shown;
        fresh.hidden = added <= 0;
        fill(fresh, `Show ${plural(added, "new outcome")}`);
      }
    }
  }

  async function refresh() {
    fresh.hidden = true;
    state.shown = done();
    await list.load();
    list.search.focus({ preventScroll: true });
  }
}
