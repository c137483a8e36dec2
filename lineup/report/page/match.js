"use strict";
// From which score on an answer is a match: how scores are distributed, the errors at a score, and their pictures.

(() => {
  const { charts, el, svg, byId, data, rows } = Page;
  const measured = charts.rows.filter((row) => row.match);
  const chooser = byId("match-row"), slider = byId("match-score");
  const own = () => measured.find((row) => row.name === chooser.value).match;
  const score = () => Number(slider.value);
  const percent = (share) => `${(share * 100).toFixed(1)}%`;

  Page.options(chooser, measured.map(({ name }) => [name, name]), measured[0].name);

  // A query's first answer, and its first wrong one: what it would get if its right images were not in the gallery.
  function firstAnswers(q) {
    const answers = Page.answers(chooser.value, q) ?? [];
    return { first: answers[0], wrong: answers.find((answer) => answer.mark === "0") };
  }

  // Queries with a match that are missed at the score, and false matches, the highest score first.
  function errors() {
    const { relevant } = data.queries, { label } = data.collection.queries, least = score();
    const missed = [], falseMatches = [];
    relevant.forEach((r, q) => {
      const { first, wrong } = firstAnswers(q);
      if (r > 0 && !(first?.mark === "1" && first.score >= least)) missed.push([q, first]);
      const counts = r > 0 ? own().stand_ins > 0 : label[q] >= 0;
      if (counts && wrong?.score >= least) falseMatches.push([q, wrong]);
    });
    const falling = ([, a], [, b]) => (b?.score ?? -Infinity) - (a?.score ?? -Infinity);
    return { missed: missed.sort(falling), falseMatches: falseMatches.sort(falling) };
  }

  const image = (side, index, words, open) => ({
    picture: Pictures.look(side, index, `${words} ${Page.label(data.collection[side].label[index])}`, open),
    label: Page.label(data.collection[side].label[index]), path: Page.path(side, index),
  });

  function card([q, answer]) {
    const open = () => Viewer.open(q, chooser.value, answer ? { shown: [answer], list: [q] } : {});
    const query = image("queries", q, "Query", open);
    if (!answer) return Page.pair(query, { picture: null, label: "no answer", path: null }, "");
    const words = { 1: "the right answer", 0: "a wrong answer" }[answer.mark] ?? "an answer of unknown label";
    return Page.pair(query, image("gallery", answer.g, "Answer", open), `${words}, score ${Page.score(answer.score)}`);
  }

  function showErrors() {
    const { mated, non_mated: nonMated, stand_ins: standIns } = own();
    byId("match-read").textContent = Page.score(score());
    if (!data.queries || !rows[chooser.value]) {
      byId("match-errors").textContent = Page.missing.has(chooser.value) ? `rows/${chooser.value}.js ${Page.missing.get(chooser.value)}` : "loading…";
      return;
    }
    const { missed, falseMatches } = errors();
    byId("match-errors").replaceChildren("At this score ", el("b", {}, `${percent(falseMatches.length / nonMated)} false matches`),
      ` (${falseMatches.length.toLocaleString("en")} of ${nonMated.toLocaleString("en")} queries without a match) and `,
      el("b", {}, `${percent(missed.length / mated)} misses`), ` (${missed.length.toLocaleString("en")} of ${mated.toLocaleString("en")} with one).`);
    byId("match-false-note").textContent = standIns ? "The first answer with another label, as if the gallery held no right image." : "The first answer, although the gallery holds no right image.";
    byId("match-missed-note").textContent = "The first answer is wrong, or right but below the score.";
    Page.cards(byId("match-false"), falseMatches, card);
    Page.cards(byId("match-missed"), missed, card);
  }

  function histogram(width) {
    const { bounds, right, non_mated: nonMated } = own().histogram, height = 240;
    const share = (counts) => counts.map((count) => count / Math.max(1, counts.reduce((a, b) => a + b, 0)));
    const shares = [["right", share(right)], ["wrong", share(nonMated)]];
    const most = Math.max(...shares.flatMap(([, values]) => values));
    const chart = Chart.axes(width, height, [bounds[0], bounds.at(-1)], [0, most || 1], { x: "score", y: "share of queries", title: `Scores of the first answers of ${chooser.value}` });
    for (const [kind, values] of shares)
      for (const [i, value] of values.entries())
        if (value) chart.root.append(svg("rect", { class: `bin ${kind}`, x: chart.x(bounds[i]), width: Math.max(1, chart.x(bounds[i + 1]) - chart.x(bounds[i])), y: chart.y(value), height: chart.bottom - chart.y(value) }));
    chart.root.append(svg("line", { class: "read", x1: chart.x(score()), x2: chart.x(score()), y1: chart.top, y2: chart.bottom }));
    return [chart.root];
  }

  function curve(width) {
    const lowest = Math.min(...measured.flatMap((row) => row.match.curve.map(([fpir]) => fpir)));
    const gutter = Chart.gutter(width, measured.map((row) => row.name)), height = Math.max(240, measured.length * Chart.LABEL_HEIGHT + 70);
    const chart = Chart.axes(width, height, [Math.min(lowest, 0.1), 1], [0, 1], { x: "false matches, share (log)", y: "misses", log: true, gutter, title: "Misses against false matches of each row" });
    const inPixels = (row) => row.match.curve.map(([fpir, fnir]) => [chart.x(fpir), chart.y(fnir)]);
    for (const row of Emphasis.drawingOrder(measured)) chart.root.append(Chart.line(row.name, inPixels(row)));
    Chart.endLabels(chart, measured.map((row) => [row.name, ...inPixels(row)[0]]), gutter);
    if (data.queries && rows[chooser.value]) {
      const { missed, falseMatches } = errors(), share = falseMatches.length / own().non_mated;
      if (share >= lowest) chart.root.append(Emphasis.of(chooser.value, svg("circle", { class: "dot", cx: chart.x(share), cy: chart.y(missed.length / own().mated), r: 5 })));
    }
    return [chart.root];
  }

  const redraw = [Chart.mount("match-histogram", histogram), Chart.mount("match-curve", curve)];

  function show() {
    showErrors();
    for (const draw of redraw) draw();
  }

  function choose(value) {
    slider.value = value;
    show();
  }

  // A row's scores have a range of their own, so the slider starts anew.
  function chooseRow() {
    const { bounds } = own().histogram, points = own().points.filter((point) => point.threshold !== null);
    [slider.min, slider.max] = [bounds[0], bounds.at(-1)];
    const percent = (target) => `${(target * 100).toLocaleString("en")}%`;
    byId("match-points").replaceChildren(...points.map(({ target, threshold }) =>
      el("button", { type: "button", click: () => choose(threshold) }, `FPIR ${percent(target)}`)));
    if (!points.length) byId("match-points").append(el("span", { class: "quiet" }, `No score of this row keeps FPIR at ${own().points.map(({ target }) => percent(target)).join(" or ")}.`));
    choose(points[0]?.threshold ?? (bounds[0] + bounds.at(-1)) / 2);
  }

  chooser.addEventListener("change", chooseRow);
  let waiting = 0;
  slider.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(show, 60);
  });
  let shown = "";
  Page.whenever(() => {
    const state = [Boolean(data.queries), Boolean(rows[chooser.value]), Page.missing.has(chooser.value)].join();
    if (state === shown) return;
    shown = state;
    show();
  });
  chooseRow();
})();
