"use strict";
// Which queries are shown, in which order and with which rows. The controls hold this choice, and so does the address.

const Selection = (() => {
  const { el, byId, charts, data } = Page;
  const ROWS_AT_FIRST = 3;
  const PAIR = { both: [true, true], "only-a": [true, false], "only-b": [false, true], neither: [false, false] };
  // How a row answers: where its first right answer is (rank 0: not in its ranking), and what misleads it.
  const PLACES = {
    "a-first": { words: "right at once", holds: (rank) => rank === 1 },
    "a-near": { words: "at rank 2-5", holds: (rank) => rank >= 2 && rank <= 5 },
    "a-deep": { words: "deeper", holds: (rank) => rank > 5 },
    "a-none": { words: "not in its ranking", holds: (rank) => rank === 0 },
    ...(byId("labels") ? { "a-alike": { words: "near-duplicate under another label", holds: (rank, q, figures) => figures.alike.includes(q) } } : {}),
  };
  const fails = (place, name, q) => PLACES[place].holds(data.queries.rows[name].first[q], q, data.queries.rows[name]);
  // A page without labels, or of one row, lacks some of the controls.
  const ABSENT = { show: "all", a: Page.order[0], b: Page.order[1] ?? Page.order[0], k: "1", text: "", order: "name", region: "", slice: "" };
  const controls = Object.fromEntries(Object.entries({ show: "filter", a: "a", b: "b", k: "k", text: "text", order: "order", region: "region", slice: "slice" })
    .map(([key, id]) => [key, byId(`query-${id}`)]).filter(([, control]) => control));
  const value = (key) => controls[key]?.value ?? ABSENT[key];
  const boxes = byId("query-models"), listeners = [];
  let page = 0, selected = null;

  const names = Page.order.map((name) => [name, name]);
  if (controls.a) {
    Page.options(controls.a, names, ABSENT.a);
    Page.options(controls.b, names, ABSENT.b);
  }
  if (controls.show) byId("query-places").append(...Object.entries(PLACES).map(([place, { words }]) => el("option", { value: place }, words)));
  if (controls.k) Page.options(controls.k, charts.cutoffs.map((k) => [String(k), String(k)]));
  boxes.append(...Page.order.map((name, i) => el("label", {},
    el("input", { type: "checkbox", value: name, checked: i < ROWS_AT_FIRST, change: changed }), name)));
  const defaults = Object.fromEntries([...Object.keys(controls).map((key) => [key, value(key)]), ["rows", ticked().join()]]);

  function ticked() {
    return [...boxes.querySelectorAll("input")].filter((box) => box.checked).map((box) => box.value);
  }
  function tick(rows) {
    for (const box of boxes.querySelectorAll("input")) box.checked = rows.includes(box.value);
  }
  const isPair = () => value("show") in PAIR;
  const pair = () => [...new Set([value("a"), value("b")])];
  // A and B stand under each other, whatever their order in the table.
  const rows = () => (isPair() ? [...new Set([...pair(), ...ticked()])] : ticked());

  // Which queries a filter keeps. A row is right if its first right image has a rank up to k; rank 0: it has none.
  function keeps(show, shown) {
    const k = Number(value("k")), hit = (rank) => rank > 0 && rank <= k;
    const first = (name) => data.queries.rows[name].first, ranks = shown.map(first), [a, b] = [first(value("a")), first(value("b"))];
    if (show in PAIR) return (q) => hit(a[q]) === PAIR[show][0] && hit(b[q]) === PAIR[show][1];
    if (show in PLACES) return (q) => fails(show, value("a"), q);
    return {
      all: () => true,
      missed: (q) => ranks.some((own) => !hit(own[q])),
      "missed-by-all": (q) => ranks.length > 0 && ranks.every((own) => !hit(own[q])),
      disagree: (q) => ranks.some((own) => hit(own[q])) && ranks.some((own) => !hit(own[q])),
    }[show];
  }

  function matcher() {
    const { labels, queries } = data.collection, written = value("text").trim(), wanted = written.toLowerCase();
    if (!wanted) return () => true;
    const named = (name, spelling) => labels.flatMap((label, index) => (spelling(label) === name ? [index] : []));
    const asWritten = named(written, (label) => label);
    const exact = new Set(asWritten.length ? asWritten : named(wanted, (label) => label.toLowerCase()));
    if (exact.size) return (q) => exact.has(queries.label[q]);
    return (q) => Page.label(queries.label[q]).toLowerCase().includes(wanted) || queries.paths[q].toLowerCase().includes(wanted);
  }

  // A rectangle of a row's map, "row:left,top,right,bottom", perhaps followed by ",misses"; null where it is none.
  function region() {
    const [, row, corners, misses] = /^([a-z0-9_]+):(\d+(?:,\d+){3})(,misses)?$/.exec(value("region")) ?? [];
    if (!charts.maps.includes(row)) return null;
    const [left, top, right, bottom] = corners.split(",").map(Number);
    return { row, left, top, right, bottom, misses: misses !== undefined };
  }
  const missed = (name, q) => {
    const rank = data.queries.rows[name].first[q];
    return data.queries.relevant[q] > 0 && (rank === 0 || rank > Number(value("k")));
  };
  // Whether a query is in the region; without a region, or until its map is loaded, each is.
  function inRegion() {
    const box = region(), map = box && Page.maps[box.row];
    if (!map) return () => true;
    const { at, x, y } = map.queries, inside = new Set();
    at.forEach((q, i) => {
      if (x[i] >= box.left && x[i] <= box.right && y[i] >= box.top && y[i] <= box.bottom && (!box.misses || missed(box.row, q))) inside.add(q);
    });
    return (q) => inside.has(q);
  }

  // A group of an attribute, "attribute: group"; null where there is none.
  function slice() {
    for (const { name, groups, of } of data.slices?.attributes ?? []) {
      const group = groups.findIndex((each) => `${name}: ${each}` === value("slice"));
      if (group >= 0) return { group, of };
    }
    return null;
  }
  function inSlice() {
    const chosen = slice();
    return (q) => !chosen || chosen.of[q] === chosen.group;
  }

  function select() {
    const { relevant, rows: figures } = data.queries, { paths } = data.collection.queries;
    const show = value("show"), shown = rows(), keep = keeps(show, shown), matches = matcher(), inside = inRegion(), ofSlice = inSlice();
    const picked = relevant.map((_, q) => q).filter((q) => (relevant[q] > 0 || show === "all") && keep(q) && matches(q) && inside(q) && ofSlice(q));
    if (value("order") === "name") return picked.sort((a, b) => (paths[a] < paths[b] ? -1 : paths[a] > paths[b] ? 1 : 0));
    const judged = isPair() ? pair() : show in PLACES ? [value("a")] : shown;
    const sum = new Float64Array(relevant.length), rank = new Float64Array(relevant.length);
    for (const q of picked) {
      sum[q] = judged.reduce((total, name) => total + (figures[name].map_at_r[q] ?? 2), 0);
      rank[q] = Math.min(...judged.map((name) => figures[name].first[q] || Infinity));
    }
    // Of two queries with equal means, the harder is the one whose first right image ranks lower.
    const later = (a, b) => (rank[a] === rank[b] ? a - b : rank[b] - rank[a]);
    return picked.sort(value("order") === "hardest" ? (a, b) => sum[a] - sum[b] || later(a, b)
      : (a, b) => (relevant[b] > 0) - (relevant[a] > 0) || sum[b] - sum[a] || later(b, a));
  }

  const HIDDEN = { region, slice }; // controls that other sections set, each with what it stands for

  // The address after "#": the section, and what differs from the page's first state.
  function address() {
    const given = { ...Object.fromEntries(Object.keys(controls).map((key) => [key, value(key)])), rows: ticked().join() };
    const differing = Object.entries(given).filter(([key, text]) => text !== defaults[key]);
    if (page) differing.push(["page", String(page + 1)]);
    return `#queries${differing.length ? `?${new URLSearchParams(differing)}` : ""}`;
  }

  // What the page does not know, such as a row that was removed since, is ignored.
  function restore() {
    const [section, , query] = /^#([^?]*)(\?(.*))?$/s.exec(location.hash)?.slice(1) ?? [];
    if (section !== "queries") return;
    if (query === undefined) return remember();
    const given = new URLSearchParams(query);
    for (const [key, control] of Object.entries(controls)) {
      control.value = given.get(key) ?? defaults[key];
      if (control.selectedIndex === -1) control.value = defaults[key];
    }
    for (const [key, holds] of Object.entries(HIDDEN)) if (controls[key] && !holds()) controls[key].value = "";
    separate();
    tick((given.get("rows") ?? defaults.rows).split(","));
    page = Math.max(0, (Number.parseInt(given.get("page"), 10) || 1) - 1);
    selected = null;
    notify();
  }

  function remember() {
    try {
      history.replaceState(null, "", address());
    } catch {
      // Some browsers refuse it for pages from disk; "Copy link" still has the address.
    }
  }
  function notify() {
    for (const listener of listeners) listener();
  }
  function changed() {
    page = 0;
    selected = null;
    remember();
    notify();
  }
  // A row is never compared with itself: where A becomes B, B becomes what A was, and the other way round.
  let compared = { a: value("a"), b: value("b") };
  function separate() {
    if (value("a") === value("b") && controls.a) {
      if (value("a") === compared.b) controls.b.value = compared.a;
      else controls.a.value = compared.b;
    }
    compared = { a: value("a"), b: value("b") };
  }
  // Where A and B, or A alone, decide which queries are shown, the choice of rows follows.
  function changedPair() {
    separate();
    if (isPair()) tick(pair());
    else if (value("show") in PLACES) tick([value("a")]);
    changed();
  }

  for (const [key, control] of Object.entries(controls))
    if (key !== "text") control.addEventListener("change", ["show", "a", "b"].includes(key) ? changedPair : changed);
  let waiting = 0;
  controls.text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(changed, 120);
  });
  controls.text.addEventListener("focus", () => {
    const list = byId("query-labels");
    if (data.collection && !list.children.length) list.append(...data.collection.labels.map((label) => el("option", { value: label })));
  });
  byId("query-controls").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => {
    restore();
    Page.goToAddress();
  });
  let restored = false, mapLoaded = false;
  Page.whenever(() => {
    if (restored || !data.queries) return;
    restored = true;
    restore();
  });
  Page.whenever(() => {
    if (mapLoaded || !Page.maps[region()?.row]) return;
    mapLoaded = true;
    selected = null;
    notify();
  });
  for (const key of Object.keys(HIDDEN)) {
    if (!controls[key]) continue;
    const clear = byId(`query-${key}-clear`);
    clear.addEventListener("click", () => {
      controls[key].value = "";
      changed();
    });
    listeners.push(() => {
      clear.hidden = !value(key);
      if (key === "slice") clear.textContent = `${value(key)} ✕`;
    });
  }

  // What the shown queries have in common, where A or B decides it.
  function shared() {
    const show = value("show");
    if (show in PLACES) return `first right answer of ${value("a")}: ${PLACES[show].words}`;
    return isPair() ? `A is ${value("a")}, B is ${value("b")}` : "";
  }

  return {
    PLACES, shared, fails, missed, region, rows, isPair, value, address,
    queries: () => (selected ??= select()),
    count(kind) {
      const keep = keeps(kind, []);
      return data.queries.relevant.reduce((sum, r, q) => sum + (r > 0 && keep(q)), 0);
    },
    numberSet: () => Object.keys(controls).filter((key) => !["a", "b"].includes(key) && value(key) !== defaults[key]).length + (ticked().join() !== defaults.rows),
    page: () => page,
    turn(to) {
      page = to;
      remember();
      notify();
    },
    // Shows what a number, a tile or a group of another section stands for: no other filter stays, and Back leads there again.
    only(given) {
      const from = document.activeElement?.closest("section")?.id;
      try {
        if (from && from !== "queries") history.replaceState(null, "", `#${from}`);
        history.pushState(null, "", location.href);
      } catch {
        // As in remember().
      }
      this.set({ show: "all", text: "", region: "", slice: "", ...given });
      byId("queries").scrollIntoView();
    },
    clear() {
      for (const [key, control] of Object.entries(controls)) control.value = defaults[key];
      tick(defaults.rows.split(","));
      changedPair();
    },
    set(given) {
      if ("row" in given) tick([...new Set([...ticked(), given.row])]);
      for (const [key, text] of Object.entries(given)) if (controls[key]) controls[key].value = text;
      changedPair();
    },
    whenChanged: (listener) => listeners.push(listener),
  };
})();
