// A feature as a card: what it is said to be and how far to believe that first, then its texts, then figures.

import { el, fill } from "./dom.js";
import { chip, verdict } from "./marks.js";
import { passages } from "./passages.js";
import { density, figures, logits } from "./scores.js";
import { duration, known, moment, percent, plural, spaced, visible } from "./words.js";

const BASIS = { all: "", seen: "seen ", held_out: "held-out " };

/** Fill a node with the card of a feature, as the gateway gives it; `actions` stand beside its heading. */
export function card(node, feature, { actions = null } = {}) {
  return fill(
    node,
    el("header", {}, el("div", { class: "titles" }, el("h2", { dir: "auto", class: feature.label ? "label" : "label is-sentence" }, label(feature)), key(feature)), actions),
    said(feature),
    judgement(feature),
    doubts(feature),
    passages(feature),
    el("div", { class: "aside" }, logits(feature.top_logits), density(feature.activation_statistics), figures(feature)),
    origin(feature),
  );
}

/** The few words that stand for a feature. */
export function label({ outcome, reason, label: few, pattern, explanation }) {
  if (outcome !== "explained") return `${outcome === "skipped" ? "Skipped" : "Failed"}: ${visible(reason ?? "no reason was given")}`;
  return visible(few ?? pattern ?? explanation ?? "No explanation");
}

function key({ feature_key: name, target_model: model }) {
  return el("p", { class: "key" }, "feature ", el("code", { dir: "auto" }, name), model && [" of ", el("code", {}, model)]);
}

function said({ label: few, pattern, significance, implications }) {
  return [
    few && pattern && el("p", { class: "pattern", dir: "auto" }, visible(pattern)),
    [significance, implications].filter(Boolean).map((sentence) => el("p", { class: "further", dir: "auto" }, visible(sentence))),
  ];
}

function judgement({ outcome, accuracy, safety, pattern_verification: verification, explanation_confidence: confidence, review }) {
  if (outcome !== "explained") return null;
  return el(
    "div",
    { class: "judgement" },
    el(
      "p",
      {},
      verification ? verdict(verification) : el("span", { class: "verdict is-none" }, "no verdict"),
      accuracy && [
        " ",
        el("b", {}, percent(accuracy.p)),
        " likely to be about this feature rather than another of its find job",
        el("span", { class: "quiet" }, accuracyBasis(accuracy)),
      ],
      known(confidence) && el("span", { class: "quiet" }, `; this verdict is right with probability ${percent(confidence)}`),
    ),
    safety && safety.assessment !== "safe" && el("p", {}, verdict(safety.assessment), " ", safety.categories.map((each) => chip(visible(spaced(each))))),
    review && reviewed(review),
  );
}

function accuracyBasis({ low, high, n, basis }) {
  const range = known(low) && known(high) ? `95% interval ${percent(low)} to ${percent(high)}, ` : "";
  return ` (${range}${plural(n, `${BASIS[basis] ?? ""}text`)})`;
}

function reviewed({ who, verdict: word, why, corrected, timestamp }) {
  return el(
    "div",
    { class: "reviewed" },
    el("p", {}, el("b", { dir: "auto" }, `${visible(who)} says: ${word}`), el("span", { class: "quiet" }, ` ${moment(Date.parse(timestamp))}`), why && el("span", { dir: "auto" }, ` ${visible(why)}`)),
    corrected && el("p", {}, "It should say: ", el("i", { dir: "auto" }, visible(corrected))),
  );
}

function doubts({ review_reason: reason, caveats, flags }) {
  const notes = caveats ?? [];
  if (!reason && notes.length === 0 && !(flags ?? []).length) return null;
  return el(
    "div",
    { class: "doubts" },
    reason && el("p", {}, el("b", {}, "A person should look: "), visible(reason)),
    notes.length > 0 && el("ul", {}, notes.map((note) => el("li", { dir: "auto" }, visible(note)))),
    (flags ?? []).length > 0 && el("p", { class: "chips" }, flags.map((flag) => chip(visible(spaced(flag))))),
  );
}

function origin(feature) {
  const { generation } = feature;
  const facts = [
    ["category", feature.category && `${feature.category}${feature.category_source ? ` (${feature.category_source})` : ""}`],
    ["coherence", known(feature.original_coherence) ? `${feature.original_coherence.toFixed(2)} (${(feature.computed ?? []).includes("coherence_score") ? "computed, no tier" : feature.tier})` : "not given"],
    ["keywords", feature.keywords?.length ? feature.keywords.slice(0, 12).map(visible).join(", ") : null],
    ["suggested", feature.suggested_action],
    ["explained by", generation && `${generation.model} at ${generation.endpoint}${generation.cached ? ", an answer kept from before" : ""}`],
    ["prompt", feature.prompt?.template],
    ["tokens", generation && known(generation.tokens_in) && known(generation.tokens_out) ? `${generation.tokens_in} in, ${generation.tokens_out} out` : null],
    ["time", generation && duration(generation.latency_s)],
    ["pass", feature.pass > 1 ? "second" : null],
    ["find job", feature.find_job_id],
  ].filter(([, value]) => known(value) && value !== "");
  return el("details", { class: "origin" }, el("summary", {}, "Where this comes from"), el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", { dir: "auto" }, value)])));
}
