// One feature of a job beside its list: its card, its history over jobs, its review and its way to a comparison.

import * as api from "./api.js";
import { card, label } from "./card.js";
import { el, fill } from "./dom.js";
import { verdict } from "./marks.js";
import { at, place } from "./place.js";
import { reviewDialog } from "./review.js";
import { moment, plural, score, visible } from "./words.js";

const KEPT = "mistudio-explain.kept";
const MOST_KEPT = 4;

/** Features that were kept for a comparison in this tab: `[job, key]`. */
export const kept = {
  all: () => JSON.parse(sessionStorage.getItem(KEPT) ?? "[]"),
  set: (pairs) => sessionStorage.setItem(KEPT, JSON.stringify(pairs.slice(-MOST_KEPT))),
};

export function detail(node, job, { signal, say, reviewed }) {
  let shown = null;
  let loading = null;

  async function show(name, report) {
    loading?.abort();
    const mine = (loading = new AbortController());
    signal.addEventListener("abort", () => mine.abort(), { once: true });
    if (name === null) {
      shown = null;
      return fill(node, overview(report));
    }
    node.setAttribute("aria-busy", "true");
    try {
      const found = await api.feature(job, name, mine.signal);
      if (mine !== loading) return;
      shown = found;
      draw();
      if (isNarrow()) node.focus();
      remember((await api.history(job, name, mine.signal)).jobs, mine);
    } catch (error) {
      if (error.name === "AbortError" || mine !== loading) return;
      if (shown?.feature_key !== name) fill(node, back(), el("p", { class: "empty" }, error.status === 404 ? `This job has no outcome of a feature ${name}.` : error.message));
    } finally {
      if (mine === loading) node.removeAttribute("aria-busy");
    }
  }

  function draw() {
    const actions = el(
      "p",
      { class: "actions" },
      el("button", { type: "button", class: "main", click: review, disabled: shown.outcome !== "explained" }, "Review ", el("kbd", {}, "r")),
      el("button", { type: "button", class: "plain", click: keep }, "Keep for comparison ", el("kbd", {}, "c")),
      el("a", { href: at(["explain"], { job, feature: shown.feature_key }) }, "Explain again now"),
    );
    card(node, shown, { actions });
    node.prepend(back());
  }

  function remember(jobs, mine) {
    if (mine !== loading || jobs.length < 2) return;
    const names = ["job", "explanation", "verdict", "quality", "when"];
    node.append(el(
      "section",
      { class: "earlier" },
      el("h3", {}, `The same feature in ${plural(jobs.length, "job")}`),
      el("div", { class: "wide" }, el("table", { class: "plain" }, el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, jobs.map(inJob)))),
    ));
  }

  function inJob(line) {
    return el(
      "tr",
      {},
      el("td", {}, el("a", { href: at(["jobs", line.job, "features", line.feature_key]), "aria-current": line.job === job && "true" }, line.job)),
      el("td", { dir: "auto" }, visible(line.label ?? line.said ?? "–")),
      el("td", {}, verdict(line.verdict ?? line.outcome)),
      el("td", {}, score(line.quality)),
      el("td", {}, moment(line.changed_ms)),
    );
  }

  function review() {
    if (shown?.outcome !== "explained") return;
    const { feature_key: name } = shown;
    reviewDialog(job, name, label(shown), {
      say,
      done: (said) => {
        reviewed(name, said.verdict);
        if (shown?.feature_key !== name) return;
        shown = { ...shown, review: { ...said, timestamp: new Date().toISOString() } };
        draw();
      },
    });
  }

  function keep() {
    if (!shown) return;
    const { feature_key: name } = shown;
    kept.set([...kept.all().filter(([j, k]) => j !== job || k !== name), [job, name]]);
    say(`${plural(kept.all().length, "feature")} kept; press g c to compare`);
  }

  function back() {
    return el("p", { class: "crumb" }, el("a", { href: at(["jobs", job], place().query) }, "All features"));
  }

  return { show, review, keep };
}

function overview(report) {
  const hasOutcomes = report !== null && report.explained + report.skipped + report.failed > 0;
  const isOver = report !== null && report.status !== "running";
  const nothing = isOver ? "The job ended before any feature left it." : "No feature has left this job yet; this page shows them as they come.";
  return el("p", { class: "empty" }, hasOutcomes ? "Choose a feature; j and k step through the list." : nothing);
}

function isNarrow() {
  return matchMedia("(max-width: 899px)").matches;
}
