"use strict";
// Charts as SVG, drawn to fit their width, and drawn again when it changes.

(() => {
  const { charts, el, svg, byId, style, number } = Page;
  const MARGIN = { top: 10, right: 14, bottom: 40, left: 46 };

  function linearTicks(low, high, count = 5) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
    const ticks = [];
    for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) ticks.push(Number((at * step).toPrecision(12)));
    return ticks;
  }

  function logTicks(low, high) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const factor of [1, 2, 5]) ticks.push(Number((factor * 10 ** power).toPrecision(12)));
    return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  }

  const tickText = (value) => (Math.abs(value) >= 1000 ? value.toLocaleString("en") : String(value));

  // An empty chart with axes; `x` and `y` map values to pixels. A tick too close to the one before gets no text.
  function axes(width, height, xs, ys, names) {
    const right = width - MARGIN.right, bottom = height - MARGIN.bottom;
    const warp = names.log ? Math.log10 : (value) => value;
    const [x0, x1] = xs.map(warp), [y0, y1] = ys;
    const x = (value) => MARGIN.left + ((warp(value) - x0) / (x1 - x0 || 1)) * (right - MARGIN.left);
    const y = (value) => bottom - ((value - y0) / (y1 - y0 || 1)) * (bottom - MARGIN.top);
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": names.title });
    let last = -Infinity;
    const ticks = names.log && logTicks(...xs).length > 2 ? logTicks(...xs) : linearTicks(xs[0], xs[1], Math.min(8, (right - MARGIN.left) / 60));
    for (const tick of ticks) {
      if (names.whole && !Number.isInteger(tick)) continue;
      root.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: MARGIN.top, y2: bottom }));
      if (x(tick) - last < 34) continue;
      last = x(tick);
      root.append(svg("text", { class: "tick", x: x(tick), y: bottom + 15, "text-anchor": "middle" }, tickText(tick)));
    }
    for (const tick of linearTicks(...ys)) {
      root.append(svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) }));
      root.append(svg("text", { class: "tick", x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick)));
    }
    root.append(svg("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }));
    root.append(svg("text", { class: "name", x: right, y: height - 6, "text-anchor": "end" }, names.x));
    root.append(svg("text", { class: "name", x: MARGIN.left + 4, y: MARGIN.top + 8 }, names.y));
    return { root, x, y, right, bottom };
  }

  function marker(shape, cx, cy, attributes) {
    const r = 5;
    if (shape === "circle") return svg("circle", { cx, cy, r, ...attributes });
    const d = {
      square: `M${cx - r} ${cy - r}h${2 * r}v${2 * r}h${-2 * r}z`,
      triangle: `M${cx} ${cy - r - 1}l${r + 1} ${2 * r}h${-2 * r - 2}z`,
      diamond: `M${cx} ${cy - r - 1}l${r + 1} ${r + 1}l${-r - 1} ${r + 1}l${-r - 1} ${-r - 1}z`,
      cross: `M${cx - r} ${cy - 2}h${r - 2}v${2 - r}h4v${r - 2}h${r - 2}v4h${2 - r}v${r - 2}h-4v${2 - r}h${2 - r}z`,
    }[shape];
    return svg("path", { d, ...attributes });
  }

  function scatter(width) {
    const all = charts.rows.filter((row) => row.quality && row.images_per_second > 0);
    if (!all.length) return [el("p", {}, "No row has both a speed and a quality.")];
    const height = Math.max(240, Math.min(380, width * 0.5));
    const speeds = all.map((row) => row.images_per_second);
    const lows = all.map((row) => row.quality.low ?? row.quality.mean), highs = all.map((row) => row.quality.high ?? row.quality.mean);
    const pad = Math.max(0.02, (Math.max(...highs) - Math.min(...lows)) * 0.15);
    const ys = [Math.max(0, Math.min(...lows) - pad), Math.min(1, Math.max(...highs) + pad)];
    const xs = [Math.min(...speeds) / 1.35, Math.max(...speeds) * 1.35];
    const { root, x, y, right } = axes(width, height, xs, ys, {
      x: "embedding speed, images/s (log)", y: "map_at_r", log: true, title: "map_at_r against embedding speed; the table has the same figures",
    });
    const fast = all.filter((row) => !row.random).sort((a, b) => b.images_per_second - a.images_per_second || b.quality.mean - a.quality.mean);
    const front = [];
    for (const row of fast) if (!front.length || row.quality.mean > front.at(-1).quality.mean) front.push(row);
    const at = (row) => [x(row.images_per_second), y(row.quality.mean)];
    root.append(svg("polyline", { class: "front", points: front.map((row) => at(row).join()).join(" ") }));
    // Where no label may go: [baseline, left, right] of every marker, and then of the labels, too.
    const taken = all.map((row) => [at(row)[1] + 4, at(row)[0] - 6, at(row)[0] + 6]);
    for (const row of all) {
      const [cx, cy] = at(row), { colour, marker: shape } = style(row.name);
      const interval = row.quality.low === null ? "" : ` (${number(row.quality.low, 3)}-${number(row.quality.high, 3)})`;
      const group = svg("g", { class: "point", style: `--series: ${colour}` },
        svg("title", {}, `${row.name}: map_at_r ${number(row.quality.mean, 3)}${interval}, ${number(row.images_per_second, 1)} images/s`));
      if (interval) group.append(svg("path", { class: "error", d: `M${cx} ${y(row.quality.low)}V${y(row.quality.high)}m-4 0h8M${cx - 4} ${y(row.quality.low)}h8` }));
      group.append(marker(shape, cx, cy, { class: row.random ? "hollow" : "filled" }));
      // A label stands to the right of its point, else to the left, else at the nearest free height with a line to its point.
      const name = row.name + (row.random ? " (random)" : "");
      const wide = name.length * 6.6, span = (left) => (left ? [cx - 9 - wide, cx - 9] : [cx + 9, cx + 9 + wide]);
      const free = (left, line) => span(left)[0] > MARGIN.left && span(left)[1] < right
        && !taken.some(([a, b, c]) => Math.abs(line - a) < 13 && span(left)[0] < c && span(left)[1] > b);
      const heights = [0, 13, -13, 26, -26, 39, -39, 52, -52, 65, -65, 78, -78].map((step) => cy + 4 + step);
      const line = heights.find((each) => each > 12 && each < height - 34 && (free(false, each) || free(true, each))) ?? cy + 4;
      const left = !free(false, line);
      taken.push([line, ...span(left)]);
      if (line !== cy + 4) group.append(svg("line", { class: "lead", x1: cx, y1: cy, x2: cx + (left ? -9 : 9), y2: line - 4 }));
      group.append(svg("text", { class: "label", x: cx + (left ? -10 : 10), y: line, "text-anchor": left ? "end" : "start" }, name));
      root.append(group);
    }
    const without = charts.rows.filter((row) => !all.includes(row)).map((row) => row.name);
    const devices = new Set(all.map((row) => row.device));
    return [
      root,
      without.length ? el("p", { class: "quiet" }, `Without a speed or a quality: ${without.join(", ")}.`) : null,
      devices.size > 1 ? el("p", { class: "warning" }, `Speeds were measured on different devices (${[...devices].join("; ")}) and can't be compared.`) : null,
    ].filter(Boolean);
  }

  function legend(rows) {
    return el("ul", { class: "legend" }, rows.map((row) => {
      const { colour, dash } = style(row.name);
      const sample = svg("svg", { width: 26, height: 10, "aria-hidden": "true" },
        svg("line", { class: "series", x1: 0, x2: 26, y1: 5, y2: 5, style: `stroke: ${colour}`, "stroke-dasharray": dash }));
      return el("li", {}, sample, row.name);
    }));
  }

  function lines(width, rows, points, ys, names) {
    const height = Math.max(220, Math.min(320, width * 0.6));
    const all = rows.flatMap(points);
    // Whole numbers: a training that its time limit stopped may end at epoch 2.4.
    const xs = [Math.floor(Math.min(...all.map(([a]) => a))), Math.ceil(Math.max(...all.map(([a]) => a)))];
    const chart = axes(width, height, xs[0] === xs[1] ? [xs[0], xs[0] + 1] : xs, ys(all), names);
    for (const row of [...rows].reverse()) { // the best is drawn last, on top
      const { colour, dash, marker: shape } = style(row.name), title = svg("title", {}, row.name);
      const path = points(row).map(([a, b]) => [chart.x(a).toFixed(1), chart.y(b).toFixed(1)]);
      chart.root.append(path.length === 1 // a line would not show a single point
        ? svg("g", { class: "point", style: `--series: ${colour}` }, title, marker(shape, ...path[0].map(Number), { class: "filled" }))
        : svg("polyline", { class: "series", points: path.join(" "), style: `stroke: ${colour}`, "stroke-dasharray": dash }, title));
    }
    return chart;
  }

  const aroundValues = (all) => {
    const values = all.map(([, b]) => b), low = Math.min(...values), high = Math.max(...values), pad = (high - low) * 0.1 || 0.05;
    return [Math.max(0, low - pad), high > 1 ? high + pad : Math.min(1, high + pad)];
  };

  function topK(width) {
    const rows = charts.rows.filter((row) => row.curve.length);
    const slider = byId("top-k-at");
    slider.parentElement.hidden = !rows.length;
    if (!rows.length) return [el("p", {}, "Nothing was scored.")];
    const deepest = Math.max(...rows.map((row) => row.curve.length));
    slider.max = deepest;
    const k = Number(slider.value);
    const chart = lines(width, rows, (row) => row.curve.map((value, i) => [i + 1, value]), (all) => [aroundValues(all)[0], 1],
      { x: "k (log)", y: "top_k", log: true, whole: true, title: "Top-k accuracy of each row by k; the slider below reads its values" });
    chart.root.append(svg("line", { class: "read", x1: chart.x(k), x2: chart.x(k), y1: MARGIN.top, y2: chart.bottom }));
    byId("top-k-read").replaceChildren(el("b", {}, String(k)), ...rows.flatMap((row) => [" ", el("span", {}, `${row.name} ${number(row.curve[Math.min(k, row.curve.length) - 1], 3)}`)]));
    return [chart.root, legend(rows)];
  }

  function training(width) {
    const rows = charts.rows.filter((row) => row.training.some((entry) => entry.map_at_r !== null));
    const points = (row) => row.training.filter((entry) => entry.map_at_r !== null).map((entry) => [entry.epoch, entry.map_at_r]);
    const losses = charts.rows.filter((row) => row.training.some((entry) => entry.loss !== null));
    const loss = (row) => row.training.filter((entry) => entry.loss !== null).map((entry) => [entry.epoch, entry.loss]);
    return [
      rows.length ? lines(width, rows, points, aroundValues, { x: "epoch", y: "map_at_r, held-out labels", whole: true, title: "map_at_r of held-out labels by epoch" }).root
        : el("p", {}, losses.length ? "No row held labels out of training." : "No row was fine-tuned."),
      losses.length ? lines(width, losses, loss, aroundValues, { x: "epoch", y: "loss (scales differ by objective)", whole: true, title: "Training loss by epoch" }).root : null,
      losses.length || rows.length ? legend(losses.length > rows.length ? losses : rows) : null,
    ].filter(Boolean);
  }

  function mount(id, draw) {
    const box = byId(id);
    const redraw = () => box.clientWidth && box.replaceChildren(...draw(box.clientWidth));
    let last = 0;
    new ResizeObserver(() => {
      if (box.clientWidth !== last) redraw();
      last = box.clientWidth;
    }).observe(box);
    return redraw;
  }

  mount("scatter", scatter);
  mount("training", training);
  byId("top-k-at").addEventListener("input", mount("top-k", topK));
})();
