// The features of a job as a list: filters, search as you type, order, and more as one scrolls.

import * as api from "./api.js";
import { el, fill } from "./dom.js";
import { bar, chip, verdict } from "./marks.js";
import { at, place, replaceQuery } from "./place.js";
import { ASSESSMENTS, CATEGORIES, count, known, plural, score, spaced, VERDICTS, visible } from "./words.js";

const PAGE = 50;
const PAUSE_MS = 150;
const FEW = 20; // a page of rare explanations may be short though more follow
const FILTERS = {
  outcome: ["Outcome", ["explained", "skipped", "failed"]],
  verdict: ["Verdict", VERDICTS],
  safety: ["Safety", ASSESSMENTS],
  category: ["Category", CATEGORIES],
};
const ORDERS = {
  "": "by feature",
  "-quality": "best quality first",
  quality: "worst quality first",
  "-accuracy": "most likely first",
  accuracy: "least likely first",
  "-confidence": "surest verdict first",
  confidence: "least sure verdict first",
  "-changed": "newest first",
};

/** The list of a job's features, for the page around it. */
export function listing(job, { signal }) {
  const state = { items: [], next: null, loading: null, telling: null, chosen: null };
  const search = el("input", { type: "search", id: "search", placeholder: "Search labels, explanations, keywords", autocomplete: "off", spellcheck: "false", "aria-describedby": "found" });
  const found = el("p", { id: "found", role: "status", class: "quiet found" });
  const ol = el("ol", { class: "features", "aria-label": "Features" });
  const more = el("button", { type: "button", class: "plain more", hidden: true, click: () => load(true) }, "Show more");
  const selects = Object.entries(FILTERS).map(([name, [title, values]]) => choice(name, title, [["", "all"], ...values.map((value) => [value, spaced(value)])]));
  const order = choice("sort", "Order", Object.entries(ORDERS));
  const clear = el("button", { type: "button", class: "plain", hidden: true, click: () => {
    for (const field of [search, ...selects.map((each) => each.select)]) field.value = "";
    changed();
    search.focus();
  } }, "Clear filters");
  const controls = [...selects, order];
  const folded = el("details", { class: "filters" }, el("summary", {}, "Filter and order"), el("div", {}, controls.map((each) => each.label), clear));
  const root = el("section", { class: "listing", "aria-label": "Features of the job" }, el("form", { role: "search", submit: (event) => event.preventDefault() }, el("label", { for: "search", class: "unseen" }, "Search"), search, folded), found, ol, more);

  search.addEventListener("input", changed);
  for (const { select } of controls) select.addEventListener("change", changed);
  new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && state.next && load(true), { rootMargin: "600px" }).observe(more);
  signal.addEventListener("abort", () => [state.loading, state.telling].forEach((each) => each?.abort()));

  function choice(name, title, options) {
    const select = el("select", { name }, options.map(([value, text]) => el("option", { value }, text)));
    return { name, select, label: el("label", {}, title, select) };
  }

  /** What the address says. */
  function query() {
    const chosen = { q: search.value.trim() };
    for (const { name, select } of controls) chosen[name] = select.value;
    return chosen;
  }

  /** The same as the gateway is asked it. */
  function asked() {
    const { q: text, sort, ...filters } = query();
    return { ...filters, text, order: sort.replace("-", ""), descending: sort.startsWith("-") || "" };
  }

  /** Take the filters from the address. */
  function adopt(parameters) {
    search.value = parameters.get("q") ?? "";
    for (const { name, select } of controls) select.value = parameters.get(name) ?? "";
    folded.open = controls.some(({ select }) => select.value);
  }

  function changed() {
    replaceQuery(Object.fromEntries(Object.entries(query()).filter(([, value]) => value)));
    return load(false);
  }

  async function load(isMore) {
    if (isMore && state.loading) return;
    for (const before of [state.loading, ...(isMore ? [] : [state.telling])]) before?.abort();
    const mine = (state.loading = new AbortController());
    ol.setAttribute("aria-busy", "true");
    try {
      const page = await api.explanations(job, { ...asked(), limit: PAGE, cursor: isMore ? state.next : null }, mine.signal);
      if (mine !== state.loading) return;
      state.items = isMore ? [...state.items, ...page.explanations] : page.explanations;
      state.next = page.next ?? null;
      draw(isMore ? page.explanations : null);
      settled();
      if (!isMore) tell((state.telling = new AbortController()).signal);
      if (state.next && page.explanations.length < FEW) load(true);
    } catch (error) {
      if (error.name === "AbortError" || mine !== state.loading) return;
      settled();
      fill(found, el("span", { class: "problem" }, error.message), " ", el("button", { type: "button", class: "plain", click: () => load(isMore) }, "Try again"));
    }
  }

  function settled() {
    state.loading = null;
    ol.removeAttribute("aria-busy");
  }

  function draw(added) {
    if (added) ol.append(...added.map(row));
    else fill(ol, state.items.map(row));
    more.hidden = !state.next;
    const isFiltered = Object.entries(query()).some(([name, value]) => value && name !== "sort");
    clear.hidden = !isFiltered;
    if (state.items.length === 0 && !state.next) fill(found, isFiltered ? "No feature fits." : "No feature has left this job.");
    else if (!added) fill(found, state.next ? `more than ${plural(state.items.length, "feature")}` : plural(state.items.length, "feature"));
    mark();
  }

  /** How many there are in all, and what each choice of a filter would leave; once nothing is typed, for the next list is more urgent. */
  async function tell(asking) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    if (asking.aborted) return;
    const { order: _, descending: __, ...filters } = asked();
    const counts = await api.counts(job, filters, asking).catch(() => null);
    if (counts === null || asking.aborted) return;
    if (counts.total > 0) fill(found, `${counts.is_whole ? "" : "at least "}${plural(counts.total, "feature")}`);
    for (const { name, select } of selects) {
      for (const option of select.options) option.text = option.value ? `${spaced(option.value)} (${count(counts.by[name]?.[option.value] ?? 0)})` : "all";
    }
  }

  function row(item) {
    const link = el(
      "a",
      { href: at(["jobs", job, "features", item.feature_key], place().query), "data-key": item.feature_key, click: follow },
      el("span", { class: "name", dir: "auto" }, visible(item.label ?? item.said ?? "no explanation")),
      el(
        "span",
        { class: "signs" },
        item.outcome === "explained" ? (item.verdict ? verdict(item.verdict) : el("span", { class: "verdict is-none" }, "no verdict")) : verdict(item.outcome),
        item.safety && item.safety !== "safe" && verdict(item.safety),
        item.review && chip(`reviewed: ${item.review}`),
        el("code", { dir: "auto" }, item.feature_key),
      ),
      known(item.quality) && el("span", { class: "quality", title: "quality" }, bar(item.quality), score(item.quality)),
    );
    return el("li", {}, link);
  }

  /** The address is made when a link is followed: filters may have changed since the row was drawn. */
  function follow(event) {
    event.currentTarget.href = at(["jobs", job, "features", event.currentTarget.dataset.key], place().query);
  }

  function mark() {
    for (const link of ol.querySelectorAll("a")) {
      if (link.dataset.key === state.chosen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  /** Say which feature is shown beside the list. */
  function chosen(name) {
    state.chosen = name;
    mark();
    const [link, side] = [ol.querySelector("[aria-current]"), root.parentElement];
    if (!link || !side) return;
    const [place, frame] = [link.getBoundingClientRect(), side.getBoundingClientRect()]; // moves the list alone, never the page
    if (place.top < frame.top) side.scrollTop -= frame.top - place.top;
    else if (place.bottom > frame.bottom) side.scrollTop += place.bottom - frame.bottom;
  }

  /** The feature that many rows away from the one shown; null at an end. */
  function step(by) {
    const now = state.items.findIndex((item) => item.feature_key === state.chosen);
    const next = now < 0 ? (by > 0 ? 0 : -1) : now + by;
    if (next >= state.items.length - 5 && state.next) load(true);
    return state.items[next]?.feature_key ?? null;
  }

  /** What a review says of a row that is shown already. */
  function reviewed(name, word) {
    const item = state.items.find((each) => each.feature_key === name);
    if (!item) return;
    item.review = word;
    ol.querySelector(`a[data-key="${CSS.escape(name)}"]`)?.closest("li").replaceWith(row(item));
    mark();
  }

  return { root, search, adopt, load: () => load(false), chosen, step, reviewed, first: () => state.items[0]?.feature_key ?? null };
}
