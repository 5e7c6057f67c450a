// Small signs: verdicts, safety, scores as bars, and shares of a whole.

import { el, svg } from "./dom.js";
import { count, score, spaced } from "./words.js";

/** A verdict or assessment: a shape as well as a colour, and always its name. */
export function verdict(name) {
  return el("span", { class: `verdict is-${name}` }, spaced(name));
}

export function chip(text, title = null) {
  return el("span", { class: "chip", title, dir: "auto" }, text);
}

/** A value from 0 to 1 as a bar; its number stands beside it. */
export function bar(value, { low = null, high = null } = {}) {
  const spread = low !== null && high !== null && svg("rect", { class: "spread", x: 100 * low, width: Math.max(1, 100 * (high - low)), height: 8 });
  return svg(
    "svg",
    { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", width: 100, height: 8 }),
    spread || svg("rect", { class: "filled", width: 100 * value, height: 8 }),
    spread && svg("rect", { class: "point", x: Math.min(98, 100 * value), width: 2, height: 8 }),
  );
}

/** Parts of a whole, `[[name, n], ...]`, as one bar and a legend that says the same. */
export function shares(parts, whole) {
  const there = parts.filter(([, n]) => n > 0);
  let x = 0;
  const rects = there.map(([name, n]) => {
    const width = (100 * n) / Math.max(whole, 1);
    x += width;
    return svg("rect", { class: `is-${name}`, x: x - width, width, height: 10 });
  });
  return el(
    "div",
    { class: "shares" },
    svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: "track", width: 100, height: 10 }), rects),
    el("ul", { class: "legend" }, there.map(([name, n]) => el("li", {}, el("span", { class: `swatch is-${name}` }), `${spaced(name)} `, el("b", {}, count(n))))),
  );
}

/** A score with its name, or why there is none. */
export function scored(name, value, missing, range = {}) {
  const figure = value === null || value === undefined ? el("dd", { class: "absent" }, missing ? `not computed: ${missing}` : "not computed") : el("dd", {}, bar(value, range), el("b", {}, score(value)));
  return [el("dt", {}, name), figure];
}
