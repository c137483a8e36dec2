"use strict";
// A map of the photos by a row's vectors: what is where, which queries a row misses, and a region that filters the queries.

(() => {
  const { el, byId, data, maps, charts } = Page;
  const PADDING = 12, REACH_PX = 14, DRAG_PX = 4, AROUND = 0.1; // of the map's longer side, on each side of a photo
  const COLOURS = 8;
  const canvas = byId("map-canvas"), tip = byId("map-tip"), rowBox = byId("map-row"), colourBox = byId("map-colour"), missesBox = byId("map-misses");
  const base = document.createElement("canvas");
  let points = [], scale = 1, left = 0, top = 0, current = null, drag = null; // current: the photo that is pointed at

  Page.options(rowBox, charts.maps.map((name) => [name, name]));
  const row = () => rowBox.value, map = () => maps[row()];
  const misses = () => missesBox?.checked ?? false;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const hue = (number) => `hsl(${(number * 137.508) % 360} 65% ${matchMedia("(prefers-color-scheme: dark)").matches ? 68 : 38}%)`;
  const groupColour = (group, groups) => (groups > COLOURS ? hue(group) : css(`--series-${group}`));
  const attribute = () => map()?.attributes.find(({ name }) => `attribute ${name}` === colourBox.value);
  const count = (value) => value.toLocaleString("en");

  // The photos on the map, the queries last, so that they are on top.
  function visible() {
    const own = map();
    if (!own || !data.queries) return [];
    const side = (name) => own[name].at.map((index, i) => ({ side: name, index, i, x: own[name].x[i], y: own[name].y[i] }));
    const queries = side("queries");
    return misses() ? queries.filter(({ index }) => Selection.missed(row(), index)) : [...side("gallery"), ...queries];
  }

  function verdict({ side, index }) {
    if (side === "gallery") return ["gallery", "in the gallery"];
    if (!Page.scored || !data.queries.relevant[index]) return ["unscored", "query, not scored"];
    const rank = data.queries.rows[row()].first[index], words = rank ? `first right: rank ${rank}` : "no right image in its ranking";
    return Selection.missed(row(), index) ? ["wrong", `✗ ${words}`] : ["right", `✓ ${words}`];
  }

  function colour(point) {
    if (colourBox.value === "label") {
      const label = data.collection[point.side].label[point.index];
      return label < 0 ? css("--quiet") : hue(label);
    }
    const chosen = attribute();
    if (chosen && point.side === "queries") return groupColour(chosen.of[point.i], chosen.groups.length);
    return css({ right: "--right", wrong: "--wrong" }[!chosen && point.side === "queries" ? verdict(point)[0] : ""] ?? "--quiet");
  }

  const at = ({ x, y }) => [left + x * scale, top + y * scale];
  const toMap = ([x, y]) => [(x - left) / scale, (y - top) / scale].map((value) => Math.min(map().side, Math.max(0, Math.round(value))));

  function drawPoint(pen, point, crossed) {
    const [x, y] = at(point);
    if (point.side === "gallery") return pen.fillRect(x - 1.25, y - 1.25, 2.5, 2.5);
    pen.beginPath();
    if (crossed) {
      for (const [dx, dy] of [[-1, -1], [1, -1]]) {
        pen.moveTo(x + 3.5 * dx, y + 3.5 * dy);
        pen.lineTo(x - 3.5 * dx, y - 3.5 * dy);
      }
      return pen.stroke();
    }
    pen.arc(x, y, 3.5, 0, 2 * Math.PI);
    return pen.fill();
  }

  // Draws every point into `base`, which stays while the pointer moves.
  function draw() {
    const own = map(), ratio = devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    for (const each of [canvas, base]) [each.width, each.height] = [width * ratio, height * ratio];
    const pen = base.getContext("2d");
    pen.scale(ratio, ratio);
    pen.lineWidth = 1.8;
    points = visible();
    if (own && data.queries) {
      const most = (axis) => Math.max(1, ...["queries", "gallery"].map((side) => own[side][axis].reduce((a, b) => Math.max(a, b), 0)));
      const [x, y] = [most("x"), most("y")];
      scale = Math.min((width - 2 * PADDING) / x, (height - 2 * PADDING) / y);
      [left, top] = [(width - x * scale) / 2, (height - y * scale) / 2];
      const byVerdict = colourBox.value === "verdict", colours = new Map();
      for (const point of points) {
        const key = point.side === "gallery" && colourBox.value !== "label" ? "gallery" : byVerdict ? verdict(point)[0] : colourBox.value === "label" ? data.collection[point.side].label[point.index] : attribute()?.of[point.i];
        if (!colours.has(key)) colours.set(key, colour(point));
        pen.fillStyle = pen.strokeStyle = colours.get(key);
        pen.globalAlpha = point.side === "gallery" ? 0.55 : 0.9;
        drawPoint(pen, point, byVerdict && key === "wrong");
      }
    }
    if (current) current = points.find(({ side, index }) => side === current.side && index === current.index) ?? null;
    overlay();
    legend();
    status();
  }

  // The points, the region and the photo that is pointed at.
  function overlay() {
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (canvas.width) pen.drawImage(base, 0, 0);
    pen.scale(devicePixelRatio, devicePixelRatio);
    const box = drag?.box ?? pixels(Selection.region());
    if (box) {
      const [x0, y0, x1, y1] = box;
      pen.strokeStyle = pen.fillStyle = css("--accent");
      pen.lineWidth = 1.5;
      pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
      pen.globalAlpha = 0.1;
      pen.fillRect(x0, y0, x1 - x0, y1 - y0);
      pen.globalAlpha = 1;
    }
    if (current) {
      pen.strokeStyle = css("--text");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(...at(current), 7, 0, 2 * Math.PI);
      pen.stroke();
    }
  }
  const pixels = (region) => (region?.row === row() && map() ? [...at({ x: region.left, y: region.top }), ...at({ x: region.right, y: region.bottom })] : null);

  function legend() {
    const chosen = attribute(), own = map(), item = (kind, words) => {
      const dot = el("span", { class: `dot${kind.cross ? " cross" : ""}`, "aria-hidden": "true" });
      dot.style.setProperty("--dot", kind.colour);
      return el("li", {}, dot, words);
    };
    const items = chosen ? chosen.groups.map((name, group) => item({ colour: groupColour(group, chosen.groups.length) }, `${name} (${count(chosen.of.filter((of) => of === group).length)})`))
      : colourBox.value === "label" ? [el("li", {}, "A colour for each label, though some look alike; point at a photo to see its label.")]
        : [item({ colour: css("--right") }, "right"), item({ colour: css("--wrong"), cross: true }, "missed"), item({ colour: css("--quiet") }, "gallery, or not scored")];
    byId("map-legend").replaceChildren(...(own ? items : []));
  }

  function status() {
    const own = map(), region = Selection.region(), { queries, gallery } = data.collection ?? {};
    byId("map-clear").disabled = !region;
    if (!own || !data.queries) {
      byId("map-shown").textContent = `The map of ${row()} is loading, or missing.`;
      return;
    }
    const of = (side, all) => `${side.at.length < all ? `a sample of ${count(side.at.length)} of ${count(all)}` : count(all)}`;
    const shown = misses() ? `${count(points.length)} of ${count(own.queries.at.length)} queries missed by ${row()} at k = ${Selection.value("k")}.`
      : `${of(own.queries, queries.ids.length)} queries, ${of(own.gallery, gallery.ids.length)} photos of the gallery.`;
    const inside = region ? ` ${count(Selection.queries().length)} queries in the region are shown below.` : "";
    byId("map-shown").textContent = shown[0].toUpperCase() + shown.slice(1) + inside;
  }

  function look(point) {
    if (point === current) return;
    current = point;
    overlay();
    tip.hidden = !point;
    if (!point) return;
    const label = Page.label(data.collection[point.side].label[point.index]), [kind, words] = verdict(point), picture = Page.picture(point.side, point.index);
    picture.loading = "eager";
    tip.replaceChildren(picture, el("b", {}, label), el("span", { class: kind === "wrong" || kind === "right" ? "mark" : "quiet" }, words), Page.path(point.side, point.index));
    byId("map-photo").textContent = `${point.side === "queries" ? "Query" : "Gallery photo"} ${label}, ${words}`;
    const [x, y] = at(point), wide = tip.offsetWidth, high = tip.offsetHeight;
    tip.style.left = `${Math.max(0, Math.min(canvas.clientWidth - wide, x < canvas.clientWidth / 2 ? x + 14 : x - wide - 14))}px`;
    tip.style.top = `${Math.max(0, Math.min(canvas.clientHeight - high, y - high / 2))}px`;
  }

  // The photo nearest to a place in pixels; of equally near ones a query.
  function nearest([x, y]) {
    let best = null, least = REACH_PX ** 2;
    for (const point of points) {
      const [px, py] = at(point), distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance <= least) [best, least] = [point, distance];
    }
    return best;
  }

  const setRegion = (corners) => Selection.set({ region: `${row()}:${corners.join()}${misses() ? ",misses" : ""}` });
  const clearRegion = () => Selection.region() && Selection.set({ region: "" });
  const open = (point) => point?.side === "queries" && Viewer.open(point.index, row());
  const place = (event) => [event.offsetX, event.offsetY];

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || !map()) return;
    drag = { from: place(event), box: null, seen: current };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (!drag) return look(nearest([x, y]));
    const [fromX, fromY] = drag.from;
    if (drag.box || Math.hypot(x - fromX, y - fromY) > DRAG_PX) {
      drag.box = [Math.min(x, fromX), Math.min(y, fromY), Math.max(x, fromX), Math.max(y, fromY)];
      tip.hidden = true;
      overlay();
    }
    return undefined;
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { box, seen } = drag;
    drag = null;
    if (box) {
      current = null;
      return setRegion([...toMap(box.slice(0, 2)), ...toMap(box.slice(2))]);
    }
    const point = nearest(place(event));
    look(point);
    if (event.pointerType !== "touch" || point === seen) open(point); // the first touch shows the photo
    return undefined;
  });
  canvas.addEventListener("pointercancel", () => {
    drag = null;
    overlay();
  });
  canvas.addEventListener("pointerleave", () => drag || look(null));
  canvas.addEventListener("blur", () => look(null));

  // The nearest photo that lies rather in this direction than across it.
  function neighbour([dx, dy]) {
    if (!current) return points.find(({ side }) => side === "queries") ?? points[0] ?? null;
    let best = current, least = Infinity;
    for (const point of points) {
      const x = point.x - current.x, y = point.y - current.y, along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
      if (along > 0 && across <= along && x * x + y * y < least) [best, least] = [point, x * x + y * y];
    }
    return best;
  }
  const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !map()) return;
    const actions = {
      Enter: () => open(current),
      Escape: clearRegion,
      " ": () => {
        if (!current) return;
        const { side } = map(), half = side * AROUND, within = (value) => Math.min(side, Math.max(0, Math.round(value)));
        setRegion([current.x - half, current.y - half, current.x + half, current.y + half].map(within));
      },
    };
    const direction = DIRECTIONS[event.key], action = direction ? () => look(neighbour(direction)) : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  function colours() {
    const chosen = colourBox.value, names = (map()?.attributes ?? []).map(({ name }) => [`attribute ${name}`, name]);
    Page.options(colourBox, [...(Page.scored ? [["verdict", "right or missed"]] : []), ...(data.collection?.labels.length ? [["label", "label"]] : []), ...names]);
    if ([...colourBox.options].some(({ value }) => value === chosen)) colourBox.value = chosen;
  }

  // The region decides the row and what is shown of it, also when it comes from the address.
  function follow() {
    const region = Selection.region();
    if (region) {
      rowBox.value = region.row;
      if (missesBox) missesBox.checked = region.misses;
    }
    colours();
    draw();
  }

  rowBox.addEventListener("change", () => {
    look(null);
    clearRegion();
    follow();
  });
  colourBox.addEventListener("change", draw);
  missesBox?.addEventListener("change", () => {
    const { left: x0, top: y0, right: x1, bottom: y1 } = Selection.region() ?? {};
    if (x0 === undefined) draw();
    else setRegion([x0, y0, x1, y1]);
  });
  byId("map-clear").addEventListener("click", clearRegion);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(draw).observe(canvas);
  Selection.whenChanged(follow);
  Page.whenever(follow);
})();
