"use strict";
// Tables that a click sorts by a column, the choice of the columns of all figures, and the table of the weakest labels.

(() => {
  const { el, byId, charts, data, number } = Page;

  // What a cell is sorted by: its value where it has one, else its text.
  const sortedBy = (cell) => cell.dataset.value ?? cell.textContent.trim();
  const numeric = (text) => {
    const match = /-?[\d,]*\.?\d+/.exec(text);
    return match && /^[-\d.,]/.test(text.trim()) ? Number(match[0].replaceAll(",", "")) : null;
  };

  function compare(a, b) {
    const x = numeric(a), y = numeric(b);
    if (x !== null && y !== null) return x - y;
    return a.localeCompare(b, "en");
  }

  function sort(table, column, heading) {
    // The best comes first.
    const sorted = heading.getAttribute("aria-sort"), down = heading.dataset.less === undefined ? sorted !== "descending" : sorted === "ascending";
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const text = (row) => sortedBy(row.cells[column]);
    const empty = (row) => ["-", ""].includes(text(row));
    const rows = [...body.rows].sort((a, b) => empty(a) - empty(b) || (down ? -1 : 1) * compare(text(a), text(b)));
    body.append(...rows);
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = el("button", { type: "button", click: () => sort(table, column, heading) }, heading.textContent);
      heading.replaceChildren(button);
    });
  }

  // The page without scripts shows every column.
  const figures = document.querySelector(".figures");
  function showColumn(column, shown) {
    for (const row of figures.rows) row.cells[column].hidden = !shown;
  }
  [...figures.tHead.rows[0].cells].forEach((heading, column) => {
    const shown = heading.dataset.hiddenAtFirst === undefined;
    showColumn(column, shown);
    if (column === 0) return;
    byId("columns").append(el("label", {}, el("input", { type: "checkbox", checked: shown, change: (event) => showColumn(column, event.target.checked) }), heading.textContent));
  });
  byId("columns").append(el("label", {}, el("input", { type: "checkbox", id: "with-ends", change: (event) => figures.classList.toggle("with-ends", event.target.checked) }), "intervals in figures"));

  // A line may end after a name's underscore.

  if (!byId("labels")) return; // without labels there is no such section
  const STEP = 15, OTHERS_SHOWN = 6; // more columns would not fit into a window of 1280 px
  let shown = STEP;
  const chooser = byId("labels-model");
  Page.options(chooser, Page.order.map((name) => [name, name]));

  function draw() {
    const weak = data.queries?.weak, table = byId("labels-table"), more = byId("labels-more");
    if (!weak) return;
    more.hidden = shown >= weak.labels.length;
    if (!weak.labels.length) return table.replaceChildren(el("caption", {}, "No query has a label and a right answer."));
    const chosen = chooser.value, own = weak.rows[chosen];
    const order = weak.labels.map((_, i) => i).sort((a, b) => own.mean[a] - own.mean[b] || weak.queries[b] - weak.queries[a] || a - b);
    const others = Page.order.filter((name) => name !== chosen).slice(0, OTHERS_SHOWN);
    const heading = (name) => el("th", { scope: "col" }, Page.breakable(name));
    table.replaceChildren(
      el("thead", {}, el("tr", {}, ["label", "queries", chosen].map(heading), el("th", { scope: "col", class: "text" }, `${chosen} answers instead`), others.map(heading))),
      el("tbody", {}, order.slice(0, shown).map((i) => el("tr", {},
        el("th", { scope: "row" }, el("button", { type: "button", class: "link", click: () => Page.openLabel(Page.label(weak.labels[i]), chosen) }, Page.label(weak.labels[i]))),
        el("td", {}, String(weak.queries[i])),
        meter(own.mean[i]),
        el("td", { class: "text" }, instead(own.confused[i])),
        others.map((name) => meter(weak.rows[name].mean[i])),
      ))),
    );
  }

  // Of labels that come first equally often, one is named.
  function instead(confused) {
    if (!confused) return "-";
    const [label, times, others] = confused;
    return `${Page.label(label)} (${times}×${others ? `; ${others} ${others === 1 ? "other" : "others"} as often` : ""})`;
  }

  function meter(value) {
    const bar = el("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", value);
    return el("td", { class: "metered" }, bar, number(value, 3));
  }

  chooser.addEventListener("change", draw);
  byId("labels-more").addEventListener("click", () => {
    shown += 4 * STEP;
    draw();
  });
  Page.whenever(draw);
})();
