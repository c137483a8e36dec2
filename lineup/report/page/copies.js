"use strict";
// Test photos that look like a training photo, the most alike first, for a person to judge.

(() => {
  const { el, byId, charts, matches, number, pair, cards } = Page;
  if (!charts.matched.length) return;
  const chooser = byId("copies-model"), sameOnly = byId("copies-same");
  Page.options(chooser, charts.matched.map((name) => [name, name]));

  function side(part, { id, label, paths }) {
    const source = part === "test" ? `thumbnails/${id}.jpg` : `near_copies/${chooser.value}/${id}.jpg`;
    const picture = el("img", { src: source, alt: paths.join(" | "), title: paths.join("\n"), loading: "lazy", decoding: "async" });
    return { picture, label: label ?? "no label", path: Page.files(paths) };
  }

  function draw() {
    const own = matches[chooser.value];
    byId("copies-part").hidden = Object.values(matches).every((match) => match.train === 0) && Object.keys(matches).length > 0;
    if (!own) {
      byId("copies-note").textContent = `near_copies/${chooser.value} is loading, or missing.`;
      return;
    }
    const same = own.pairs.filter((match) => match.agreement >= own.same);
    const count = (value) => value.toLocaleString("en");
    byId("copies-note").textContent = `On the left are the ${count(own.pairs.length)} test photos that come nearest to one of the ${count(own.train)} training photos, `
      + `on the right that training photo. Nearness is cosine similarity; half of all test photos come no nearer than ${number(own.typical, 2)}. In ${count(same.length)} `
      + `of these pairs the pixels agree as well (correlation of ${own.same} or more, perhaps with a crop): they are copies, or icons and drawings of one template. `
      + "A model that was trained on the right photo is scored too well on the left one. Pairs with equal bytes or pixels are in the table below.";
    cards(byId("copies"), sameOnly.checked ? same : own.pairs, (match) => pair(
      side("test", match.test), side("train", match.train),
      [match.agreement >= own.same ? el("b", { class: "copy" }, "⚠ same picture? ") : null,
        `cosine ${number(match.cosine, 4)}, pixels ${number(match.agreement, 2)}`]));
  }

  let drawnState = "";
  Page.whenever(() => {
    const state = Object.keys(matches).join();
    if (state === drawnState) return;
    drawnState = state;
    draw();
  });
  chooser.addEventListener("change", draw);
  sameOnly.addEventListener("change", draw);
})();
