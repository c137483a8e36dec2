"use strict";
// Photos that open when they are clicked, and their larger pictures, which come in scripts, a few in each.

const Pictures = (() => {
  const { el, data } = Page;
  const DIGITS_PER_SCRIPT = 3, MOST_HELD = 80;
  const held = new Map(), coming = new Map(); // id -> data URL; script -> its pictures

  function script(name) {
    if (!coming.has(name)) {
      coming.set(name, Page.load(`pictures/${name}.js`).then(() => {
        const all = window.LINEUP_PICTURES ?? {};
        window.LINEUP_PICTURES = {};
        coming.delete(name);
        return all;
      }));
    }
    return coming.get(name);
  }

  // The data URL of an image's larger picture; undefined where its script is missing.
  async function large(side, index) {
    const id = data.collection[side].ids[index];
    const url = held.get(id) ?? (await script(id.slice(0, DIGITS_PER_SCRIPT)))[id];
    held.delete(id);
    if (url) held.set(id, url); // the last one used comes last
    while (held.size > MOST_HELD) held.delete(held.keys().next().value);
    return url;
  }

  // A photo as a button; `open` shows it large.
  function look(side, index, words, open) {
    const picture = Page.picture(side, index);
    picture.alt = "";
    return el("button", { type: "button", class: "look", "aria-label": `${words}, show large`, click: open }, picture);
  }

  return { large, look, missing: "The larger pictures are missing: run dvc pull data/report/pictures" };
})();
