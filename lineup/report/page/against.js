"use strict";
// Two rows against each other: on how many queries which of them is right, and whether the difference is more than chance.

(() => {
  const { el, byId, data, number } = Page;
  const WORDS = { both: "Both right", "only-a": "Only A right", "only-b": "Only B right", neither: "Neither right" };

  // How far A is ahead of B: [difference, low, high, p]; undefined for a row against itself.
  function ahead(metric) {
    const a = Selection.value("a"), b = Selection.value("b");
    for (const [name, first, second, difference, low, high, , p] of data.pairs) {
      if (name !== metric) continue;
      if (first === a && second === b) return [difference, low, high, p];
      if (first === b && second === a) return [-difference, high === null ? null : -high, low === null ? null : -low, p];
    }
    return undefined;
  }

  function sentence(metric) {
    const lead = ahead(metric);
    if (!lead) return [];
    const [difference, low, high, p] = lead;
    return [` ${metric} `, el("b", {}, Differences.signed(difference)), ` ${Differences.interval(low, high)}`.trimEnd(),
      `, ${Differences.chance(p)}${Differences.isReal(p) ? "" : ", can't tell"};`];
  }

  // A click shows the tile's queries; on the pressed tile, all of them again.
  const tiles = Object.fromEntries(Object.entries(WORDS).map(([kind, words]) => [kind, el("button", {
    type: "button", class: `tile ${kind}`, "data-kind": kind,
    click: () => {
      if (Selection.value("show") === kind) Selection.set({ show: "all" });
      else Selection.only({ show: kind });
    },
  }, el("span", {}, words), el("b", {}), el("small", {}))]));
  byId("against-tiles").append(...Object.values(tiles));

  function draw() {
    if (!data.queries) return;
    const scored = data.queries.relevant.filter((r) => r > 0).length, show = Selection.value("show");
    const counts = Object.fromEntries(Object.keys(WORDS).map((kind) => [kind, Selection.count(kind)]));
    for (const kind of Object.keys(WORDS)) {
      const [count, share] = tiles[kind].querySelectorAll("b, small");
      count.textContent = counts[kind].toLocaleString("en");
      share.textContent = `${number((100 * counts[kind]) / scored, 1)}%`;
      tiles[kind].setAttribute("aria-pressed", String(kind === show));
    }
    const net = counts["only-a"] - counts["only-b"], k = Selection.value("k");
    const parts = Page.charts.cutoffs.length ? [...sentence("map_at_r"), ...sentence(`top_${k}`)] : [];
    byId("against-net").replaceChildren(
      net === 0 ? "A and B are right equally often." : `${net > 0 ? "A" : "B"} is right on ${Math.abs(net).toLocaleString("en")} more of ${scored.toLocaleString("en")} queries.`,
      ...(parts.length ? [" A minus B:", ...parts.slice(0, -1), parts.at(-1).replace(/;$/, "."), " Right means: among the first ", k, "."] : []));
  }

  byId("against-swap").addEventListener("click", () => Selection.set({ a: Selection.value("b"), b: Selection.value("a") }));
  Selection.whenChanged(draw);
  Page.whenever(draw);
})();
