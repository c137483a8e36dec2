"use strict";
// Accuracy against a cost of the reader's choice, and which rows are worth their cost.

(() => {
  const { charts, el, svg, byId, number } = Page;
  const LOG_FROM_RATIO = 3;
  const chooser = byId("cost");
  Page.options(chooser, charts.costs.map(({ key, title }) => [key, title]));
  const chosen = () => charts.costs.find(({ key }) => key === chooser.value);
  const shown = (value) => (value === 0 ? "0" : value.toLocaleString("en", { maximumSignificantDigits: 4 }));

  // As money.beats: costs that were measured differ by some per cent between runs, so smaller differences don't count.
  const CHEAPER_RATIO = 1.1;
  function beats(one, other, ratio) {
    if (one.quality > other.quality) return one.cost <= other.cost || one.cost < other.cost * ratio;
    return one.quality === other.quality && one.cost < other.cost && one.cost * ratio <= other.cost;
  }
  // The Pareto-optimal rows, from the best cost to the best quality.
  const ratioOf = (axis) => (axis.of_a_device ? CHEAPER_RATIO : 1);
  function frontier(rows, cost, axis) {
    const worths = rows.map((row) => ({ row, quality: row.quality.mean, cost: axis.more_is_better ? 1 / cost(row) : cost(row) }));
    return worths.filter((own) => !worths.some((other) => beats(other, own, ratioOf(axis))))
      .sort((a, b) => a.cost - b.cost || a.quality - b.quality).map(({ row }) => row);
  }

  // What a row of the frontier beats: steps up, then the far side and the ground.
  function drawFrontier(chart, front, at, moreIsBetter) {
    const far = moreIsBetter ? chart.left : chart.right;
    const points = front.map(at).map(([x, y]) => [Math.max(chart.left, Math.min(chart.right, x)), y]);
    let steps = "";
    points.forEach(([x, y], i) => { steps += i ? `H${x}V${y}` : `M${x} ${y}`; });
    steps += `H${far}`;
    chart.root.append(svg("path", { class: "beaten", d: `${steps}V${chart.bottom}H${points[0][0]}Z` }), svg("path", { class: "front", d: steps, "data-rows": front.length }));
  }

  // A label stands to the right of its point, else to the left, else at the nearest free height with a line to its point.
  // Where there is none, as on a narrow screen, pointing at the point names it.
  function place(taken, chart, [cx, cy], name) {
    const wide = name.length * 6.6, span = (left) => (left ? [cx - 9 - wide, cx - 9] : [cx + 9, cx + 9 + wide]);
    const free = (left, line) => span(left)[0] > chart.left && span(left)[1] < chart.right
      && !taken.some(([a, b, c]) => Math.abs(line - a) < 13 && span(left)[0] < c && span(left)[1] > b);
    const heights = [0, 13, -13, 26, -26, 39, -39, 52, -52, 65, -65, 78, -78].map((step) => cy + 4 + step);
    const line = heights.find((each) => each > 12 && each < chart.bottom && (free(false, each) || free(true, each)));
    if (line === undefined) return null;
    const left = !free(false, line) && (free(true, line) || span(false)[1] > chart.right);
    taken.push([line, ...span(left)]);
    return { line, left };
  }

  function point(chart, [cx, cy], row, title, label) {
    const { mean, low, high } = row.quality;
    const group = svg("g", { class: "point" }, svg("title", {}, title), svg("circle", { class: "hit", cx, cy, r: 12 }));
    if (low !== null) group.append(svg("path", { class: "error", d: `M${cx} ${chart.y(low)}V${chart.y(high)}m-4 0h8M${cx - 4} ${chart.y(low)}h8` }));
    group.append(svg("circle", { class: row.random ? "hollow" : "dot", cx, cy: chart.y(mean), r: 5 }));
    if (!label) return Emphasis.of(row.name, group);
    if (label.line !== cy + 4) group.append(svg("line", { class: "lead", x1: cx, y1: cy, x2: cx + (label.left ? -9 : 9), y2: label.line - 4 }));
    group.append(svg("text", { class: "label", x: cx + (label.left ? -10 : 10), y: label.line, "text-anchor": label.left ? "end" : "start" }, label.name));
    return Emphasis.of(row.name, group);
  }

  function draw(width) {
    const axis = chosen(), cost = (row) => row.costs[axis?.key] ?? null;
    const rows = charts.rows.filter((row) => row.quality && cost(row) !== null);
    byId("tradeoff-note").textContent = !rows.length ? "No row has both a cost and a quality."
      : `Up is more accurate, ${axis.more_is_better ? "right" : "left"} is ${axis.more_is_better ? "faster" : "cheaper"}. Rows in the shaded area are dominated: `
        + `another row is more accurate and costs no more${axis.of_a_device ? `, or so little more (by up to ${Math.round(100 * (CHEAPER_RATIO - 1))}%) that runs differ as much` : ""}. `
        + "A thin line joins a refinement to the rows that it is made of. Bars are 95% intervals.";
    if (!rows.length) return [];
    const costs = rows.map(cost), least = Math.min(...costs), most = Math.max(...costs);
    const log = least > 0 && most / least >= LOG_FROM_RATIO, pad = (most - least) * 0.12 || most * 0.12 || 1;
    const xs = log ? [least / 1.35, most * 1.35] : [Math.max(0, least - pad), most + pad];
    const lows = rows.map((row) => row.quality.low ?? row.quality.mean), highs = rows.map((row) => row.quality.high ?? row.quality.mean);
    const room = Math.max(0.02, (Math.max(...highs) - Math.min(...lows)) * 0.15);
    const ys = [Math.max(0, Math.min(...lows) - room), Math.min(1, Math.max(...highs) + room)];
    const chart = Chart.axes(width, Math.max(280, Math.min(400, width * 0.5)), xs, ys,
      { x: `${axis.title}${log ? " (log)" : ""}`, y: "map_at_r", log, title: `map_at_r against ${axis.title}; the table has the figures` });
    const at = (row) => [chart.x(cost(row)), chart.y(row.quality.mean)];
    const front = frontier(rows.filter((row) => !row.random), cost, axis);
    const equal = (row) => (axis.more_is_better ? cost(row) * ratioOf(axis) : cost(row) / ratioOf(axis)); // the cost from which on a worse row is beaten
    if (front.length) drawFrontier(chart, front, (row) => [chart.x(equal(row)), chart.y(row.quality.mean)], axis.more_is_better);
    for (const row of rows) for (const source of rows.filter(({ name }) => row.made_of.includes(name))) {
      const [[x1, y1], [x2, y2]] = [at(source), at(row)];
      chart.root.append(Emphasis.of(row.name, svg("line", { class: "made-of", x1, y1, x2, y2 })));
    }
    // Where no label may go: [baseline, left, right] of every point, and then of the labels, too.
    const taken = rows.map((row) => [at(row)[1] + 4, at(row)[0] - 6, at(row)[0] + 6]);
    const labels = new Map(rows.map((row) => {
      const name = row.name + (row.random ? " (random)" : "");
      const free = place(taken, chart, at(row), name);
      return [row.name, free && { name, ...free }];
    }));
    for (const row of Emphasis.drawingOrder(rows)) {
      const interval = row.quality.low === null ? "" : ` (${number(row.quality.low, 3)}-${number(row.quality.high, 3)})`;
      chart.root.append(point(chart, at(row), row, `${row.name}: map_at_r ${number(row.quality.mean, 3)}${interval}; ${axis.title} ${shown(cost(row))}`, labels.get(row.name)));
    }
    const unnamed = rows.filter(({ name }) => !labels.get(name)).map(({ name }) => name);
    const without = charts.rows.filter((row) => !rows.includes(row)).map((row) => row.name);
    const devices = new Set(rows.map((row) => row.device));
    return [
      chart.root,
      unnamed.length ? el("p", { class: "quiet" }, `No room for the names of ${unnamed.join(", ")}: point at their dots.`) : null,
      without.length ? el("p", { class: "quiet" }, `Without this cost or a quality: ${without.join(", ")}.`) : null,
      axis.of_a_device && devices.size > 1 ? el("p", { class: "warning" }, `This was measured on different devices (${[...devices].join("; ")}) and can't be compared.`) : null,
    ].filter(Boolean);
  }

  chooser.addEventListener("change", Chart.mount("scatter", draw));
})();
