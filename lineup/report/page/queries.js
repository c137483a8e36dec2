"use strict";
// Each query with the answers of the chosen rows. Only one page of queries is in the document at a time.

(() => {
  const { el, byId, data, rows, number } = Page;
  const PER_PAGE = 10;

  function draw() {
    if (!data.queries) return;
    const selected = Selection.queries(), pages = Math.max(1, Math.ceil(selected.length / PER_PAGE));
    const page = Math.min(Selection.page(), pages - 1), set = Selection.numberSet();
    byId("query-filters-set").textContent = set ? `(${set} set)` : "";
    byId("query-clear").hidden = !set;
    byId("query-count").textContent = [counted(selected), Selection.shared(), `page ${page + 1} of ${pages}`].filter(Boolean).join(", ");
    for (const button of document.querySelectorAll("[data-turn]")) button.disabled = button.dataset.turn === "1" ? page === pages - 1 : page === 0;
    byId("query-list").replaceChildren(...(selected.length ? selected.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(query) : [none()]));
    byId("query-list").dataset.page = page;
  }

  const none = () => el("p", {}, "No query matches all filters. ", el("button", { type: "button", id: "query-all", click: () => Selection.only({}) }, "Show all queries"));

  // Counted as in the headline: all queries, and those that were scored where these are fewer.
  function counted(selected) {
    const { relevant } = data.queries, unscored = (queries) => queries.filter((r) => r === 0).length;
    const left = unscored(selected.map((q) => relevant[q])), all = unscored(relevant);
    const scored = all && all < relevant.length ? `, ${(selected.length - left).toLocaleString("en")} of them scored` : "";
    return `${selected.length.toLocaleString("en")} of ${relevant.length.toLocaleString("en")} queries${scored}`;
  }

  function query(q) {
    const { queries } = data.collection, r = data.queries.relevant[q], label = Page.label(queries.label[q]), shown = Selection.rows();
    const fault = el("span", { class: "warning", role: "status" });
    const save = el("button", { type: "button", click: async () => { fault.textContent = await Slide.save(q, shown); } }, "Save as picture");
    return el("article", { class: "query", "data-query": q },
      el("figure", { class: "asked" }, Pictures.look("queries", q, `Query ${label}`, () => Viewer.open(q, shown.find((name) => rows[name]) ?? Page.order[0])),
        el("figcaption", {}, el("b", {}, label), Page.path("queries", q),
          Page.scored ? el("span", { class: "quiet" }, r ? `${r} right in the gallery` : Page.charts.partial ? "no right image is known" : "no right image in the gallery") : null, save, fault)),
      el("div", { class: "answers" }, shown.map((name) => answersOf(name, q))));
  }

  function answersOf(name, q) {
    const figures = data.queries.rows[name], rank = figures.first[q], r = data.queries.relevant[q], answers = Page.answers(name, q);
    const verdict = !Page.scored ? "" : r === 0 ? "not scored" : rank === 0 ? "no right image in its ranking" : `first right: rank ${rank}`;
    const heading = el("p", { class: "model" }, el("b", {}, name), ` ${verdict}`, r ? ` · map_at_r ${number(figures.map_at_r[q], 3)}` : "");
    if (!answers) return el("div", { class: "row" }, heading, el("p", { class: "quiet" }, Page.missing.has(name) ? `rows/${name}.js ${Page.missing.get(name)}` : "loading…"));
    const strip = answers.map((answer, i) => item(q, name, answer, i));
    if (answers.length && answers.at(-1).rank > answers.length) strip.splice(-1, 0, el("li", { class: "gap", "aria-hidden": "true" }, "…"));
    return el("div", { class: "row" }, heading, el("ol", { class: "strip", "aria-label": `Answers of ${name}` }, strip));
  }

  // One answer of a strip is in the order of focus; arrow keys move to the others.
  function item(q, name, { g, score, mark, rank }, i) {
    const [kind, words] = Page.MARKS[mark], label = Page.label(data.collection.gallery.label[g]);
    const look = Pictures.look("gallery", g, `Answer ${rank} of ${name}, ${words.slice(2)}, ${label}`, () => Viewer.open(q, name, { start: i }));
    look.tabIndex = i ? -1 : 0;
    return el("li", { class: `answer ${kind}` }, look,
      el("span", { class: "mark" }, `${rank} ${words}`),
      el("span", { class: "score" }, Page.score(score)),
      el("span", { class: "name", title: label }, label));
  }
  byId("query-list").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], strip = event.target.closest(".strip");
    if (!by || !strip) return;
    event.preventDefault();
    const looks = [...strip.querySelectorAll(".look")], next = looks[looks.indexOf(event.target) + by];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  // A text that a spreadsheet would compute gets a quote in front, as in Lineup's other CSV files.
  function cell(value) {
    let text = String(value ?? "");
    if (typeof value === "string" && /^(?:'*[ \t\r\n]*[=+\-@＝＋－＠]|'*[\t\r\n])/.test(text) && !/^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }
  function csv() {
    const { queries, gallery } = data.collection, { relevant, rows: figures } = data.queries, shown = Selection.rows();
    const perRow = shown.flatMap((name) => ["first_hit", "map_at_r", "top_answer", "top_label"].map((column) => `${name}.${column}`));
    const lines = Selection.queries().map((q) => [
      queries.ids[q], queries.paths[q], queries.label[q] < 0 ? "" : Page.label(queries.label[q]), relevant[q],
      ...shown.flatMap((name) => {
        const top = rows[name]?.answers[q][0];
        return [figures[name].first[q] || "", figures[name].map_at_r[q], top === undefined ? "" : gallery.paths[top],
          top === undefined || gallery.label[top] < 0 ? "" : Page.label(gallery.label[top])];
      })]);
    return [["query_id", "query", "label", "relevant", ...perRow], ...lines].map((line) => `${line.map(cell).join()}\n`).join("");
  }
  byId("query-csv").addEventListener("click", () => Page.save("queries.csv", new Blob([csv()], { type: "text/csv" })));

  byId("query-clear").addEventListener("click", () => Selection.clear());
  byId("query-link").addEventListener("click", async ({ target }) => {
    const link = new URL(Selection.address(), location.href).href;
    const copied = await navigator.clipboard?.writeText(link).then(() => true, () => false) || copyText(link);
    target.textContent = copied ? "Copied" : "Not copied";
    setTimeout(() => { target.textContent = "Copy link"; }, 2000);
  });
  // Browsers that keep the clipboard from pages on disk still copy what is selected.
  function copyText(text) {
    const box = el("textarea", { class: "unseen" }, text);
    document.body.append(box);
    box.select();
    const copied = document.execCommand("copy");
    box.remove();
    return copied;
  }

  for (const button of document.querySelectorAll("[data-turn]"))
    button.addEventListener("click", () => {
      Selection.turn(Number(byId("query-list").dataset.page) + Number(button.dataset.turn));
      byId("queries").scrollIntoView();
    });
  Page.openSlice = (slice, name) => {
    Selection.only({ slice, row: name });
  };
  Page.openLabel = (label, name) => {
    Selection.only({ text: label, row: name });
    byId("query-text").focus({ preventScroll: true });
  };
  Selection.whenChanged(draw);
  Page.whenever(draw);
})();
