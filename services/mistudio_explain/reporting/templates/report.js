"use strict";
// Filters the page by words, outcome, verdict and category, and unpacks what a large page keeps packed. It writes plain
// text only: nothing of a feature is ever read as HTML.
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const words = document.getElementById("words");
  const choices = ["outcome", "verdict", "category"].map((name) => [name, document.getElementById(name)]);
  const open = document.getElementById("open");
  const shown = document.getElementById("shown");
  const features = Array.from(document.querySelectorAll("[data-outcome]"), (element) => ({ element, text: null }));
  const groups = Array.from(document.querySelectorAll("section.category"));
  const packed = new Map(); // position of a feature: what its card says beyond the page
  const chunks = new Map(); // number of a chunk: the promise that it is unpacked

  const textOf = (feature) => (feature.text ??= readable(feature.element).toLowerCase().replace(/\s+/g, " "));
  const readable = (element) => {
    const card = packed.get(element.id);
    return card ? element.textContent + " " + said(card) : element.textContent;
  };

  const written = (n) => n.toLocaleString("en");
  const counted = (n, thing) => `${written(n)} ${thing}${n === 1 ? "" : "s"}`;

  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = choices.filter(([, select]) => select.value !== "");
    let count = 0;
    for (const feature of features) {
      const fits =
        chosen.every(([name, select]) => feature.element.dataset[name] === select.value) &&
        wanted.every((word) => textOf(feature).includes(word));
      if (feature.element.hidden === fits) feature.element.hidden = !fits;
      count += fits;
    }
    for (const group of groups) group.hidden = !group.querySelector("[data-outcome]:not([hidden])");
    shown.textContent = count === features.length ? counted(count, "feature") : `${written(count)} of ${counted(features.length, "feature")}`;
  };

  // ---- what is packed: card.html.j2 writes the same elements, where they stand in the page
  const unpack = (number) => {
    if (!chunks.has(number)) {
      chunks.set(number, (async () => {
        const bytes = Uint8Array.from(atob(document.getElementById(`d${number}`).textContent), (c) => c.charCodeAt(0));
        const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
        for (const card of JSON.parse(await new Response(stream).text())) packed.set(`f${card.position}`, card);
      })());
    }
    return chunks.get(number);
  };
  const made = (tag, kind, ...inside) => {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    element.append(...inside.filter((part) => part !== null)); // strings become text nodes
    return element;
  };
  const auto = (element) => ((element.dir = "auto"), element);
  const drawn = (tag, attributes, ...inside) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...inside);
    return element;
  };

  const bar = (line) =>
    line.low === null || line.high === null
      ? drawn("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
          drawn("rect", { class: "track", width: 100, height: 6 }),
          drawn("rect", { class: "fill", width: 100 * line.value, height: 6 }))
      : drawn("svg", { class: "gauge", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
          drawn("rect", { class: "track", y: 4, width: 100, height: 4 }),
          drawn("rect", { class: "interval", x: 100 * line.low, y: 2, width: 100 * (line.high - line.low), height: 8 }),
          drawn("rect", { class: "point", x: 99 * line.value, width: 1.4, height: 12 }));
  const score = (line) => {
    const name = made("dt", "", line.name);
    if (line.value === null) return [name, made("dd", "absent", line.basis)];
    const value = made("dd", "", bar(line), made("b", "", line.value.toFixed(2)));
    return line.basis ? [name, value, made("dd", "basis", line.basis)] : [name, value];
  };
  const prose = (card) =>
    made("div", "prose",
      ...card.meanings.map((meaning) => auto(made("p", "quiet", meaning))),
      card.review_reason && auto(made("p", "review", made("b", "", "A person should look:"), ` ${card.review_reason}`)),
      card.review.length ? auto(made("p", "review", made("b", "", card.review[0]), ...card.review.slice(1).map((part) => made("span", "", ` ${part}`)))) : null,
      card.caveats.length ? made("ul", "caveats", ...card.caveats.map((caveat) => auto(made("li", "", caveat)))) : null,
      made("p", "small", ...card.details.map((detail) => made("span", "", `${detail.name} `, made("bdi", "", detail.value)))),
      card.flags.length ? made("p", "flags", ...card.flags.flatMap((flag) => [made("span", "chip", flag), " "])) : null);
  const passage = (text) =>
    made("li", "",
      text.strength === null ? null : made("span", "strength", String(Number(text.strength.toPrecision(4)))),
      auto(made("span", "text", text.before, text.peak ? made("mark", "", text.peak) : "", text.after)),
      text.peak_token && !text.peak ? made("span", "note", "peak token, place not given: ", auto(made("code", "", text.peak_token))) : null,
      text.context ? auto(made("span", "note", text.context)) : null);
  const texts = (card) => [
    made("p", "held-out is-seen", `Shown to the explainer: ${counted(card.seen.length, "text")}`),
    made("ol", "texts", ...card.seen.map(passage)),
    card.held_out.length ? made("p", "held-out", `Held out: no prompt showed ${card.held_out.length === 1 ? "this text" : "these texts"}`) : null,
    card.held_out.length ? made("ol", "texts is-held-out", ...card.held_out.map(passage)) : null,
    card.trimmed ? made("p", "small", `${card.trimmed} more left out: near-identical, or over the budget`) : null,
    card.logits ? made("p", "small", made("span", "", "moves the logits of ", made("bdi", "", card.logits))) : null,
  ];
  const said = (card) =>
    [...card.meanings, card.review_reason, ...card.review, ...card.caveats, ...card.flags, card.logits,
      ...card.details.map((detail) => detail.value),
      ...[...card.seen, ...card.held_out].map((text) => text.before + text.peak + text.after)].join(" ");

  const unfold = async (button) => {
    const card = button.closest(".card");
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (card.lastElementChild !== button) {
      card.lastElementChild.hidden = isOpen;
      return;
    }
    await unpack(button.dataset.chunk);
    if (card.lastElementChild !== button) return;
    const whole = packed.get(card.id);
    const columns = made("div", "columns", prose(whole), made("dl", "scores", ...whole.scores.flatMap(score)));
    card.append(made("div", "unfolded", columns, ...texts(whole).filter((part) => part !== null)));
  };
  document.addEventListener("click", (event) => {
    if (event.target.matches("button.more")) unfold(event.target);
  });
  const everything = Array.from(document.querySelectorAll("script[id^=d]"), (script) => script.id.slice(1));
  let isSearchable = everything.length === 0;
  const searchable = async () => {
    if (isSearchable) return;
    isSearchable = true;
    for (const number of everything) await unpack(number);
    for (const feature of features) feature.text = null;
    apply();
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { apply(); if (words.value) searchable(); });
  words.addEventListener("focus", searchable);
  open?.addEventListener("change", () => {
    for (const details of document.querySelectorAll(".card details")) details.open = open.checked;
  });
  // A link from a ranking or a finding shows its feature even when a filter hides it.
  window.addEventListener("hashchange", () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target || !target.closest("[hidden]")) return;
    form.reset();
    apply();
    target.scrollIntoView();
  });
  form.hidden = false;
  apply();
})();
