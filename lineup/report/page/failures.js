"use strict";
// Where each row ranks the first right answer: at once, a little late, deep down or not at all; and what looks alike.

(() => {
  const { el, byId, data, number } = Page;

  let drawn = false;
  Page.whenever(() => {
    if (drawn || !data.queries) return;
    drawn = true;
    const scored = data.queries.relevant.filter((r) => r > 0).length;
    const heading = (text) => el("th", { scope: "col" }, text);
    byId("failures-table").replaceChildren(
      el("thead", {}, el("tr", {}, ["row", ...Object.values(Selection.PLACES).map(({ words }) => words)].map(heading))),
      el("tbody", {}, Page.order.map((name) => el("tr", {}, el("th", { scope: "row" }, Page.breakable(name)),
        Object.keys(Selection.PLACES).map((place) => cell(name, place, scored))))));
  });

  function cell(name, place, scored) {
    const { words } = Selection.PLACES[place];
    const count = data.queries.relevant.reduce((sum, r, q) => sum + (r > 0 && Selection.fails(place, name, q)), 0);
    const bar = el("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", count / scored);
    return el("td", { class: "metered" }, bar, el("button", {
      type: "button", class: "link", "aria-label": `${name}, ${words}: ${count} queries, show them`, "data-place": place, "data-row": name,
      click: () => Selection.only({ a: name, show: place }),
    }, count.toLocaleString("en")), ` ${number((100 * count) / scored, 1)}%`);
  }
})();
