"use strict";
// Faults of the data that the models point at: labels they all contradict, and different labels on nearly the same picture.

(() => {
  const { el, byId, data, rows, number, pair, cards } = Page;
  const chooser = byId("alike-model");
  Page.options(chooser, Page.order.map((name) => [name, name]));

  const image = (side, place) => ({
    picture: Page.picture(side, place), label: Page.label(data.collection[side].label[place]), path: Page.path(side, place),
  });

  function mislabelled() {
    const { suspects, judges } = data.queries;
    byId("mislabelled-note").textContent = !judges.length ? "There is no row with trained weights to ask."
      : judges.length === 1 ? `Queries that ${judges[0]}, the only row, answers with another label: with one model most of these are just its mistakes.`
      : `Queries that all ${judges.length} models answer first with the same label, which is not the query's own; the surest first. Some are only hard: look before you relabel.`;
    cards(byId("mislabelled"), suspects, ([q, other, share]) => {
      const judge = judges.find((name) => rows[name]?.answers[q].length);
      const answered = judge ? image("gallery", rows[judge].answers[q][0]) : { picture: null, label: Page.label(other), path: null };
      return pair(image("queries", q), answered, `labelled ${Page.label(data.collection.queries.label[q])}, all say ${Page.label(other)}; surer than ${Math.floor(share * 100)}% of first answers`);
    });
  }

  function alike() {
    const own = rows[chooser.value], note = byId("alike-note");
    if (!own) {
      note.textContent = Page.missing.has(chooser.value) ? `rows/${chooser.value}.js ${Page.missing.get(chooser.value)}` : "loading…";
      return byId("alike").replaceChildren();
    }
    const score = { cosine: "cosine similarity (1: the same direction)", l2: "minus the squared distance (0: the same vector)" }[own.metric] ?? "score";
    note.textContent = `Query and gallery images with different labels and the highest ${score}: copies, sets of one product, or labels to mend.`;
    cards(byId("alike"), own.alike, ([q, g, value]) => pair(image("queries", q), image("gallery", g), number(value, 4)));
  }

  let drawn = "";
  Page.whenever(() => {
    if (!data.queries) return;
    const state = [...Page.order.filter((name) => rows[name]), "missing", ...Page.missing.keys()].join();
    if (state === drawn) return;
    drawn = state;
    mislabelled();
    alike();
  });
  chooser.addEventListener("change", alike);
})();
