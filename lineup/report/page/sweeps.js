"use strict";
// A chart for each sweep: map_at_r of rows that differ in one number alone, with their intervals.

(() => {
  const { charts, el, svg, byId, number } = Page;
  const HEIGHT = 240;

  const byName = new Map(charts.rows.map((row) => [row.name, row]));
  // A sweep's points that have a quality: [value, row].
  const measured = (sweep) => sweep.points.map(([value, name]) => [value, byName.get(name)]).filter(([, row]) => row?.quality);

  function draw(sweep, width) {
    const points = measured(sweep);
    const end = (row, which) => row.quality[which] ?? row.quality.mean;
    const ys = points.flatMap(([, row]) => [end(row, "low"), end(row, "high")]);
    const pad = (Math.max(...ys) - Math.min(...ys)) * 0.1 || 0.05, xs = points.map(([value]) => value);
    const chart = Chart.axes(width, HEIGHT, [Math.min(...xs), Math.max(...xs)], [Math.max(0, Math.min(...ys) - pad), Math.min(1, Math.max(...ys) + pad)],
      { x: sweep.setting, y: "map_at_r", title: `map_at_r by ${sweep.setting}` });
    const at = points.map(([value, row]) => [chart.x(value), chart.y(row.quality.mean)]);
    chart.root.append(svg("polyline", { class: "sweep", points: at.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ") }));
    points.forEach(([value, row], i) => {
      const [x, y] = at[i];
      const said = `${row.name}: ${sweep.setting} ${value}, map_at_r ${number(row.quality.mean, 3)} (${number(end(row, "low"), 3)}-${number(end(row, "high"), 3)})`;
      const interval = svg("line", { class: "ends", x1: x, x2: x, y1: chart.y(end(row, "low")), y2: chart.y(end(row, "high")) });
      chart.root.append(Emphasis.of(row.name, svg("g", {}, svg("title", {}, said), interval, svg("circle", { class: "dot", cx: x, cy: y, r: 4 }))));
    });
    return [chart.root];
  }

  const shown = charts.sweeps.filter((sweep) => measured(sweep).length > 1);
  byId("sweeps-part").hidden = !shown.length;
  shown.forEach((sweep, i) => {
    const box = el("div", { id: `sweep-${i}`, class: "chart" });
    byId("sweeps").append(el("figure", {}, el("figcaption", {}, el("b", {}, sweep.setting), " of ", sweep.points.map(([, name]) => name).join(", ")), box));
    Chart.mount(box.id, (width) => draw(sweep, width));
  });
})();
