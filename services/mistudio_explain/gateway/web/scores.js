// A feature's figures: scores with what they are made of, what it does to logits, and how often it fires.

import { el, svg } from "./dom.js";
import { scored } from "./marks.js";
import { known, percent, score, spaced, strength, visible } from "./words.js";

const LOGITS_SHOWN = 10;
const LEAST_DENSITY = 1e-6; // below this the scale of density ends

/** All scores of a feature; null for one that was not scored. */
export function figures(feature) {
  if (feature.outcome !== "explained") return null;
  const missing = feature.unavailable ?? {};
  const part = (name) => scored(name, feature[name]?.value, missing[name]);
  return el(
    "section",
    { class: "figures" },
    el("h3", {}, "Scores"),
    el(
      "dl",
      { class: "scores" },
      scored("accuracy", feature.accuracy?.p, missing.accuracy, feature.accuracy ?? {}),
      scored("quality", feature.explanation_quality, missing.quality_score ?? missing.quality),
      scored("confidence", feature.explanation_confidence, missing.confidence),
      part("clarity"),
      part("consistency"),
      part("relevance"),
    ),
    judged(feature.judge),
    parts(feature),
  );
}

function judged(judge) {
  if (!judge) return null;
  return [
    el("h4", {}, "A second model's test"),
    el(
      "dl",
      { class: "scores" },
      judge.kinds.map((kind) => scored(kind.kind, kind.balanced_accuracy, judge.unavailable?.[kind.kind])),
      known(judge.factual_coherence) && scored("factual coherence", judge.factual_coherence),
      known(judge.logical_coherence) && scored("logical coherence", judge.logical_coherence),
    ),
    el("p", { class: "quiet" }, `${judge.model ?? "no model answered"}${judge.is_explainer ? "; the same model wrote the explanation and may favour its own words" : ""}`),
  ];
}

function parts({ accuracy, clarity, consistency, relevance }) {
  const rows = [
    ...(accuracy ? [["accuracy, seen texts", accuracy.seen], ["accuracy, held-out texts", accuracy.held_out], ["accuracy without its keywords", accuracy.masked], ["share of texts that fit", accuracy.coverage]] : []),
    ...Object.entries({ clarity, consistency, relevance }).flatMap(([name, made]) => Object.entries(made?.parts ?? {}).map(([sub, value]) => [`${name}: ${spaced(sub)}`, value])),
  ].filter(([, value]) => known(value));
  if (rows.length === 0) return null;
  return el("details", {}, el("summary", {}, "What they are made of"), el("dl", { class: "facts" }, rows.map(([name, value]) => [el("dt", {}, visible(name)), el("dd", {}, score(value))])));
}

/** The tokens that a feature promotes and suppresses; null where the source gave none. */
export function logits(given) {
  if (!given?.length) return null;
  const most = Math.max(...given.map((each) => Math.abs(each.value)), Number.MIN_VALUE);
  const sorted = [...given].sort((a, b) => b.value - a.value);
  const up = sorted.filter((each) => each.value >= 0).slice(0, LOGITS_SHOWN);
  const down = sorted.filter((each) => each.value < 0).reverse().slice(0, LOGITS_SHOWN);
  const table = (heading, rows, kind) => rows.length > 0 && el(
    "table",
    { class: `logits ${kind}` },
    el("caption", {}, heading),
    el("tbody", {}, rows.map(({ token, value }) => el(
      "tr",
      {},
      el("th", { scope: "row" }, el("code", { dir: "auto" }, visible(token) || "(empty)")),
      el("td", { class: "logit-bar" }, svg("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: "filled", width: (100 * Math.abs(value)) / most, height: 8 }))),
      el("td", { class: "number" }, `${value > 0 ? "+" : ""}${strength(value)}`),
    ))),
  );
  return el("section", {}, el("h3", {}, "What it does to the next token"), el("div", { class: "logit-tables" }, table("promotes", up, "is-up"), table("suppresses", down, "is-down")));
}

/** How the feature's activation is distributed; null where the source says nothing of it. */
export function density(statistics) {
  const facts = [["greatest", statistics?.max], ["mean", statistics?.mean], ["standard deviation", statistics?.std]].filter(([, value]) => known(value));
  if (!known(statistics?.frequency) && facts.length === 0) return null;
  return el(
    "section",
    {},
    el("h3", {}, "Activation over the source's corpus"),
    known(statistics.frequency) && [el("p", {}, "fires on ", el("b", {}, percent(statistics.frequency)), " of tokens"), statistics.frequency > 0 && onLogScale(statistics.frequency)],
    facts.length > 0 && el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, strength(value))])),
  );
}

function onLogScale(frequency) {
  const x = Math.max(0, Math.min(100, 100 * (1 - Math.log10(frequency) / Math.log10(LEAST_DENSITY))));
  const ticks = [0, 100 / 6, 200 / 6, 50, 400 / 6, 500 / 6, 100];
  return el(
    "div",
    { class: "density", role: "img", "aria-label": `${percent(frequency)} of tokens, on a logarithmic scale from 0.0001% to 100%` },
    svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: "track", y: 4, width: 100, height: 2 }), ticks.map((tick) => svg("rect", { class: "tick", x: Math.min(tick, 99.6), y: 2.5, width: 0.4, height: 5 })), svg("rect", { class: "point", x: Math.min(x, 98.8), width: 1.2, height: 10 })),
    el("p", { class: "axis", "aria-hidden": "true" }, el("span", {}, "one in a million"), el("span", {}, "every token")),
  );
}
