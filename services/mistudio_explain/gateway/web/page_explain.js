// One feature now: pasted, out of a file, or again out of a job; its answer is shown as it comes.

import * as api from "./api.js";
import { card } from "./card.js";
import { el, fill } from "./dom.js";
import { passageKeys } from "./passages.js";
import { visible } from "./words.js";

const EXAMPLE = {
  feature: {
    feature_id: 1,
    top_activations: [{ text: "The cat sat on the mat.", activation_strength: 4.2 }, { text: "A cat is asleep.", activation_strength: 3.9 }],
  },
  find_job: "find_by_hand",
  target_model: "gpt2",
};

export async function open(main, { query, signal }) {
  document.title = "Explain now · miStudioExplain";
  passageKeys(main, signal);
  const again = query.get("job") && query.get("feature");
  const source = el("textarea", { id: "source", rows: 12, spellcheck: "false", class: "code" });
  const file = el("input", { id: "file", type: "file", accept: ".json,application/json", change: async () => file.files[0] && (source.value = await file.files[0].text()) });
  const problem = el("p", { class: "problem", role: "alert" });
  const go = el("button", { type: "submit", class: "main" }, "Explain");
  const stop = el("button", { type: "button", class: "plain", hidden: true, click: () => asking?.abort() }, "Stop");
  const answer = el("div", { role: "region", "aria-label": "Answer" });
  let asking = null;
  fill(
    main,
    el("h1", {}, "Explain one feature now"),
    el("form", { submit: (event) => {
      event.preventDefault();
      ask();
    } }, el("label", { for: "source" }, "The feature as JSON: its id and its texts"), source, el("p", { class: "actions" }, go, stop, el("label", { for: "file" }, "or a file"), file), problem),
    answer,
  );
  signal.addEventListener("abort", () => asking?.abort());
  source.value = JSON.stringify(again ? await ofJob(query.get("job"), query.get("feature"), signal) : EXAMPLE, null, 2);
  if (again) go.focus();

  async function ask() {
    fill(problem);
    let question;
    try {
      const given = JSON.parse(source.value);
      question = given.feature ? given : { feature: given };
    } catch (error) {
      return fill(problem, `This is no JSON: ${error.message}`);
    }
    asking = new AbortController();
    [go.disabled, stop.hidden] = [true, false];
    const state = el("p", { role: "status", class: "quiet" }, "Waiting for a model");
    const words = el("pre", { class: "stream", dir: "auto", tabindex: 0, "aria-label": "The model's answer as it comes" });
    fill(answer, state, words);
    try {
      let beginning = 0;
      for await (const { name, data } of api.explainNow(question, asking.signal)) {
        if (name === "start") fill(state, `Asked as ${data.feature_key} of ${data.explain_job_id}; waiting for a model`);
        else if (name === "piece") {
          if (data.beginning !== beginning) fill(words);
          beginning = data.beginning;
          fill(state, "A model is answering");
          words.append(visible(data.text));
          words.scrollTop = words.scrollHeight;
        } else if (name === "outcome") told(data, words);
        else if (name === "failed") fill(problem, data.why);
      }
    } catch (error) {
      if (error.name === "AbortError") fill(state, "Stopped.");
      else fill(problem, error.message);
    } finally {
      [go.disabled, stop.hidden] = [false, true];
    }
  }

  function told(outcome, words) {
    const box = el("article", { class: "card", tabindex: -1 });
    fill(answer, card(box, ofOutcome(outcome)), el("details", {}, el("summary", {}, "The model's words"), words));
    box.focus();
  }
}

/** An outcome as events have it, in the shape in which the gateway gives a job's feature. */
function ofOutcome(outcome) {
  const { subject, answer } = outcome;
  return {
    ...outcome,
    ...subject,
    ...answer,
    original_coherence: subject.coherence_score,
    activation_statistics: subject.statistics,
    top_logits: subject.logits,
    explanation_quality: outcome.quality_score,
    explanation_confidence: outcome.confidence,
    prompt: { template: outcome.prompt_template },
    pass: outcome.pass_number,
  };
}

/** A feature of a job as its source gave it, to be explained again. */
async function ofJob(job, name, signal) {
  const { evidence, ...feature } = await api.feature(job, name, signal);
  const given = {
    feature_id: feature.feature_id,
    source_id: feature.source_id,
    coherence_score: feature.original_coherence,
    pattern_category: feature.category_source === "given" ? feature.category : null,
    pattern_keywords: feature.keywords,
    computed: feature.computed ?? [],
    top_activations: [...(evidence?.seen ?? []), ...(evidence?.held_out ?? [])].map(present),
    activation_statistics: feature.activation_statistics && present(feature.activation_statistics),
    top_logits: feature.top_logits,
  };
  return { feature: present(given), find_job: feature.find_job_id, target_model: feature.target_model };
}

/** Without what the source did not give. */
function present(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));
}
