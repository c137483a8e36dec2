"use strict";
// When the report was made, and the queries on which the best row and the runner-up differ most.

(() => {
  const { el, byId, charts, data, rows } = Page;
  const EACH = 3;

  // Beside the page may lie when it was made. It counts only for this very page: see lineup/report/made.py.
  async function made() {
    await Page.load("made.js");
    const own = window.LINEUP_MADE?.[document.documentElement.dataset.page];
    if (!own) return;
    const project = byId("made-project");
    project.lastElementChild.textContent = own.project;
    project.hidden = false;
    const { commit } = own, most = 3;
    const names = commit?.changed.slice(0, most).join(", "), more = (commit?.changed.length ?? 0) - most;
    byId("made").replaceChildren(`${own.time}`, ...(commit ? [" from commit ", el("code", {}, commit.id.slice(0, 10)),
      commit.changed.length ? ` with changes to ${names}${more > 0 ? ` and ${more} more` : ""}` : "", "."] : ["."]));
  }

  // How many queries `a` answers rightly at once, and `b` does not.
  function onlyRight(a, b) {
    const { relevant, rows: figures } = data.queries;
    return relevant.reduce((sum, r, q) => sum + (r > 0 && figures[a].first[q] === 1 && figures[b].first[q] !== 1), 0);
  }

  // The queries on which `a` is furthest ahead of `b`, of different labels; first those that only `a` answers rightly at once.
  function furthest(a, b) {
    const { relevant, rows: figures } = data.queries, { label } = data.collection.queries;
    const lead = (q) => (figures[a].first[q] === 1 && figures[b].first[q] !== 1 ? 1 : 0) + figures[a].map_at_r[q] - figures[b].map_at_r[q];
    const differs = (q) => (figures[a].first[q] === 1) !== (figures[b].first[q] === 1);
    const better = relevant.map((_, q) => q).filter((q) => relevant[q] > 0 && figures[a].map_at_r[q] > figures[b].map_at_r[q]);
    // Pictures of two right answers would not show what differs, so such queries are taken only if there are no others.
    const ahead = better.some(differs) ? better.filter(differs) : better;
    ahead.sort((x, y) => lead(y) - lead(x) || x - y);
    const seen = new Set();
    return ahead.filter((q) => label[q] < 0 || (!seen.has(label[q]) && seen.add(label[q]))).slice(0, EACH);
  }

  function example(q, best, other, list) {
    const { queries, gallery } = data.collection, label = Page.label(queries.label[q]);
    const first = (name) => {
      const [answer] = Page.answers(name, q);
      if (!answer) return el("figure", {}, el("figcaption", {}, `${name} has no answer`));
      const [kind, words] = Page.MARKS[answer.mark];
      return el("figure", { class: kind }, Pictures.look("gallery", answer.g, `First answer of ${name}, ${words.slice(2)}`, () => Viewer.open(q, name, { list })),
        el("figcaption", {}, el("span", { class: "mark" }, words), el("span", { class: "name", title: name }, name), el("span", { class: "name quiet" }, Page.label(gallery.label[answer.g]))));
    };
    return el("article", { class: "example" },
      el("figure", { class: "unmarked" }, Pictures.look("queries", q, `Query ${label}`, () => Viewer.open(q, best, { list })), el("figcaption", {}, el("span", { class: "quiet" }, "query"), el("b", { class: "name", title: label }, label))),
      first(best), first(other));
  }

  let drawn = false;
  function draw() {
    const box = byId("examples"), [best, other] = charts.rows.filter((row) => !row.random).map((row) => row.name);
    if (drawn || !box || !other || !data.queries || !rows[best] || !rows[other]) return;
    drawn = true;
    byId("examples-other").textContent = other;
    const group = (words, [row, beaten], queries) => [el("h3", {}, el("code", {}, best), words, el("span", { class: "quiet" }, ` ${onlyRight(row, beaten).toLocaleString("en")} queries on which only `, row === best ? "its first answer" : ["the first answer of ", el("code", {}, row)], " is right")), queries.length
      ? el("div", { class: "examples" }, queries.map((q) => example(q, best, other, queries))) : el("p", {}, "None.")];
    byId("examples-list").replaceChildren(...group(" wins:", [best, other], furthest(best, other)), ...group(" loses:", [other, best], furthest(other, best)));
    box.hidden = false;
  }

  made();
  Page.whenever(draw);
})();
