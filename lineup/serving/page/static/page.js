import { breakable, element, withCapital } from "/shared/elements.js";

// The page's state is the query, the row that is searched and the number of results. Its address holds them all, except
// for the number and a photo.
const data = JSON.parse(document.getElementById("data").textContent);
const rows = new Map(data.rows.map((row) => [row.name, row]));
const photos = []; // that were searched with in this tab, by number, so that "back" finds them again
const at = (id) => document.getElementById(id);

let state; // {row, count, query}; query: null, {image}, {words} or {photo}
let running = null; // the AbortController of the search that is under way

function stateOfAddress() {
  const parameters = new URLSearchParams(location.search);
  const row = rows.get(parameters.get("row"))?.ready ? parameters.get("row") : data.first;
  const photo = history.state?.photo;
  let query = null;
  if (parameters.has("image")) query = { image: parameters.get("image") };
  else if (parameters.has("words")) query = { words: parameters.get("words") };
  else if (photo !== undefined && photos[photo]) query = { photo };
  return { row, count: data.default_results, query };
}

function address(row, query) {
  const parameters = new URLSearchParams({ row });
  if (query?.image) parameters.set("image", query.image);
  if (query?.words) parameters.set("words", query.words);
  return `/?${parameters}`;
}

function go(change) {
  state = { ...state, count: data.default_results, ...change };
  history.pushState({ photo: state.query?.photo }, "", address(state.row, state.query));
  show();
}

async function show() {
  running?.abort();
  const controller = (running = new AbortController());
  describeRow();
  at("error").hidden = true;
  if (state.query === null) return showStart();
  showQuery(null);
  at("results").setAttribute("aria-busy", "true");
  at("title").textContent = "Searching…";
  at("status").textContent = "";
  try {
    const response = await search(state, controller.signal);
    if (running !== controller) return;
    showResults(response);
  } catch (error) {
    if (running !== controller) return;
    showError(error instanceof Refused ? error.message : "the server does not respond; is `lineup serve` still running?");
  }
  at("results").setAttribute("aria-busy", "false");
}

class Refused extends Error {}

async function search({ row, count, query }, signal) {
  const parameters = new URLSearchParams({ row, k: count });
  let request = { signal };
  let kind = "photo";
  if (query.image) {
    kind = "image";
    parameters.set("image_id", query.image);
  } else if (query.words) {
    kind = "words";
    parameters.set("words", query.words);
  } else {
    request = { signal, method: "POST", body: photos[query.photo], headers: { "Content-Type": "application/octet-stream" } };
  }
  if (request.body && request.body.size > data.max_bytes) {
    throw new Refused(`this picture has more than ${data.max_bytes / 2 ** 20} MB; choose a smaller one`);
  }
  const response = await fetch(`/search/${kind}?${parameters}`, request);
  const content = await response.json();
  if (!response.ok) throw new Refused(content.error);
  return content;
}

function showWords() {
  at("words").value = state.query?.words ?? "";
}

function showStart() {
  at("query").hidden = at("more").hidden = true;
  at("results").setAttribute("aria-busy", "false");
  at("title").textContent = "Start from one of these";
  at("status").textContent = "Or choose a picture above.";
  at("cards").replaceChildren(...data.starters.map((image) => card(image)));
  document.title = "Lineup search";
}

// Shows the query: at once, and again with its gallery image, if it is one.
function showQuery(image) {
  const { query } = state;
  const file = photos[query.photo];
  const name = query.words ? `“${query.words}”` : file ? file.name || "the pasted picture" : (image?.label ?? "an image of the gallery");
  const picture = at("query-picture");
  at("query").hidden = false;
  at("query-title").textContent = name;
  at("query-path").textContent = image ? image.paths.join(" | ") : "";
  picture.hidden = !query.image && !file;
  picture.alt = `Searched with: ${name}`;
  const source = query.image ? `/images/${encodeURIComponent(query.image)}` : file ? pictureOf(file) : "";
  if (source && picture.getAttribute("src") !== source) picture.src = source;
  document.title = `${name}: Lineup search`;
}

const addresses = new WeakMap();
function pictureOf(file) {
  if (!addresses.has(file)) addresses.set(file, URL.createObjectURL(file));
  return addresses.get(file);
}

function showResults(response) {
  const { results, query_image: image } = response;
  showQuery(image);
  const alike = image?.label != null ? results.filter((result) => result.label === image.label && !result.same_file).length : null;
  const labels = alike === null ? "" : ` ${alike} of them share its label.`;
  at("title").textContent = titleOf(response);
  const copies = response.excluded_copies ? ` Left out: ${response.excluded_copies} more with the same pixels.` : "";
  const milliseconds = Math.max(1, Math.round(response.embed_ms + response.search_ms));
  at("status").textContent = `Found in ${milliseconds} ms.${labels}${copies} Score: ${response.score_meaning}.`;
  at("cards").replaceChildren(...results.map((result, index) => card(result, index + 1)));
  at("more").hidden = results.length < state.count || state.count >= data.max_results;
}

