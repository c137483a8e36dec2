"use strict";
// Axes, dots and line-end labels as SVG, which every chart is made of. A chart fits its box, and is drawn again when
// that changes.
//
// Why no charting library: plotly.js (4.8 MB; first paint 340 ms instead of 110 ms) and Vega-Lite (0.9 MB, 210 ms)
// were tried on the scatter plot. Both write <style> elements, which this page's policy refuses. Neither keeps labels
// apart, joins charts with the table, or follows a change between light and dark, and that is most of this code. They
// would save the axes, some 50 lines, and add zooming, which a few dozen points do not need.

const Chart = (() => {
  const { svg } = Page;
  const MARGIN = { top: 22, right: 14, bottom: 40, left: 46 };
  const LABEL_HEIGHT = 14, CHARACTER_WIDTH = 6.6, LEAD = 12;

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
  // names: x, y and title; log, whole: of the x axis; gutter: pixels to the right of it, for labels.
  function axes(width, height, xs, ys, names) {
    const right = width - MARGIN.right - (names.gutter ?? 0), bottom = height - MARGIN.bottom;
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
    root.append(svg("text", { class: "name", x: 4, y: 10 }, names.y));
    return { root, x, y, left: MARGIN.left, top: MARGIN.top, right, bottom };
  }

  // How wide a gutter is that holds the names, and the longest name that fits.
  function gutter(width, names) {
    const wanted = Math.max(...names.map((name) => name.length)) * CHARACTER_WIDTH + LEAD + 4;
    return Math.min(wanted, width * 0.4);
  }

  // Leaves out the middle: rows of one network often differ in their ends alone.
  const shorten = (name, pixels) => {
    const characters = Math.floor(pixels / CHARACTER_WIDTH), end = Math.floor((characters - 1) / 2);
    return name.length > characters ? `${name.slice(0, characters - 1 - end)}…${name.slice(name.length - end)}` : name;
  };

  // Heights of labels in one column, as near to `wanted` as their own height allows.
  function spread(wanted, top, bottom) {
    const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
    const at = [...wanted];
    order.forEach((i, n) => { at[i] = Math.max(at[i], n ? at[order[n - 1]] + LABEL_HEIGHT : top); });
    [...order].reverse().forEach((i, n, reversed) => { at[i] = Math.min(at[i], n ? at[reversed[n - 1]] - LABEL_HEIGHT : bottom); });
    return at;
  }

  // A name beside the end of each row's line. ends: [row's name, x, y of the end].
  function endLabels(chart, ends, gutterWidth) {
    const heights = spread(ends.map(([, , y]) => y), chart.top, chart.bottom);
    ends.forEach(([name, x, y], i) => {
      const text = svg("text", { class: "label", x: chart.right + LEAD, y: heights[i] + 4 }, shorten(name, gutterWidth - LEAD));
      chart.root.append(Emphasis.of(name, svg("g", {}, svg("title", {}, name), svg("line", { class: "lead", x1: x, y1: y, x2: chart.right + LEAD - 3, y2: heights[i] }), text)));
    });
  }

  // The line through points in pixels; a single point is drawn as a dot, which a line would not show.
  function line(name, points) {
    const group = svg("g", {}, svg("title", {}, name));
    const path = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
    if (points.length === 1) group.append(svg("circle", { class: "dot", cx: points[0][0], cy: points[0][1], r: 4 }));
    else group.append(svg("polyline", { class: "hit", points: path }), svg("polyline", { class: "curve", points: path }));
    return Emphasis.of(name, group);
  }

  // Draws into the box of this id whenever its width changes; returns what draws it again.
  function mount(id, draw) {
    const box = Page.byId(id);
    const redraw = () => box.clientWidth && box.replaceChildren(...draw(box.clientWidth));
    let last = 0;
    new ResizeObserver(() => {
      if (box.clientWidth !== last) redraw();
      last = box.clientWidth;
    }).observe(box);
    return redraw;
  }

  return { axes, gutter, endLabels, line, mount, LABEL_HEIGHT };
})();
