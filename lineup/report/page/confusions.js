"use strict";
// The labels that a row confuses most: whose queries get a first answer of which other label, and how often.

(() => {
  const { el, byId, data, rows } = Page;
  const chooser = byId("labels-model");

  const times = (count) => (count === 1 ? "once" : `${count.toLocaleString("en")} times`);

  function draw() {
    const own = data.queries?.confusions?.[chooser.value];
    if (!own) return;
    const { labels, cells, others } = own, any = labels.length > 0;
    byId("confusions").hidden = !any;
    byId("confusion").replaceChildren();
    byId("confusions-note").textContent = !any ? "No query's first answer has another label."
      : `Each line counts the queries of one label by the label of their first answer, for ${labels.length === 1 ? "the label" : `the ${labels.length} labels`} that this row confuses most. `
        + `${others ? `${others.toLocaleString("en")} more confused queries are of other pairs of labels. ` : ""}Click a number to see the photos.`;
    const counts = new Map(cells.map(([label, answered, count]) => [`${label} ${answered}`, count]));
    const most = Math.max(...cells.filter(([label, answered]) => label !== answered).map(([, , count]) => count), 1);
    const name = (label) => el("span", {}, el("span", {}, Page.label(label)), Page.ofLabel(label));
    byId("confusions-table").replaceChildren(
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "query ↓, answer →"), labels.map((label) => el("th", { scope: "col" }, Page.ofLabel(label), Page.label(label))))),
      el("tbody", {}, labels.map((label) => el("tr", {}, el("th", { scope: "row" }, name(label)),
        labels.map((answered) => cell(label, answered, counts.get(`${label} ${answered}`), most))))));
  }

  function cell(label, answered, count, most) {
    if (label === answered) return el("td", { class: "own", title: "queries that are not confused" }, String(count));
    if (!count) return el("td", {});
    const words = `${Page.label(label)} confused with ${Page.label(answered)} ${times(count)}`;
    const button = el("button", { type: "button", title: words, "aria-label": `${words}, show them`, "aria-pressed": "false", "data-pair": `${label} ${answered}`, click: () => show(label, answered, words, button) }, count.toLocaleString("en"));
    const box = el("td", {}, button);
    box.style.setProperty("--share", count / most);
    return box;
  }

  // The queries of a label whose first answer has the other label, each beside that answer.
  function show(label, answered, words, button) {
    for (const pressed of byId("confusions-table").querySelectorAll("[aria-pressed=true]")) pressed.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", "true");
    const row = chooser.value, { queries, gallery } = data.collection, box = el("div", {});
    const filter = el("button", { type: "button", click: () => Page.openLabel(Page.label(label), row) }, "All queries of the label");
    byId("confusion").replaceChildren(el("h4", {}, `${words} `, filter), box);
    setTimeout(() => byId("confusion").scrollIntoView({ block: "nearest" })); // once its photos have their size
    if (!rows[row]) return box.replaceChildren(el("p", { class: "quiet" }, Page.missing.has(row) ? `rows/${row}.js ${Page.missing.get(row)}` : "loading…"));
    const { relevant, rows: figures } = data.queries;
    const confused = queries.label.flatMap((own, q) => {
      const top = rows[row].answers[q][0];
      return own === label && relevant[q] > 0 && figures[row].first[q] !== 1 && top !== undefined && gallery.label[top] === answered ? [q] : [];
    });
    const side = (kind, index, q) => ({ picture: Pictures.look(kind, index, Page.label(data.collection[kind].label[index]), () => Viewer.open(q, row, { list: confused })), label: Page.label(data.collection[kind].label[index]), path: Page.path(kind, index) });
    Page.cards(box, confused, (q) => Page.pair(side("queries", q, q), side("gallery", rows[row].answers[q][0], q), `score ${Page.score(rows[row].scores[q][0])}`));
  }

  let drawn = false;
  chooser.addEventListener("change", draw);
  Page.whenever(() => {
    if (drawn || !data.queries) return;
    drawn = true;
    draw();
  });
})();
