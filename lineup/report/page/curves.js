"use strict";
// Top-k accuracy by k with its values at one k, and the course of every row's training.

(() => {
  const { charts, el, svg, byId, number } = Page;

  // A line per row, with its name at its end. points: [x, y] of a row.
  function lines(width, rows, points, ys, names) {
    const gutter = Chart.gutter(width, rows.map((row) => row.name));
    const height = Math.max(240, Math.min(340, width * 0.5), rows.length * Chart.LABEL_HEIGHT + 70);
    const all = rows.flatMap(points);
    // Whole numbers: a training that its time limit stopped may end at epoch 2.4.
    const xs = [Math.floor(Math.min(...all.map(([a]) => a))), Math.ceil(Math.max(...all.map(([a]) => a)))];
    const chart = Chart.axes(width, height, xs[0] === xs[1] ? [xs[0], xs[0] + 1] : xs, ys(all), { ...names, gutter });
    const inPixels = (row) => points(row).map(([a, b]) => [chart.x(a), chart.y(b)]);
    for (const row of Emphasis.drawingOrder(rows)) chart.root.append(Chart.line(row.name, inPixels(row)));
    Chart.endLabels(chart, rows.map((row) => [row.name, ...inPixels(row).at(-1)]), gutter);
    return chart;
  }

  const aroundValues = (all) => {
    const values = all.map(([, b]) => b), low = Math.min(...values), high = Math.max(...values), pad = (high - low) * 0.1 || 0.05;
    return [Math.max(0, low - pad), high > 1 ? high + pad : Math.min(1, high + pad)];
  };

  const curved = charts.rows.filter((row) => row.curve.length);
  const slider = byId("top-k-at");
  byId("top-k-part").hidden = !curved.length;
  if (curved.length) slider.max = Math.max(...curved.map((row) => row.curve.length));

  function topK(width) {
    if (!curved.length) return [el("p", {}, "Nothing was scored.")];
    const chart = lines(width, curved, (row) => row.curve.map((value, i) => [i + 1, value]), (all) => [aroundValues(all)[0], 1],
      { x: "k (log)", y: "top_k", log: true, whole: true, title: "Top-k accuracy of each row by k; the table beside it has its values at one k" });
    const k = Number(slider.value);
    chart.root.append(svg("line", { class: "read", x1: chart.x(k), x2: chart.x(k), y1: chart.top, y2: chart.bottom }));
    return [chart.root];
  }

  // The values of all rows at the slider's k, the highest first.
  function values() {
    if (!curved.length) return;
    const k = Number(slider.value), at = (row) => row.curve[Math.min(k, row.curve.length) - 1];
    byId("top-k-read").textContent = String(k);
    const rows = [...curved].sort((a, b) => at(b) - at(a)).map((row) => {
      const bar = el("span", { class: "bar", "aria-hidden": "true" });
      bar.style.setProperty("--share", at(row));
      const name = el("button", { type: "button", class: "link", "aria-pressed": "false", title: "in colour, or grey" }, el("span", { class: "dot" }), row.name);
      return Emphasis.of(row.name, el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "metered" }, bar, number(at(row), 3))));
    });
    byId("top-k-values").replaceChildren(el("thead", {}, el("tr", {}, ["row", `top_${k}`].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows));
  }

  const measured = (row, figure) => row.training.filter((entry) => entry[figure] !== null).map((entry) => [entry.epoch, entry[figure]]);
  const withFigure = (figure) => charts.rows.filter((row) => measured(row, figure).length);
  const validated = withFigure("map_at_r"), losses = withFigure("loss");
  byId("training-part").hidden = !validated.length && !losses.length;

  function training(width) {
    if (!validated.length) return [el("p", {}, "No row held labels out of training.")];
    return [lines(width, validated, (row) => measured(row, "map_at_r"), aroundValues,
      { x: "epoch", y: "map_at_r, held-out labels", whole: true, title: "map_at_r of held-out labels by epoch" }).root];
  }

  // A small chart per row, each with its own scale: the losses of two objectives cannot be compared.
  function loss(row) {
    const WIDTH = 150, HEIGHT = 44, PAD = 5;
    const points = measured(row, "loss"), ys = points.map(([, b]) => b), last = points.at(-1);
    const [x0, x1, low, high] = [points[0][0], last[0], Math.min(...ys), Math.max(...ys)];
    const place = ([a, b]) => [PAD + ((a - x0) / (x1 - x0 || 1)) * (WIDTH - 2 * PAD), HEIGHT - PAD - ((b - low) / (high - low || 1)) * (HEIGHT - 2 * PAD)];
    const title = `Loss of ${row.name}, ${points.length} epochs`;
    const root = svg("svg", { width: WIDTH, height: HEIGHT, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title }, Chart.line(row.name, points.map(place)));
    const ends = points.length > 1 ? `${number(ys[0], 2)} → ${number(last[1], 2)}` : number(last[1], 2);
    return Emphasis.of(row.name, el("figure", {}, el("figcaption", {}, el("b", {}, row.name), " ", el("span", { class: "quiet" }, ends)), root));
  }

  const redraw = Chart.mount("top-k", topK);
  slider.addEventListener("input", () => {
    redraw();
    values();
  });
  values();
  Chart.mount("training", training);
  byId("losses").append(...losses.map(loss));
  byId("losses").previousElementSibling.hidden = !losses.length;
})();