function titleOf({ results, threshold, best_score: best }) {
  if (results.length === 1) return "The nearest image";
  if (results.length || threshold === null) return `The ${results.length} nearest images`;
  return best === null ? "No match" : `No match: the best score is ${score(best)} < ${score(threshold)}`;
}

function showError(sentence) {
  at("title").textContent = "No results";
  at("status").textContent = "";
  at("error").textContent = `${withCapital(sentence)}.`;
  at("error").hidden = false;
  at("cards").replaceChildren();
  at("more").hidden = true;
}

// A gallery image as a link that searches with it, also in a new tab.
function card(image, rank) {
  const item = document.createElement("li");
  const link = element("a", "card");
  const picture = document.createElement("img");
  link.href = address(state.row, { image: image.image_id });
  link.dataset.image = image.image_id;
  picture.loading = "lazy";
  picture.src = `/images/${image.image_id}`;
  picture.alt = image.label === null ? `Image ${image.paths[0]}` : `Image of ${image.label}`;
  link.append(picture);
  if (rank !== undefined) {
    const figures = element("span", "figures");
    figures.append(element("span", "rank", `#${rank}`), element("span", "score", score(image.score)));
    link.append(figures);
  }
  link.append(image.label === null ? element("span", "label unlabelled", "no label") : breakable("span", "label", image.label));
  if (image.same_file) link.append(element("span", "note", "the same file"));
  const more = image.paths.length > 1 ? ` and ${image.paths.length - 1} more` : "";
  const path = breakable("span", "path", image.paths[0] + more);
  path.title = image.paths.join("\n");
  link.append(path);
  item.append(link);
  return item;
}

const score = (value) => (Math.abs(value) < 10 ? value.toFixed(3) : value.toPrecision(4));

function describeRow() {
  const row = rows.get(state.row);
  at("row").value = state.row;
  at("random").hidden = !row.random;
  at("words-form").hidden = !row.text;
  at("no-text").hidden = row.text;
  const others = data.rows.filter((other) => other.text).map((other) => other.name);
  const hint = others.length ? `choose ${others.join(" or ")} to search with words` : "words need a row with a text tower, such as CLIP's";
  at("no-text").textContent = `${row.name} can be searched with pictures only; ${hint}.`;
  at("made-of").hidden = !row.made_of;
  at("made-of").textContent = `${row.name}: ${row.made_of}, as in the pipeline.`;
}

function searchWithFile(file) {
  if (!file) return;
  photos.push(file);
  go({ query: { photo: photos.length - 1 } });
}

function start() {
  for (const row of data.rows) {
    const option = new Option(row.ready ? row.name : `${row.name} (not computed here)`, row.name);
    option.disabled = !row.ready;
    option.title = row.fault;
    at(row.made_of ? "refinements" : "models").append(option);
  }
  at("refinements").hidden = !data.rows.some((row) => row.made_of);
  const notReady = data.rows.filter((row) => !row.ready).map((row) => row.name);
  at("not-ready").hidden = notReady.length === 0;
  at("not-ready").title = data.rows.map((row) => row.fault).filter(Boolean).join("\n");
  at("not-ready").textContent = `Not computed here: ${notReady.join(", ")}. Run dvc repro, or dvc pull, and reload this page.`;
  at("words").maxLength = data.max_characters;
  at("row").addEventListener("change", () => go({ row: at("row").value }));
  at("file").addEventListener("change", () => {
    searchWithFile(at("file").files[0]);
    at("file").value = ""; // so that choosing the same file again is a change
  });
  at("words-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = at("words").value.trim();
    if (words) go({ query: { words } });
  });
  at("cards").addEventListener("click", (event) => {
    const link = event.target.closest("a.card");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ query: { image: link.dataset.image } });
    at("results").focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  at("more").addEventListener("click", () => {
    state.count = Math.min(data.max_results, state.count * 2);
    show();
  });
  at("query-picture").addEventListener("error", () => (at("query-picture").hidden = true)); // such as TIFF, which browsers do not show
  listenForDropsAndPastes();
  addEventListener("popstate", () => {
    state = stateOfAddress();
    showWords();
    show();
  });
  state = stateOfAddress();
  showWords();
  show();
}

function listenForDropsAndPastes() {
  const holdsFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    at("veil").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) at("veil").hidden = true;
  });
  addEventListener("drop", (event) => {
    at("veil").hidden = true;
    if (!holdsFile(event)) return;
    event.preventDefault();
    searchWithFile(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (file) searchWithFile(file);
  });
}

start();
