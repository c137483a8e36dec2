"use strict";
// How a row does in each group of queries, by the attributes of their photos; a click shows the queries of a group.

(() => {
  const { el, svg, byId, data, number } = Page;
  const { signed, chance, isReal } = Differences;
  const { MEAN, LOW, HIGH, TO_MEAN, TO_MEAN_P, TO_BEST, TO_BEST_P, NOTE } = Page.GROUP;
  const chooser = byId("slices-row");
  const trained = Page.charts.rows.filter((row) => !row.random).map((row) => row.name), [best] = trained;
  Page.options(chooser, Page.order.map((name) => [name, name]));

  // A difference, in colour where it is more than chance.
  function difference(value, p, ...before) {
    const kind = !isReal(p) ? "quiet" : value < 0 ? "below" : "above";
    return el("td", { class: `difference ${kind}`, title: p === null ? null : chance(p) }, ...before, signed(value), " ", el("small", {}, p === null ? "" : isReal(p) ? chance(p) : "can't tell"));
  }

  // The row that is furthest ahead of the best one in a group.
  function ahead(attribute, group) {
    return trained.map((name) => [name, data.slices.rows[name][attribute][group]])
      .filter(([, figures]) => figures[TO_BEST] > 0)
      .sort(([, a], [, b]) => isReal(b[TO_BEST_P]) - isReal(a[TO_BEST_P]) || b[TO_BEST] - a[TO_BEST])[0];
  }

  function against(attribute, group, figures) {
    if (chooser.value !== best) return figures[TO_BEST] === null ? el("td", {}, "-") : difference(figures[TO_BEST], figures[TO_BEST_P]);
    const [name, other] = ahead(attribute, group) ?? [];
    return name ? difference(other[TO_BEST], other[TO_BEST_P], el("span", { class: "other" }, Page.breakable(name)), " ") : el("td", { class: "quiet" }, "none");
  }

  // The interval, its mean, and a line at the row's mean over all queries.
  function bar(figures, overall, position) {
    const [mean, low, high] = [figures[MEAN], figures[LOW] ?? figures[MEAN], figures[HIGH] ?? figures[MEAN]].map(position);
    return svg("svg", { class: "interval", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { x: low, y: 2.5, width: Math.max(high - low, 0.5), height: 3 }),
      svg("rect", { class: "mean", x: mean - 0.5, y: 0, width: 1, height: 8 }),
      svg("line", { class: "overall", x1: position(overall), x2: position(overall), y1: 0, y2: 8, "vector-effect": "non-scaling-stroke" }));
  }

  function line(attribute, group, figures, overall, position) {
    const { name, groups, queries } = data.slices.attributes[attribute], called = `${name}: ${groups[group]}`;
    const interval = figures[LOW] === null ? "" : `${number(figures[LOW], 3)} to ${number(figures[HIGH], 3)}`;
    return el("tr", {},
      el("th", { scope: "row" }, el("button", { type: "button", class: "link", "aria-label": `${called}, show its queries`, "data-slice": called, click: () => Page.openSlice(called, chooser.value) }, groups[group])),
      el("td", {}, queries[group].toLocaleString("en")),
      el("td", { class: "drawn", title: interval }, number(figures[MEAN], 3), bar(figures, overall, position)),
      ...(figures[NOTE] ? [el("td", { class: "quiet", colspan: trained.length > 1 ? 2 : 1 }, figures[NOTE])]
        : [difference(figures[TO_MEAN], figures[TO_MEAN_P]), trained.length > 1 ? against(attribute, group, figures) : null]));
  }

  let drawn = null;
  function draw() {
    const own = data.slices?.rows[chooser.value];
    if (!own || drawn === chooser.value) return;
    drawn = chooser.value;
    const { metric, attributes } = data.slices, all = own.flat(), overall = all[0][MEAN] - all[0][TO_MEAN];
    const least = Math.min(...all.map((figures) => figures[LOW] ?? figures[MEAN])), most = Math.max(...all.map((figures) => figures[HIGH] ?? figures[MEAN]));
    const position = (value) => Math.round((1000 * (value - least)) / (most - least || 1)) / 10;
    const columns = trained.length > 1 ? 5 : 4, heading = (words) => el("th", { scope: "col" }, words);
    byId("slices-note").textContent = `Each bar is the 95% interval of ${metric} in a group, from ${number(least, 3)} to ${number(most, 3)}; the line is the mean over all queries, ${number(overall, 3)}. A click on a group shows its queries.`;
    byId("slices-table").replaceChildren(
      el("thead", {}, el("tr", {}, ["group", "queries", metric, "against its mean", ...(columns === 5 ? [drawn === best ? "furthest ahead of it" : `against ${best}`] : [])].map(heading))),
      ...attributes.map(({ name, groups }, attribute) => el("tbody", {},
        el("tr", {}, el("th", { scope: "rowgroup", class: "attribute", colspan: columns }, name)),
        groups.map((_, group) => line(attribute, group, own[attribute][group], overall, position)))));
  }

  chooser.addEventListener("change", draw);
  Page.whenever(draw);
})();
