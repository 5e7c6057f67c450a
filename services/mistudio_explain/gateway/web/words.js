// How values are written for people: a missing one is never a zero, and characters that do not show are made visible.

const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]/g;
const SHOWN = { "\n": "↵ ", "\t": "⇥ " };

export const VERDICTS = ["confirmed", "partial", "contradicted", "unverifiable"];
export const ASSESSMENTS = ["safe", "requires_review", "concerning"];
export const CATEGORIES = ["technical", "conversational", "behavioral", "temporal", "other"];
export const REVIEWS = ["right", "partly", "wrong", "unclear"];

/** Control characters and direction overrides as marks that a reader sees. */
export function visible(text) {
  return String(text).replace(UNSEEN, (c) => SHOWN[c] ?? `[U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
}

export const known = (value) => value !== null && value !== undefined;
export const count = (n) => (known(n) ? n.toLocaleString("en") : "–");
export const score = (value) => (known(value) ? value.toFixed(2) : "–");
export const strength = (value) => Number(value.toPrecision(3)).toString();
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
export const spaced = (name) => String(name).replaceAll("_", " ");

/** A share in percent with three digits that count, such that nearly all never looks like all. */
export function percent(share) {
  const written = Number((100 * share).toPrecision(3));
  return share < 1 && written === 100 ? "over 99.9%" : `${written}%`;
}

export function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function bytes(n) {
  if (n < 1000) return `${n} B`;
  return n < 1e6 ? `${(n / 1e3).toFixed(0)} kB` : `${(n / 1e6).toFixed(1)} MB`;
}

/** A moment as every other output of the program writes it. */
export function moment(ms) {
  return known(ms) ? `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")} UTC` : "–";
}
