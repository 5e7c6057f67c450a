"use strict";
// Filters the page by words, outcome, verdict and category. It reads the page and hides parts of it; it writes nothing
// but one line of plain text.
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const words = document.getElementById("words");
  const choices = ["outcome", "verdict", "category"].map((name) => [name, document.getElementById(name)]);
  const open = document.getElementById("open");
  const shown = document.getElementById("shown");
  const features = Array.from(document.querySelectorAll("[data-outcome]"), (element) => ({ element, text: null }));
  const groups = Array.from(document.querySelectorAll("section.category"));

  const textOf = (feature) => (feature.text ??= feature.element.textContent.toLowerCase().replace(/\s+/g, " "));

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
    shown.textContent = count === features.length ? `${count} features` : `${count} of ${features.length} features`;
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", apply);
  open.addEventListener("change", () => {
    for (const texts of document.querySelectorAll(".card details")) texts.open = open.checked;
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
