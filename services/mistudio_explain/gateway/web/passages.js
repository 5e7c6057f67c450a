// A feature's texts: token background by activation, peak outlined, safety words marked, and what of each text is shown.

import { el, fill } from "./dom.js";
import { shortcut } from "./keyboard.js";
import { around, greatest, pieces, unplaced, unplacedPeak } from "./texts.js";
import { known, plural, spaced, strength, visible } from "./words.js";

const SHOWN_FIRST = 8;
const view = { whole: false, values: false };

/** The texts of a feature; null for one that came without any. */
export function passages({ evidence, safety }) {
  const { seen = [], held_out: heldOut = [], trimmed = 0 } = evidence ?? {};
  const texts = [...seen, ...heldOut];
  if (texts.length === 0) return null;
  const most = greatest(texts);
  const hazards = hazardsByText(safety);
  const box = el("section", { class: "passages" });
  const draw = () => {
    box.classList.toggle("with-values", view.values);
    const item = (text, index) => passage(text, { hazards: hazards.get(index) ?? [], most });
    fill(
      box,
      el("div", { class: "bar-of" }, el("h3", {}, title(seen, heldOut)), switches(draw, texts, most)),
      most > 0 && legend(most),
      list(seen, (text, i) => item(text, i)),
      heldOut.length > 0 && el("h4", { class: "held-out" }, "Kept from the explainer, to test it on"),
      list(heldOut, (text, i) => item(text, seen.length + i), "is-held-out"),
      trimmed > 0 && el("p", { class: "quiet" }, `${plural(trimmed, "more text")} left out: near-identical, or over the prompt's budget.`),
    );
  };
  box.redraw = draw;
  draw();
  return box;
}

/** Let keys switch what is shown of all texts on the page. */
export function passageKeys(root, signal) {
  const toggle = (name) => () => {
    view[name] = !view[name];
    for (const box of root.querySelectorAll(".passages")) box.redraw();
  };
  shortcut("w", "whole texts, or round the peak", toggle("whole"), signal);
  shortcut("v", "show or hide each token's activation", toggle("values"), signal);
}

function title(seen, heldOut) {
  return heldOut.length === 0 ? plural(seen.length, "text") : `${plural(seen.length, "text")} the explainer saw, ${heldOut.length} it did not`;
}

function switches(draw, texts, most) {
  const flip = (name, text) => {
    const button = el("button", { type: "button", class: "plain", "aria-pressed": String(view[name]), click: () => {
      view[name] = !view[name];
      draw();
      document.querySelector(`[data-switch=${name}]`)?.focus();
    }, "data-switch": name }, text);
    return button;
  };
  return el("p", { class: "switches" }, texts.some((text) => around(text)) && flip("whole", "Whole texts"), most > 0 && flip("values", "Values"));
}

function legend(most) {
  return el("p", { class: "heat-legend quiet" }, "activation 0 ", el("span", { class: "ramp", "aria-hidden": "true" }), ` ${strength(most)}; `, el("mark", { class: "peak" }, "peak"));
}

function list(texts, item, kind = "") {
  if (texts.length === 0) return null;
  const items = texts.map(item);
  const rest = items.slice(SHOWN_FIRST);
  const ol = el("ol", { class: `texts ${kind}` }, items.slice(0, SHOWN_FIRST));
  const more = rest.length > 0 && el("button", { type: "button", class: "plain", click: () => {
    ol.append(...rest);
    more.remove();
    rest[0].tabIndex = -1;
    rest[0].focus();
  } }, `Show ${rest.length} more`);
  return [ol, more];
}

function passage(activation, { hazards, most }) {
  const window = view.whole ? null : around(activation);
  const open = unplaced(activation);
  const peak = unplacedPeak(activation);
  return el(
    "li",
    {},
    known(activation.activation_strength) && el("span", { class: "strength", title: "greatest activation in this text" }, strength(activation.activation_strength)),
    el(
      "p",
      { class: "text", dir: "auto" },
      window && window[0] > 0 && el("span", { class: "cut" }, "… "),
      whole(pieces(activation, hazards, window), most),
      window && window[1] < activation.text.length && el("span", { class: "cut" }, " …"),
    ),
    peak && el("p", { class: "note" }, "peak, place not given: ", el("code", { dir: "auto" }, visible(peak))),
    open.length > 0 && el("p", { class: "note" }, "fires on, places not given: ", open.slice(0, 12).map((each) => [el("code", { dir: "auto" }, visible(each.token)), ` ${strength(each.value)} `])),
    hazards.length > 0 && el("p", { class: "note" }, "speaks for: ", [...new Set(hazards.map((each) => spaced(each.category)))].map(visible).join(", ")),
    activation.context && el("p", { class: "note", dir: "auto" }, visible(activation.context)),
  );
}

/** The pieces one after the other; those of the peak, which a hazard's word may part, in one outline. */
function whole(all, most) {
  const first = all.findIndex((piece) => piece.isPeak);
  if (first < 0) return all.map((piece) => drawn(piece, most));
  const after = all.findLastIndex((piece) => piece.isPeak) + 1;
  const part = (from, to) => all.slice(from, to).map((piece) => drawn(piece, most));
  return [part(0, first), el("mark", { class: "peak", title: "peak" }, part(first, after)), part(after)];
}

function drawn(piece, most) {
  const text = visible(piece.text);
  const isActive = known(piece.value) && piece.value > 0;
  if (!isActive && !piece.hazard) return text;
  const node = el(piece.hazard ? "mark" : "span", { class: [isActive && "token", piece.hazard && "hazard"].filter(Boolean).join(" "), title: described(piece) }, text);
  if (isActive) {
    node.style.setProperty("--heat", String(Math.min(1, piece.value / most)));
    if (piece.isLast) node.dataset.value = strength(piece.value);
  }
  return node;
}

function described(piece) {
  return [known(piece.value) && `activation ${strength(piece.value)}`, piece.hazard && `speaks for ${visible(spaced(piece.hazard))}`].filter(Boolean).join(", ");
}

function hazardsByText(safety) {
  const byText = new Map();
  for (const place of safety?.evidence ?? []) {
    if (place.where !== "text" || !known(place.index)) continue;
    byText.set(place.index, [...(byText.get(place.index) ?? []), place]);
  }
  return byText;
}
