"use strict";
// Each query with the answers of the chosen models. Only one page of queries is in the document at a time.

(() => {
  const { el, byId, charts, data, rows, number } = Page;
  const PER_PAGE = 10, MODELS_AT_FIRST = 3;
  const [filter, first, second, cutoff, text, order] = ["filter", "a", "b", "k", "text", "order"].map((name) => byId(`query-${name}`));
  const chosen = new Set(Page.order.slice(0, MODELS_AT_FIRST));
  let page = 0, selected = null;

  const names = Page.order.map((name) => [name, name]);
  Page.options(first, names, Page.order[0]);
  Page.options(second, names, Page.order[1]);
  Page.options(cutoff, (charts.cutoffs.length ? charts.cutoffs : [1]).map((k) => [String(k), String(k)]), "1");
  byId("query-models").append(...Page.order.map((name) => el("label", {},
    el("input", { type: "checkbox", value: name, checked: chosen.has(name), change: (event) => {
      if (event.target.checked) chosen.add(name);
      else chosen.delete(name);
      renew();
    } }), name)));

  const shownModels = () => Page.order.filter((name) => chosen.has(name));

  // Whether a right image is among a row's first k answers. No row is right on a query that has none in the gallery.
  function right(name, q) {
    const rank = data.queries.rows[name].first[q];
    return rank > 0 && rank <= Number(cutoff.value);
  }

  const FILTERS = {
    all: () => true,
    missed: (q, models) => models.some((name) => !right(name, q)),
    "missed-by-all": (q, models) => models.length > 0 && models.every((name) => !right(name, q)),
    disagree: (q, models) => models.some((name) => right(name, q)) && models.some((name) => !right(name, q)),
    "a-not-b": (q) => right(first.value, q) && !right(second.value, q),
  };

  function select() {
    const { queries } = data.collection, { relevant, rows: figures } = data.queries;
    const models = shownModels(), keep = FILTERS[filter.value], wanted = text.value.trim().toLowerCase();
    const labelsNamed = (name, spelling) => data.collection.labels.flatMap((label, index) => (spelling(label) === name ? [index] : []));
    const asWritten = labelsNamed(text.value.trim(), (label) => label);
    const exact = new Set(asWritten.length ? asWritten : labelsNamed(wanted, (label) => label.toLowerCase()));
    const matches = (q) => !wanted || (exact.size ? exact.has(queries.label[q])
      : Page.label(queries.label[q]).toLowerCase().includes(wanted) || queries.paths[q].toLowerCase().includes(wanted));
    const picked = relevant.map((_, q) => q).filter((q) => (relevant[q] > 0 || filter.value === "all") && keep(q, models) && matches(q));
    const judged = filter.value === "a-not-b" ? [first.value, second.value] : models;
    const mean = new Map(picked.map((q) => [q, judged.reduce((sum, name) => sum + (figures[name].map_at_r[q] ?? 2), 0)]));
    const rank = (q) => Math.min(...judged.map((name) => figures[name].first[q] || Infinity));
    // Of two queries with equal means, the harder is the one whose first right image ranks lower.
    const later = (a, b) => (rank(a) === rank(b) ? a - b : rank(b) - rank(a));
    const orders = {
      hardest: (a, b) => mean.get(a) - mean.get(b) || later(a, b),
      easiest: (a, b) => (relevant[b] > 0) - (relevant[a] > 0) || mean.get(b) - mean.get(a) || later(b, a),
      name: (a, b) => (queries.paths[a] < queries.paths[b] ? -1 : queries.paths[a] > queries.paths[b] ? 1 : 0),
    };
    return picked.sort(orders[order.value]);
  }

  function renew() {
    page = 0;
    selected = null;
    draw();
  }

  function draw() {
    if (!data.queries) return;
    selected ??= select();
    const pages = Math.max(1, Math.ceil(selected.length / PER_PAGE));
    page = Math.max(0, Math.min(page, pages - 1));
    byId("query-pair").hidden = filter.value !== "a-not-b";
    byId("query-count").textContent = `${counted()}, page ${page + 1} of ${pages}`;
    for (const button of document.querySelectorAll("[data-turn]")) button.disabled = button.dataset.turn === "1" ? page === pages - 1 : page === 0;
    byId("query-list").replaceChildren(...selected.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(query));
  }

  // Counted as in the headline: all queries, and those that were scored where these are fewer.
  function counted() {
    const { relevant } = data.queries, unscored = (queries) => queries.filter((r) => r === 0).length;
    const left = unscored(selected.map((q) => relevant[q]));
    const scored = unscored(relevant) ? `, ${(selected.length - left).toLocaleString("en")} of them scored` : "";
    return `${selected.length.toLocaleString("en")} of ${relevant.length.toLocaleString("en")} queries${scored}`;
  }

  function query(q) {
    const { queries } = data.collection, r = data.queries.relevant[q];
    const models = filter.value === "a-not-b" ? [...new Set([first.value, second.value])] : shownModels();
    return el("article", { class: "query", "data-query": q },
      el("figure", { class: "asked" }, Page.picture("queries", q),
        el("figcaption", {}, el("b", {}, Page.label(queries.label[q])), Page.path("queries", q),
          el("span", { class: "quiet" }, r ? `${r} right in the gallery` : "no right image in the gallery"))),
      el("div", { class: "answers" }, models.map((name) => answersOf(name, q))));
  }

  function answersOf(name, q) {
    const figures = data.queries.rows[name], rank = figures.first[q], own = rows[name];
    const verdict = data.queries.relevant[q] === 0 ? "not scored" : rank === 0 ? "no right image in its ranking" : `first right: rank ${rank}`;
    const heading = el("p", { class: "model" }, el("b", {}, name), ` ${verdict}`, data.queries.relevant[q] ? ` · map_at_r ${number(figures.map_at_r[q], 3)}` : "");
    if (!own) return el("div", { class: "row" }, heading, el("p", { class: "quiet" }, Page.missing.has(name) ? `rows/${name}.js ${Page.missing.get(name)}` : "loading…"));
    const strip = own.answers[q].map((g, i) => answer(g, own.scores[q][i], own.marks[q][i], i + 1));
    const late = own.first[q];
    if (late) strip.push(el("li", { class: "gap", "aria-hidden": "true" }, "…"), answer(late[1], late[2], "1", late[0]));
    return el("div", { class: "row" }, heading, el("ol", { class: "strip", tabindex: 0, "aria-label": `Answers of ${name}` }, strip));
  }

  const MARKS = { 1: ["right", "✓ right"], 0: ["wrong", "✗ wrong"], "?": ["unknown", "? unknown"] };
  function answer(g, score, mark, rank) {
    const [kind, words] = MARKS[mark], { gallery } = data.collection;
    return el("li", { class: `answer ${kind}` }, Page.picture("gallery", g),
      el("span", { class: "mark" }, `${rank} ${words}`),
      el("span", { class: "score" }, Page.score(score)),
      el("span", { class: "name", title: Page.label(gallery.label[g]) }, Page.label(gallery.label[g])));
  }

  for (const control of [filter, first, second, cutoff, order]) control.addEventListener("change", renew);
  let waiting = 0;
  text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(renew, 120);
  });
  text.addEventListener("focus", () => {
    const list = byId("query-labels");
    if (data.collection && !list.children.length) list.append(...data.collection.labels.map((label) => el("option", { value: label })));
  });
  byId("query-controls").addEventListener("submit", (event) => event.preventDefault());
  for (const button of document.querySelectorAll("[data-turn]"))
    button.addEventListener("click", () => {
      page += Number(button.dataset.turn);
      draw();
      byId("queries").scrollIntoView();
    });

  Page.openLabel = (label, name) => {
    text.value = label;
    filter.value = "all";
    chosen.add(name);
    for (const box of byId("query-models").querySelectorAll("input")) box.checked = chosen.has(box.value);
    renew();
    byId("queries").scrollIntoView();
    text.focus({ preventScroll: true });
  };
  Page.whenever(draw);
})();
