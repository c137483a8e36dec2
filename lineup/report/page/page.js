"use strict";
// What the other scripts share: elements, whose text is only ever set as text; the data files.

const Page = (() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const listeners = [];
  const missing = new Map(); // row -> why its file cannot be used
  const data = (window.LINEUP ??= {});
  const rows = (window.LINEUP_ROWS ??= {});
  const matches = (window.LINEUP_NEAR_COPIES ??= {});
  const maps = (window.LINEUP_MAPS ??= {});

  function build(create, tag, attributes, children) {
    const element = create(tag);
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (value === undefined || value === null || value === false) continue;
      if (name === "style") element.style.cssText = value; // the attribute itself is forbidden by the page's policy
      else if (typeof value === "function") element.addEventListener(name, value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }
  const el = (tag, attributes, ...children) => build((t) => document.createElement(t), tag, attributes, children);
  const svg = (tag, attributes, ...children) =>
    build((t) => document.createElementNS("http://www.w3.org/2000/svg", t), tag, attributes, children);
  const byId = (id) => document.getElementById(id);

  // Runs a script; whether it was there.
  function load(source) {
    return new Promise((resolve) => {
      const done = (loaded) => {
        script.remove();
        resolve(loaded);
      };
      const script = el("script", { src: source, load: () => done(true), error: () => done(false) });
      document.head.append(script);
    });
  }

  // The table and the charts are in the page. Everything else is loaded after the first paint, a file at a time.
  // What is shown is drawn again now and then, once all rows are here, and in the end: with twenty rows, drawing after
  // each took seconds.
  const LEAST_MS_BETWEEN_DRAWINGS = 500;
  async function loadAll() {
    if (!(await load("assets/data.js"))) {
      showFaults([el("li", {}, "assets/data.js is missing: run ", el("code", {}, "dvc pull data/report/assets"), ".")]);
      return;
    }
    changed();
    goToAddress();
    let drawn = performance.now();
    for (const { name } of charts.rows) {
      const loaded = await load(`rows/${name}.js`);
      if (!loaded) missing.set(name, `is missing: run dvc pull data/report/rows/${name}.js`);
      else if (rows[name]?.collection !== data.collection.key) {
        missing.set(name, "is of other test images: run dvc repro");
        delete rows[name];
      }
      if (performance.now() - drawn < LEAST_MS_BETWEEN_DRAWINGS) continue;
      changed();
      drawn = performance.now();
    }
    if (charts.matched.length || charts.maps.length) changed();
    const faults = [...missing].map(([name, why]) => el("li", {}, el("code", {}, name), `: rows/${name}.js ${why}`));
    for (const name of charts.matched) {
      if (await load(`near_copies/${name}/pairs.js`)) continue;
      faults.push(el("li", {}, "near_copies/", el("code", {}, name), ` is missing: run dvc pull data/report/near_copies/${name}`));
    }
    for (const name of charts.maps) {
      const loaded = await load(`maps/${name}.js`);
      if (!loaded) faults.push(el("li", {}, "the map of ", el("code", {}, name), ` is missing: run dvc pull data/report/maps/${name}.js`));
      else if (maps[name]?.collection !== data.collection.key) {
        faults.push(el("li", {}, "the map of ", el("code", {}, name), " is of other test images: run dvc repro"));
        delete maps[name];
      }
    }
    changed();
    showFaults(faults);
    goToAddress();
    document.documentElement.dataset.loaded = "yes";
  }

  // Where the reader has not moved, the section that the address names stays in view while others grow.
  let moved = false;
  for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"]) addEventListener(kind, () => { moved = true; }, { passive: true });
  function goToAddress() {
    const section = byId(/^#([^?]*)/.exec(location.hash)?.[1] ?? "");
    if (section && !moved) section.scrollIntoView({ behavior: "instant" });
  }
  addEventListener("hashchange", () => { moved = false; }, { capture: true });

  function showFaults(items) {
    const status = byId("status");
    status.replaceChildren(...items);
    status.hidden = items.length === 0;
  }

  function changed() {
    for (const listener of listeners) listener();
  }

  const order = charts.rows.map((row) => row.name);

  const number = (value, digits) => (value === null || value === undefined ? "-" : value.toFixed(digits));
  const options = (select, entries, chosen) =>
    select.replaceChildren(...entries.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
  // A row's name, which may go on in the next line after each "_".
  const breakable = (name) => name.split("_").flatMap((part, i, parts) => (i < parts.length - 1 ? [`${part}_`, el("wbr")] : [part]));
  const label = (code) => (code < 0 ? "no label" : data.collection.labels[code]);
  // Images are known by their side, "queries" or "gallery", and their number in it.
  const picture = (side, index) => {
    const { ids, paths } = data.collection[side];
    return el("img", { src: `thumbnails/${ids[index]}.jpg`, alt: paths[index], title: paths[index], loading: "lazy", decoding: "async" });
  };

  // One image may have several files.
  const path = (side, index) => files(data.collection[side].paths[index].split(" | "));
  function files(all) {
    return el("span", { class: "path", title: all.join("\n") }, all.length > 1 ? `${all[0]} and ${all.length - 1} more` : all[0]);
  }
  // Two pictures beside each other, with a caption.
  function pair(left, right, caption) {
    const side = ({ picture, label, path }) => el("figure", {}, picture, el("figcaption", {}, el("b", {}, label), path));
    return el("article", { class: "pair-card" }, side(left), side(right), el("p", {}, caption));
  }

  // The first cards, and a button for more: thousands at once would make the page slow.
  function cards(box, items, draw) {
    const STEP = matchMedia("(max-width: 640px)").matches ? 8 : 24;
    let count = 0;
    const more = el("button", { type: "button", click: () => add() });
    const grid = el("div", { class: "grid" });
    function add() {
      grid.append(...items.slice(count, count + STEP).map(draw));
      count += STEP;
      more.textContent = `Show more (${items.length - count} left)`;
      more.hidden = count >= items.length;
    }
    add();
    box.replaceChildren(...(items.length ? [grid, more] : [el("p", {}, "None.")]));
  }
  // What a row answers to a query: those it ranks first, and the first right one where it comes later; null until loaded.
  const MARKS = { 1: ["right", "✓ right"], 0: ["wrong", "✗ wrong"], "?": ["unknown", "? unknown"] };
  function answers(name, q) {
    const own = rows[name];
    if (!own) return null;
    const first = own.answers[q].map((g, i) => ({ g, score: own.scores[q][i], mark: own.marks[q][i], rank: i + 1 }));
    const late = own.first[q];
    return late ? [...first, { rank: late[0], g: late[1], score: late[2], mark: "1" }] : first;
  }
  function save(name, blob) {
    const link = el("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
  // A label's first photo of the gallery, else its first query.
  function ofLabel(label) {
    const side = data.collection.gallery.label.includes(label) ? "gallery" : "queries";
    const shown = picture(side, data.collection[side].label.indexOf(label));
    shown.alt = "";
    return shown;
  }
  // Where a figure is among those of a group of queries.
  const GROUP = { MEAN: 0, LOW: 1, HIGH: 2, TO_MEAN: 3, TO_MEAN_P: 4, TO_BEST: 5, TO_BEST_P: 6, NOTE: 7 };
  const score = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

  return {
    charts, rows, matches, maps, missing, data, order, el, svg, byId, number, options, breakable, label, picture, path, files, pair, cards, score, load, loadAll, goToAddress,
    MARKS, GROUP, answers, ofLabel, save, scored: charts.rows.some((row) => row.quality),
    whenever: (listener) => listeners.push(listener),
  };
})();

addEventListener("DOMContentLoaded", () => setTimeout(Page.loadAll));
