"use strict";
// A bar per row of what a query waits for, by part.

(() => {
  const { charts, el, svg, byId, number } = Page;
  const PARTS = ["decode", "embed", "search", "refine"];
  const ROW_HEIGHT = 40, BAR_HEIGHT = 13, NAME_HEIGHT = 15, FIGURES_WIDTH = 150;
  const rows = charts.rows.filter((row) => row.latency);
  if (!rows.length) {
    byId("latency").hidden = true;
    document.querySelector('nav a[href="#latency"]')?.remove();
    return;
  }
  const drawn = PARTS.filter((part) => rows.some((row) => row.latency.p50[part] > 0));
  byId("latency-parts").append(...drawn.flatMap((part) => [el("span", { class: `key ${part}` }), part]));

  function draw(width) {
    const end = (row) => Math.max(row.latency.p95, PARTS.reduce((sum, part) => sum + row.latency.p50[part], 0));
    const most = Math.max(...rows.map(end)), scale = (width - FIGURES_WIDTH) / most;
    const height = rows.length * ROW_HEIGHT;
    const title = "Milliseconds of a query by part; the table has the totals";
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
    rows.forEach((row, i) => root.append(bar(row, i * ROW_HEIGHT, scale, end(row) * scale)));
    return [root];
  }

  function bar(row, top, scale, end) {
    const { p50, p95, first, queries } = row.latency, y = top + NAME_HEIGHT + 3, middle = y + BAR_HEIGHT / 2;
    const group = svg("g", { class: "waits" },
      svg("title", {}, `${row.name}: ${drawn.map((part) => `${part} ${number(p50[part], 1)}`).join(", ")} ms; p50 and p95 of ${queries} queries; the first query after loading ${number(first, 0)} ms`),
      svg("text", { class: "label", x: 0, y: top + NAME_HEIGHT - 3 }, row.name));
    let x = 0;
    for (const part of drawn) {
      group.append(svg("rect", { class: `part ${part}`, x, y, width: p50[part] * scale, height: BAR_HEIGHT }));
      x += p50[part] * scale;
    }
    group.append(
      svg("path", { class: "until", d: `M${Math.min(x, p95 * scale)} ${middle}H${p95 * scale}m0 -4v8` }),
      svg("text", { class: "tick", x: end + 8, y: middle + 4 }, `${number(p50.total, 1)} ms, p95 ${number(p95, 1)}`));
    return Emphasis.of(row.name, group);
  }

  Chart.mount("latency-bars", draw);
})();
