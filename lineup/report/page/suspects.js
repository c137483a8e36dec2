"use strict";
// Likely faults of the data: labels that the best rows contradict, and different labels on nearly the same picture.

(() => {
  const { el, byId, data, rows, number, pair, cards } = Page;
  const chooser = byId("alike-model");
  Page.options(chooser, Page.order.map((name) => [name, name]));

  // A photo of a pair; a click shows the pair large.
  const image = (side, index, words, open) => ({
    picture: Pictures.look(side, index, `${words} ${Page.label(data.collection[side].label[index])}`, open),
    label: Page.label(data.collection[side].label[index]), path: Page.path(side, index),
  });

  // A row that answers the query with this label, and whose file is there.
  const answerer = ([q, other]) => data.queries.judges.find((name) => data.collection.gallery.label[rows[name]?.answers[q][0]] === other);
  // Where photos are queries and gallery images at once, two of them make one pair, not two.
  function once(suspects, judgeOf) {
    const { queries, gallery } = data.collection, seen = new Set();
    return suspects.filter((suspect) => {
      const judge = judgeOf(suspect);
      if (!judge) return true;
      const pairOfIds = [queries.ids[suspect[0]], gallery.ids[rows[judge].answers[suspect[0]][0]]].sort().join();
      return !seen.has(pairOfIds) && seen.add(pairOfIds);
    });
  }

  function mislabelled() {
    const { suspects, judges } = data.queries;
    byId("mislabelled-note").textContent = !judges.length ? "No row has trained weights, so none can question a label."
      : judges.length === 1 ? `Queries that ${judges[0]}, the only row, answers with another label. With one model, most of these are simply its mistakes.`
      : `Queries for which most of ${judges.join(", ")} (the best row of each model) rank the same label first, and it is not the query's own; those on which all agree come first, and of these the most confident. Some queries are merely hard: look before you relabel.`;
    const listed = once(suspects, answerer), list = listed.map(([q]) => q);
    cards(byId("mislabelled"), listed, ([q, other, share, votes]) => {
      const judge = answerer([q, other]), open = () => Viewer.open(q, judge, { list });
      const answered = judge ? image("gallery", rows[judge].answers[q][0], "Answer", open) : { picture: null, label: Page.label(other), path: null };
      const who = votes === judges.length ? `All ${votes} agree` : `${votes} of ${judges.length} agree`;
      return pair(image("queries", q, "Query", open), answered, [el("b", {}, `${who}: `), `${Page.label(other)}, not ${Page.label(data.collection.queries.label[q])}; on average more confident than ${Math.floor(share * 100)}% of their first answers`]);
    });
  }

  function alike() {
    const own = rows[chooser.value], note = byId("alike-note");
    if (!own) {
      note.textContent = Page.missing.has(chooser.value) ? `rows/${chooser.value}.js ${Page.missing.get(chooser.value)}` : "loading…";
      return byId("alike").replaceChildren();
    }
    const score = { cosine: "cosine similarity (1: the same direction)", l2: "minus the squared distance (0: the same vector)" }[own.metric] ?? "score";
    note.textContent = `Query and gallery images with different labels and the highest ${score}: copies, sets of one product, or wrong labels.`;
    cards(byId("alike"), own.alike, ([q, g, value]) => {
      const open = () => Viewer.open(q, chooser.value, { shown: [{ g, score: value, mark: "0", rank: null }], list: [q] });
      return pair(image("queries", q, "Query", open), image("gallery", g, "Image", open), number(value, 4));
    });
  }

  let drawnState = "";
  Page.whenever(() => {
    if (!data.queries) return;
    const state = [...Page.order.filter((name) => rows[name]), "missing", ...Page.missing.keys()].join();
    if (state === drawnState) return;
    drawnState = state;
    mislabelled();
    alike();
  });
  chooser.addEventListener("change", alike);
})();
