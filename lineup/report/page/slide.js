"use strict";
// A query and the first answers of some rows as one picture, for a slide. Its photos are the larger pictures, which a
// page from disk may draw, since they come in scripts; the thumbnails it may not.

const Slide = (() => {
  const { data } = Page;
  const WIDTH = 1600, MARGIN = 40, QUERY = 300, ANSWER = 184, GAP = 12, ANSWERS = 6, TEXT = 20, LINE = 26;
  const INK = "#1c1e21", QUIET = "#5d6167", COLOURS = { right: "#146c43", wrong: "#a61b1b", unknown: "#5d6167" };

  async function photo(side, index) {
    const url = await Pictures.large(side, index);
    if (!url) return null;
    const image = new Image();
    image.src = url;
    await image.decode();
    return image;
  }

  function text(context, words, x, y, width, colour = INK, weight = "400") {
    context.font = `${weight} ${TEXT}px system-ui, "Liberation Sans", sans-serif`;
    context.fillStyle = colour;
    let shown = [...words];
    if (context.measureText(words).width > width) {
      while (shown.length && context.measureText(`${shown.join("")}…`).width > width) shown.pop();
      shown.push("…");
    }
    context.fillText(shown.join(""), x, y);
  }

  function fit(context, image, x, y, side) {
    const scale = Math.min(side / image.naturalWidth, side / image.naturalHeight);
    const width = image.naturalWidth * scale, height = image.naturalHeight * scale;
    context.drawImage(image, x + (side - width) / 2, y + (side - height) / 2, width, height);
  }

  function strip(context, name, photos, y) {
    const left = MARGIN + QUERY + 40;
    text(context, name, left, y + TEXT, WIDTH - left - MARGIN, INK, "600");
    photos.forEach(({ image, answer }, i) => {
      const x = left + i * (ANSWER + GAP), [kind, words] = Page.MARKS[answer.mark], top = y + LINE + 6;
      fit(context, image, x + 6, top + 6, ANSWER - 12);
      context.strokeStyle = COLOURS[kind];
      context.lineWidth = 4;
      context.setLineDash(kind === "right" ? [] : [10, 7]);
      context.strokeRect(x + 2, top + 2, ANSWER - 4, ANSWER - 4);
      text(context, `${answer.rank} ${words}`, x, top + ANSWER + TEXT, ANSWER, COLOURS[kind], "600");
      text(context, Page.label(data.collection.gallery.label[answer.g]), x, top + ANSWER + TEXT + LINE, ANSWER, QUIET);
    });
  }

  // The picture as a canvas; null where a photo is missing.
  async function draw(q, names) {
    const { queries } = data.collection, shown = names.filter((name) => Page.answers(name, q)?.length);
    const asked = await photo("queries", q);
    const strips = await Promise.all(shown.map((name) => Promise.all(Page.answers(name, q).slice(0, ANSWERS)
      .map(async (answer) => ({ answer, image: await photo("gallery", answer.g) })))));
    if (!asked || strips.flat().some(({ image }) => !image)) return null;
    const tall = ANSWER + 3 * LINE + 26;
    const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: 2 * MARGIN + Math.max(QUERY + 3 * LINE, shown.length * tall) });
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    fit(context, asked, MARGIN, MARGIN, QUERY);
    text(context, Page.label(queries.label[q]), MARGIN, MARGIN + QUERY + LINE, QUERY, INK, "600");
    text(context, queries.paths[q].split("/").at(-1), MARGIN, MARGIN + QUERY + 2 * LINE, QUERY, QUIET);
    shown.forEach((name, i) => strip(context, name, strips[i], MARGIN + i * tall));
    return canvas;
  }

  // Saves the picture; what went wrong, or "".
  async function save(q, names) {
    const canvas = await draw(q, names);
    if (!canvas) return Pictures.missing;
    const { queries } = data.collection, label = Page.label(queries.label[q]).replace(/[^\p{L}\p{N}]+/gu, "_").slice(0, 40);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    Page.save(`query_${label}_${queries.ids[q].slice(0, 8)}.png`, blob);
    return "";
  }

  return { save, draw };
})();
