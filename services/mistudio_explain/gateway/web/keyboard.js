// Single keys that do something, the list of them, and the switch that turns them off.

import { el, fill } from "./dom.js";

const OFF = "mistudio-explain.keys-off";
const keys = new Map();
let prefix = "";

/** Let a key, or two keys after each other ("g j"), do something; until `signal` ends, when there is one. */
export function shortcut(name, meaning, run, signal = null) {
  const entry = { meaning, run };
  keys.set(name, entry);
  signal?.addEventListener("abort", () => keys.get(name) === entry && keys.delete(name));
}

/** Run what a pressed key means; keys that are being typed into a field, or with Ctrl, Alt or Meta, are not ours. */
export function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  const isTyping = event.target.closest?.("input:not([type=radio]):not([type=checkbox]), textarea, select");
  if (event.key === "Escape" && isTyping) return isTyping.blur();
  if (isTyping || document.querySelector("dialog[open]") || localStorage.getItem(OFF)) return;
  const name = prefix ? `${prefix} ${event.key}` : event.key;
  prefix = "";
  const found = keys.get(name);
  if (found) {
    event.preventDefault();
    found.run();
  } else if ([...keys.keys()].some((known) => known.startsWith(`${event.key} `))) prefix = event.key;
}

/** Show what keys do here. */
export function helpDialog() {
  const off = el("input", { type: "checkbox", id: "keys-off" });
  off.checked = !localStorage.getItem(OFF);
  off.addEventListener("change", () => (off.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1")));
  const rows = [...keys].map(([name, { meaning }]) => el("div", {}, el("dt", {}, name.split(" ").map((each) => el("kbd", {}, each))), el("dd", {}, meaning)));
  dialog("Keys", el("dl", { class: "keys" }, rows), el("label", { class: "toggle" }, off, "single keys do this"));
}

/** A modal dialog with a heading and a way out; gone, and the focus back where it was, when it closes. */
export function dialog(heading, ...content) {
  const box = el("dialog", { "aria-labelledby": "dialog-heading", close: () => box.remove() });
  fill(
    box,
    el("header", {}, el("h2", { id: "dialog-heading" }, heading), el("button", { type: "button", class: "plain", click: () => box.close() }, "Close")),
    ...content,
  );
  document.body.append(box);
  box.showModal();
  return box;
}
