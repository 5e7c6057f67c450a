// A person's verdict in two keystrokes: r, then 1 to 4.

import * as api from "./api.js";
import { el, fill } from "./dom.js";
import { dialog } from "./keyboard.js";
import { REVIEWS } from "./words.js";

const WHO = "mistudio-explain.who";
const MEANINGS = { right: "the explanation holds", partly: "it holds for some texts", wrong: "it does not hold", unclear: "the texts do not tell" };

/** Ask for a verdict on a feature and send it; `done` is called with what was said. */
export function reviewDialog(job, feature, label, { say, done }) {
  const who = el("input", { id: "who", value: localStorage.getItem(WHO) ?? "", maxlength: 100, autocomplete: "name", required: true });
  const corrected = el("textarea", { id: "corrected", rows: 2, maxlength: 4000, dir: "auto" });
  const why = el("input", { id: "why", maxlength: 1000, dir: "auto" });
  const problem = el("p", { class: "problem", role: "alert" });
  let isSent = false;

  const send = async (verdict) => {
    if (isSent) return;
    if (!who.value.trim()) {
      fill(problem, "Say who you are first.");
      return who.focus();
    }
    isSent = true;
    localStorage.setItem(WHO, who.value.trim());
    const said = { verdict, who: who.value.trim(), ...(corrected.value.trim() && { corrected: corrected.value.trim() }), ...(why.value.trim() && { why: why.value.trim() }) };
    try {
      await api.review(job, feature, said);
    } catch (error) {
      isSent = false;
      return fill(problem, error.message);
    }
    box.close();
    say(`${feature} is ${verdict}, says ${said.who}`);
    done(said);
  };

  const buttons = REVIEWS.map((verdict, i) => el("button", { type: "button", class: `choice is-${verdict}`, click: () => send(verdict) }, el("kbd", {}, String(i + 1)), el("b", {}, verdict), el("span", {}, MEANINGS[verdict])));
  const box = dialog(
    "Does the explanation hold?",
    el("p", { dir: "auto", class: "quiet" }, label),
    el("div", { class: "choices" }, buttons),
    problem,
    el("div", { class: "fields" }, el("label", { for: "corrected" }, "It should say (optional)"), corrected, el("label", { for: "why" }, "Why (optional)"), why, el("label", { for: "who" }, "Who says so"), who),
  );
  box.addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea") || event.ctrlKey || event.altKey || event.metaKey) return;
    const chosen = REVIEWS[Number(event.key) - 1];
    if (chosen) {
      event.preventDefault();
      send(chosen);
    }
  });
  (who.value ? buttons[0] : who).focus();
}
