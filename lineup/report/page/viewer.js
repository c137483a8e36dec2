"use strict";
// A query beside one of its answers, as large as the window allows, with the answer's rank and score in every row.

const Viewer = (() => {
  const { el, byId, data, rows } = Page;
  const QUERIES_PER_PART = 200, SWIPE_PX = 40;
  const dialog = byId("viewer"), note = byId("viewer-note");
  let q = 0, row = "", answers = [], at = 0, listed = null;

  // `shown` are answers as Page.answers returns them: without it, those of the row. `list` are the queries that the arrow
  // keys go through: without it, those that the filters leave.
  function open(query, name, { start = 0, shown = Page.answers(name, query), list = null } = {}) {
    if (!shown?.length) return;
    [q, row, answers, at, listed] = [query, name, shown, Math.min(start, shown.length - 1), list];
    draw();
    if (!dialog.open) dialog.showModal();
  }

  function draw() {
    const { queries, gallery } = data.collection, answer = answers[at];
    const label = (side, index) => el("b", {}, Page.label(side.label[index]));
    byId("viewer-title").replaceChildren(answer.rank ? `Answer ${answer.rank} of ` : "An answer of ", el("code", {}, row));
    note.hidden = true;
    photo("viewer-query", "queries", q, "", [el("span", { class: "quiet" }, "query "), label(queries, q)]);
    photo("viewer-answer", "gallery", answer.g, Page.MARKS[answer.mark][0], [el("span", { class: "mark" }, Page.MARKS[answer.mark][1]), " ", label(gallery, answer.g)]);
    const list = listed ?? Selection.queries(), position = list.indexOf(q);
    byId("viewer-position").textContent = position < 0 ? "" : `Query ${(position + 1).toLocaleString("en")} of ${list.length.toLocaleString("en")}`;
    for (const button of dialog.querySelectorAll("[data-step]")) button.disabled = !answers[at + Number(button.dataset.step)];
    for (const button of dialog.querySelectorAll("[data-query-step]")) button.disabled = position < 0 || list[position + Number(button.dataset.queryStep)] === undefined;
    ranks(answer.g);
  }

  function photo(id, side, index, mark, words) {
    const picture = Page.picture(side, index);
    picture.loading = "eager";
    byId(id).className = mark;
    byId(id).replaceChildren(picture, el("figcaption", {}, el("span", {}, words), Page.path(side, index)));
    Pictures.large(side, index).then((url) => {
      if (!picture.isConnected) return;
      if (url) picture.src = url;
      else [note.textContent, note.hidden] = [Pictures.missing, false];
    });
  }

  // A row's answers to the query in full; where their file is missing, the first ones.
  async function ranking(name) {
    const part = Math.floor(q / QUERIES_PER_PART), key = `${name}/${part}`, own = q % QUERIES_PER_PART;
    const all = (window.LINEUP_RANKS ??= {});
    if (!all[key]) await Page.load(`ranks/${key}.js`);
    const full = all[key];
    if (full?.collection === data.collection.key) return { answers: full.answers[own], scores: full.scores[own] };
    return rows[name] ? { answers: rows[name].answers[q], scores: rows[name].scores[q] } : null;
  }

  async function ranks(g) {
    const query = q;
    const all = await Promise.all(Page.order.map(ranking));
    if (query !== q || g !== answers[at].g) return; // another pair is shown by now
    const heading = (text) => el("th", { scope: "col" }, text);
    byId("viewer-ranks").replaceChildren(
      el("thead", {}, el("tr", {}, ["row", "rank", "score"].map(heading))),
      el("tbody", {}, Page.order.map((name, i) => {
        const index = all[i] ? all[i].answers.indexOf(g) : -1;
        const rank = !all[i] ? "its file is missing" : index < 0 ? `not among ${all[i].answers.length}` : String(index + 1);
        return el("tr", { class: name === row ? "chosen" : null }, el("th", { scope: "row" }, Page.breakable(name)), el("td", {}, rank),
          el("td", {}, index < 0 ? "" : Page.score(all[i].scores[index])));
      })));
    for (const key of Object.keys(window.LINEUP_RANKS)) // only those of this query's part are kept in memory
      if (!key.endsWith(`/${Math.floor(q / QUERIES_PER_PART)}`)) delete window.LINEUP_RANKS[key];
  }

  function step(by) {
    if (!answers[at + by]) return;
    at += by;
    draw();
  }
  function stepQuery(by) {
    const list = listed ?? Selection.queries(), position = list.indexOf(q), next = list[position + by];
    if (position >= 0 && next !== undefined) open(next, row, { list: listed });
  }

  const KEYS = { ArrowLeft: [step, -1], ArrowRight: [step, 1], ArrowUp: [stepQuery, -1], ArrowDown: [stepQuery, 1] };
  dialog.addEventListener("keydown", (event) => {
    if (!KEYS[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const [move, by] = KEYS[event.key];
    move(by);
  });
  for (const button of dialog.querySelectorAll("[data-step]")) button.addEventListener("click", () => step(Number(button.dataset.step)));
  for (const button of dialog.querySelectorAll("[data-query-step]")) button.addEventListener("click", () => stepQuery(Number(button.dataset.queryStep)));
  byId("viewer-close").addEventListener("click", () => dialog.close());
  byId("viewer-save").addEventListener("click", () => Slide.save(q, [...new Set([row, ...Selection.rows()])]).then((fault) => {
    [note.textContent, note.hidden] = [fault, !fault];
  }));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside the dialog
  });
  let start = null;
  dialog.addEventListener("touchstart", (event) => {
    start = event.touches.length === 1 && !event.target.closest(".scroll") ? event.touches[0] : null;
  }, { passive: true });
  dialog.addEventListener("touchend", (event) => {
    if (!start) return;
    const { clientX, clientY } = event.changedTouches[0], x = clientX - start.clientX, y = clientY - start.clientY;
    if (Math.abs(x) >= SWIPE_PX && Math.abs(x) > 2 * Math.abs(y)) step(x < 0 ? 1 : -1);
  });

  return { open };
})();
