"use strict";
// Which rows are in colour: the best three, and those that a reader clicks or points at. All others are grey.

const Emphasis = (() => {
  const BEST_IN_COLOUR = 3, COLOURS = 8;
  const best = Page.charts.rows.filter((row) => !row.random).slice(0, BEST_IN_COLOUR).map((row) => row.name);
  const pinned = [];
  let hovered = null;

  const colour = (name) => {
    const index = [...best, ...pinned].indexOf(name);
    return index < 0 ? null : index % COLOURS;
  };
  const all = (name) => document.querySelectorAll(`[data-series="${CSS.escape(name)}"]`);

  function paint(element) {
    const name = element.dataset.series, index = colour(name);
    element.style.setProperty("--series", index === null ? "" : `var(--series-${index})`);
    element.classList.toggle("in-colour", index !== null);
    element.classList.toggle("hovered", name === hovered);
    element.querySelector("[aria-pressed]")?.setAttribute("aria-pressed", String(index !== null));
  }

  // Says that an element is of a row, so that it has the row's colour now and later.
  function of(name, element) {
    element.dataset.series = name;
    paint(element);
    return element;
  }

  function toggle(name) {
    if (best.includes(name)) return;
    if (pinned.includes(name)) pinned.splice(pinned.indexOf(name), 1);
    else pinned.push(name);
    for (const row of Page.order) all(row).forEach(paint);
  }

  function hover(name) {
    if (name === hovered) return;
    const previous = hovered;
    hovered = name;
    for (const row of [previous, name]) if (row !== null) all(row).forEach(paint);
  }

  for (const row of Page.order) all(row).forEach(paint);
  const seriesAt = (event) => event.target.closest?.("[data-series]")?.dataset.series ?? null;
  document.addEventListener("pointerover", (event) => hover(seriesAt(event)));
  document.addEventListener("focusin", (event) => hover(seriesAt(event)));
  document.addEventListener("click", (event) => {
    const name = event.target.closest?.(".chart, .losses, [aria-pressed]") ? seriesAt(event) : null;
    if (name !== null) toggle(name);
  });

  // From the least to the most important: what is drawn last is on top.
  const drawingOrder = (rows) => [...rows].sort((a, b) => (colour(a.name) !== null) - (colour(b.name) !== null) || Page.order.indexOf(b.name) - Page.order.indexOf(a.name));

  return { of, drawingOrder };
})();
