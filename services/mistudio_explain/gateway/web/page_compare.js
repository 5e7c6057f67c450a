// Side by side: two jobs over the same features, or a few features that were kept.

import * as api from "./api.js";
import { card, label } from "./card.js";
import { kept } from "./detail.js";
import { el, fill } from "./dom.js";
import { verdict } from "./marks.js";
import { passageKeys } from "./passages.js";
import { at } from "./place.js";
import { progress } from "./progress.js";
import { known, plural, score, visible } from "./words.js";

const PAGE = 25;

export async function open(main, { query, signal, say }) {
  document.title = "Compare · miStudioExplain";
  passageKeys(main, signal);
  const body = el("div", {});
  fill(main, el("h1", {}, "Side by side"), body);
  const show = async (now) => {
    const [a, b] = [now.get("a"), now.get("b")];
    if (now.has("f")) return features(body, now.getAll("f").map((pair) => pair.split("|")), signal);
    if (a && b) return jobs(body, a, b, signal);
    return choose(body, a, signal, say);
  };
  await show(query);
  return (_, now) => show(now).catch((error) => error.name !== "AbortError" && fill(body, el("p", { class: "empty" }, error.message)));
}

/** Which jobs or features are to be compared. */
async function choose(body, first, signal, say) {
  const names = (await api.jobs({ limit: 200 }, signal)).jobs.map((job) => job.explain_job_id);
  const select = (id, value) => el("select", { id }, names.map((name) => el("option", { selected: name === value }, name)));
  const [a, b] = [select("job-a", first ?? names[0]), select("job-b", names.find((name) => name !== (first ?? names[0])))];
  const pairs = kept.all();
  fill(
    body,
    el(
      "form",
      { class: "pick", submit: (event) => {
        event.preventDefault();
        if (a.value === b.value) return say("Choose two different jobs.");
        location.hash = at(["compare"], { a: a.value, b: b.value });
      } },
      el("label", { for: "job-a" }, "Job", a),
      el("label", { for: "job-b" }, "with job", b),
      el("button", { type: "submit", class: "main", disabled: names.length < 2 }, "Compare jobs"),
    ),
    names.length < 2 && el("p", { class: "quiet" }, "Two jobs are needed for this; explain the same features again with another model or prompt."),
    el("h2", {}, "Features kept in this tab"),
    pairs.length === 0
      ? el("p", { class: "empty" }, "None. On a feature, “Keep for comparison” or the key c puts it here, up to four of them, of one job or several.")
      : [
          el("ul", {}, pairs.map(([job, key]) => el("li", {}, el("a", { href: at(["jobs", job, "features", key]) }, key), el("span", { class: "quiet" }, ` of ${job}`)))),
          el("p", { class: "actions" }, el("a", { href: ofFeatures(pairs) }, `Show ${plural(pairs.length, "feature")} side by side`), el("button", { type: "button", class: "plain", click: () => {
            kept.set([]);
            choose(body, first, signal, say);
          } }, "Forget them")),
        ],
  );
}

const ofFeatures = (pairs) => at(["compare"], new URLSearchParams(pairs.map((pair) => ["f", pair.join("|")])));

async function features(body, pairs, signal) {
  const cards = await Promise.all(pairs.map(async ([job, key]) => {
    const node = el("article", { class: "card", "aria-label": `${key} of ${job}` });
    const job_link = el("p", { class: "crumb" }, el("a", { href: at(["jobs", job, "features", key]) }, job));
    try {
      card(node, await api.feature(job, key, signal));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      fill(node, el("p", { class: "empty" }, error.status === 404 ? `${job} has no outcome of a feature ${key}.` : error.message));
    }
    node.prepend(job_link);
    return node;
  }));
  fill(body, el("div", { class: "columns", tabindex: 0, role: "region", "aria-label": "Features side by side" }, cards));
}

async function jobs(body, a, b, signal) {
  const both = await Promise.all([a, b].map((id) => api.job(id, signal)));
  const list = el("ol", { class: "pairs" });
  const more = el("button", { type: "button", class: "plain more", hidden: true });
  const columns = both.map((job) => el("section", { class: "card" }, el("h2", {}, el("a", { href: at(["jobs", job.explain_job_id]) }, job.explain_job_id)), job.report ? progress(el("div", {}), job.report) : el("p", { class: "empty" }, "Nothing of it was counted yet.")));
  fill(body, el("div", { class: "columns" }, columns), el("h2", {}, "Feature by feature"), el("p", { class: "quiet" }, `In the order of ${a}; accuracy in brackets.`), list, more);
  let next = null;
  const load = async () => {
    more.disabled = true;
    const page = await api.explanations(a, { limit: PAGE, cursor: next }, signal);
    next = page.next;
    const others = await Promise.all(page.explanations.map((row) => api.feature(b, row.feature_key, signal).catch(() => null)));
    list.append(...page.explanations.map((row, i) => pair(row, others[i])));
    more.hidden = !next;
    more.disabled = false;
  };
  const pair = (row, other) => el(
    "li",
    {},
    el("span", {}, el("a", { href: ofFeatures([[a, row.feature_key], [b, row.feature_key]]) }, row.feature_key)),
    side(a, visible(row.label ?? row.said ?? "–"), row.verdict ?? row.outcome, row.accuracy),
    other ? side(b, label(other), other.pattern_verification ?? other.outcome, other.accuracy?.p) : el("span", { class: "quiet" }, `not in ${b}`),
  );
  const side = (job, text, word, accuracy) => el("div", {}, el("span", { class: "whose" }, job), el("p", { dir: "auto" }, text), verdict(word), known(accuracy) && ` (${score(accuracy)})`);
  fill(more, "Show more");
  more.addEventListener("click", load);
  await load();
  if (list.children.length === 0) fill(list, el("li", { class: "empty" }, `${a} has no outcome yet.`));
}
