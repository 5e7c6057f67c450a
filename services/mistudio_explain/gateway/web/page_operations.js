// What is behind and what works: consumer lag by service, and the endpoints that models are asked at.

import * as api from "./api.js";
import { el, fill } from "./dom.js";
import { count, duration, known, moment, plural } from "./words.js";

const LAG_EVERY_MS = 5_000;
const MODELS_EVERY_MS = 60_000; // to look at endpoints asks every one of them, and starts a demonstration model where there is none

export async function open(main, { signal }) {
  document.title = "Operations · miStudioExplain";
  const lag = part("lag", "What is still to do", api.lag, lagTable, signal);
  const models = part("models", "Models", api.models, fleetTable, signal);
  fill(main, el("h1", {}, "Operations"), lag.node, models.node);
  await lag.look(); // a key that is missing or too small is the whole page's matter
  models.look().catch(() => undefined);
  every(LAG_EVERY_MS, lag.look, signal);
  every(MODELS_EVERY_MS, models.look, signal);
}

/** A part of the page with its heading, and how to look at it anew. */
function part(id, title, ask, table, signal) {
  const content = el("div", {}, el("p", { class: "waiting" }, "Looking"));
  const look = async () => {
    try {
      fill(content, table(await ask(signal)));
    } catch (error) {
      if (error.name === "AbortError" || error.status === 401) throw error;
      fill(content, el("p", { class: "empty" }, error.message));
    }
  };
  return { node: el("section", { "aria-labelledby": id }, el("h2", { id }, title), content), look };
}

function every(ms, look, signal) {
  const again = () => {
    const timer = setTimeout(() => (document.hidden ? Promise.resolve() : look().catch(() => undefined)).then(() => signal.aborted || again()), ms);
    signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  };
  again();
}

function lagTable(reading) {
  const rows = reading.lag ?? [];
  const remarks = [
    ...rows.filter((row) => row.unfinished && !row.members).map((row) => `${short(row.topic)}: nobody works on it (the group ${row.group} has no member)`),
    ...rows.filter((row) => row.expired).map((row) => `${short(row.topic)}: ${plural(row.expired, "record")} expired unread`),
    ...(reading.missing_topics ?? []).map((topic) => `${topic} does not exist`),
    ...(reading.unavailable_partitions ?? []).map((each) => `${each.topic}/${each.partition} has no leader that answers`),
  ];
  if (rows.length === 0) return [el("p", { class: "empty" }, reading.unavailable ?? "No service has read anything from this Kafka yet."), remarks.length > 0 && list(remarks)];
  const columns = [["service", ""], ["topic", ""], ["model", ""], ["to do", "number"], ["in flight", "number"], ["oldest", "number"], ["done", "number"], ["empty in", "number"]];
  return [
    remarks.length > 0 && list(remarks),
    table("What is still to do, by service", columns, rows.map((row) => [row.service, short(row.topic), row.target_model ?? "–", count(row.unfinished), count(row.in_flight), duration(row.oldest_age_s), known(row.rate) ? `${row.rate.toFixed(1)}/s` : "–", row.unfinished > 0 ? duration(row.drain_s) : "–"])),
    reading.at && el("p", { class: "quiet" }, `as of ${moment(Date.parse(reading.at))}`),
  ];
}

function fleetTable(reading) {
  const endpoints = reading.endpoints ?? [];
  if (endpoints.length === 0) return el("p", { class: "empty" }, "No endpoint is configured.");
  const columns = [["endpoint", ""], ["state", ""], ["model", ""], ["loaded", ""], ["memory", "number"], ["uses", "number"]];
  const rows = endpoints.flatMap((endpoint) => {
    const state = endpoint.status === "healthy" ? el("span", { class: "verdict is-confirmed" }, "healthy") : el("span", {}, el("span", { class: "verdict is-failed" }, endpoint.status), endpoint.why && ` ${endpoint.why}`);
    const models = endpoint.models?.length ? endpoint.models : [null];
    return models.map((model, i) => [i === 0 ? endpoint.endpoint : "", i === 0 ? state : "", model?.model ?? "–", loaded(model, endpoint.provider), gigabytes(model?.memory_bytes ?? model?.needed_bytes), count(model?.uses)]);
  });
  return [table("Endpoints and their models", columns, rows), reading.uses_unknown_because && el("p", { class: "quiet" }, `Uses are not known: ${reading.uses_unknown_because}`)];
}

function table(name, columns, rows) {
  return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": name }, el("table", { class: "plain" }, el("thead", {}, el("tr", {}, columns.map(([name, kind]) => el("th", { scope: "col", class: kind || null }, name)))), el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) => el("td", { class: columns[i][1] || null }, cell)))))));
}

/** Since when a model is loaded, or whether, which Ollama alone tells. */
function loaded(model, provider) {
  if (model === null) return "–";
  if (model.loaded_at) return `since ${moment(Date.parse(model.loaded_at))}`;
  if (provider !== "ollama") return "not told";
  return model.state === "loaded" ? "yes" : "no";
}

const list = (remarks) => el("ul", { class: "doubts" }, remarks.map((remark) => el("li", {}, remark)));
const short = (topic) => topic.replace(/^mistudio\./, "").replace(/^explain\./, "");
const gigabytes = (bytes) => (known(bytes) ? `${(bytes / 1e9).toFixed(1)} GB` : "–");
