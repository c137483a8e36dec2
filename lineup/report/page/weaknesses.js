"use strict";
// Where the best row fails, in one place: how often, in which groups, for which labels, and what it takes them for.

(() => {
  const { el, byId, data, number } = Page, { signed, chance, isReal } = Differences;
  const EACH = 3;
  const [best] = Page.charts.rows.filter((row) => !row.random).map((row) => row.name);
  const queriesOf = (count) => `${count.toLocaleString("en")} ${count === 1 ? "query" : "queries"}`;

  // A card: what it is about, its lines, and the section that has the rest.
  const card = (title, lines, section, words) => el("article", { class: "card" }, el("h3", {}, title), lines, el("p", {}, el("a", { href: `#${section}` }, words)));
  const list = (items) => el("ul", { class: "plain" }, items.map((item) => el("li", {}, item)));
  const button = (words, called, show) => el("button", { type: "button", class: "link", "aria-label": called, click: show }, words);

  function byRank() {
    const scored = data.queries.relevant.flatMap((r, q) => (r > 0 ? [q] : []));
    const places = Object.entries(Selection.PLACES).filter(([place]) => place !== "a-alike");
    return card("First right answer", list(places.map(([place, { words }]) => {
      const count = scored.filter((q) => Selection.fails(place, best, q)).length;
      return [button(words, `${words}, show the queries`, () => Selection.only({ a: best, show: place })), ` ${count.toLocaleString("en")} (${number((100 * count) / scored.length, 1)}%)`];
    })), "failures", "Every row");
  }

  // The groups below the mean, the lowest first: those that are more than chance, else the lowest ones.
  function byGroup() {
    if (!data.slices) return null;
    const { attributes, rows } = data.slices, { MEAN, TO_MEAN, TO_MEAN_P } = Page.GROUP;
    const below = attributes.flatMap(({ name, groups, queries }, attribute) => groups.map((group, i) => ({ called: `${name}: ${group}`, figures: rows[best][attribute][i], queries: queries[i] })))
      .filter(({ figures }) => figures[TO_MEAN] < 0 && figures[TO_MEAN_P] !== null).sort((a, b) => a.figures[TO_MEAN] - b.figures[TO_MEAN]);
    const worse = below.filter(({ figures }) => isReal(figures[TO_MEAN_P]));
    const line = ({ called, figures, queries }) => [button(called, `${called}, show its queries`, () => Page.openSlice(called, best)),
      ` ${number(figures[MEAN], 3)} `, el("span", { class: isReal(figures[TO_MEAN_P]) ? "below" : "quiet", title: chance(figures[TO_MEAN_P]) }, signed(figures[TO_MEAN])), ` ${queriesOf(queries)}`];
    const none = worse.length ? null : el("p", {}, "No group is below the mean by more than chance.", below.length ? " The lowest:" : "");
    return card("Hardest groups", [none, list((worse.length ? worse : below).slice(0, EACH).map(line))],
      "slices", worse.length > EACH ? `Every group, ${worse.length - EACH} more below the mean` : "Every group");
  }

  function byLabel() {
    const { labels, queries, rows } = data.queries.weak, { mean } = rows[best];
    if (!byId("labels") || !labels.length) return null;
    const order = labels.map((_, i) => i).sort((a, b) => mean[a] - mean[b] || queries[b] - queries[a] || a - b);
    const zero = mean.filter((value) => value === 0).length;
    const line = (i) => [button(Page.label(labels[i]), `${Page.label(labels[i])}, show its queries`, () => Page.openLabel(Page.label(labels[i]), best)), ` ${number(mean[i], 3)}, ${queriesOf(queries[i])}`];
    return card("Weakest labels", [list(order.slice(0, EACH).map(line)), zero ? el("p", { class: "quiet" }, `${zero.toLocaleString("en")} of ${labels.length.toLocaleString("en")} are at 0.`) : null], "labels", "Every label");
  }

  function byConfusion() {
    const own = data.queries.confusions?.[best];
    if (!byId("labels") || !own?.labels.length) return null;
    const pairs = own.cells.filter(([label, answered]) => label !== answered).sort((a, b) => b[2] - a[2]).slice(0, EACH);
    const line = ([label, answered, count]) => [el("span", { class: "confused" }, Page.ofLabel(label), Page.ofLabel(answered)),
      el("span", {}, button(Page.label(label), `${Page.label(label)}, show its queries`, () => Page.openLabel(Page.label(label), best)), ` answered with ${Page.label(answered)}, ${count.toLocaleString("en")}×`)];
    return card("Most confused", el("ul", { class: "plain" }, pairs.map((pair) => el("li", { class: "pair" }, line(pair)))), "confusions-title", "Every pair");
  }

  let drawn = false;
  Page.whenever(() => {
    if (drawn || !data.queries || !best || !data.queries.rows[best]) return;
    drawn = true;
    byId("weaknesses-cards").replaceChildren(...[byRank(), byGroup(), byLabel(), byConfusion()].filter(Boolean));
  });
})();
