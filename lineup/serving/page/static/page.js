// The page's state is what is asked, of which model, and how many answers are shown; its address tells all but a photo.
const data = JSON.parse(document.getElementById("data").textContent);
const rows = new Map(data.rows.map((row) => [row.name, row]));
const photos = []; // asked in this tab, by number: "back" finds them again
const at = (id) => document.getElementById(id);

let state; // {model, shown, question}; question: null, {image}, {words} or {photo}
let running = null; // the search whose answer is waited for

function stateOfAddress() {
  const asked = new URLSearchParams(location.search);
  const model = rows.get(asked.get("model"))?.ready ? asked.get("model") : data.first;
  const photo = history.state?.photo;
  let question = null;
  if (asked.has("image")) question = { image: asked.get("image") };
  else if (asked.has("words")) question = { words: asked.get("words") };
  else if (photo !== undefined && photos[photo]) question = { photo };
  return { model, shown: data.shown, question };
}

function address(model, question) {
  const asked = new URLSearchParams({ model });
  if (question?.image) asked.set("image", question.image);
  if (question?.words) asked.set("words", question.words);
  return `/?${asked}`;
}

function go(change) {
  state = { ...state, shown: data.shown, ...change };
  history.pushState({ photo: state.question?.photo }, "", address(state.model, state.question));
  show();
}

async function show() {
  running?.abort();
  const mine = (running = new AbortController());
  describeModel();
  at("error").hidden = true;
  if (state.question === null) return showStart();
  showQuestion(null);
  at("results").setAttribute("aria-busy", "true");
  at("title").textContent = "Searching…";
  at("status").textContent = "";
  try {
    const answer = await search(state, mine.signal);
    if (running !== mine) return;
    showAnswer(answer);
  } catch (error) {
    if (running !== mine) return;
    showError(error instanceof Refused ? error.message : "the server doesn't answer; is `lineup serve` still running?");
  }
  at("results").setAttribute("aria-busy", "false");
}

class Refused extends Error {}

async function search({ model, shown, question }, signal) {
  const asked = new URLSearchParams({ model, k: shown });
  let sent = { signal };
  let kind = "photo";
  if (question.image) {
    kind = "image";
    asked.set("image_id", question.image);
  } else if (question.words) {
    kind = "words";
    asked.set("words", question.words);
  } else {
    sent = { signal, method: "POST", body: photos[question.photo], headers: { "Content-Type": "application/octet-stream" } };
  }
  if (sent.body && sent.body.size > data.max_bytes) {
    throw new Refused(`this picture has more than ${data.max_bytes / 2 ** 20} MB; choose a smaller one`);
  }
  const response = await fetch(`/search/${kind}?${asked}`, sent);
  const answer = await response.json();
  if (!response.ok) throw new Refused(answer.error);
  return answer;
}

function showWords() {
  at("words").value = state.question?.words ?? "";
}

function showStart() {
  at("asked").hidden = at("more").hidden = true;
  at("results").setAttribute("aria-busy", "false");
  at("title").textContent = "Start from one of these";
  at("status").textContent = "Or choose a picture above.";
  at("cards").replaceChildren(...data.starters.map((image) => card(image)));
  document.title = "Lineup search";
}

// What was asked: at once, and again with what the gallery knows of it.
function showQuestion(known) {
  const { question } = state;
  const file = photos[question.photo];
  const name = question.words ? `“${question.words}”` : file ? file.name || "the pasted picture" : (known?.label ?? "an image of the gallery");
  const picture = at("asked-picture");
  at("asked").hidden = false;
  at("asked-title").textContent = name;
  at("asked-path").textContent = known ? known.paths.join(" | ") : "";
  picture.hidden = !question.image && !file;
  picture.alt = `Searched with: ${name}`;
  const source = question.image ? `/images/${encodeURIComponent(question.image)}` : file ? pictureOf(file) : "";
  if (source && picture.getAttribute("src") !== source) picture.src = source;
  document.title = `${name}: Lineup search`;
}

const addresses = new WeakMap();
function pictureOf(file) {
  if (!addresses.has(file)) addresses.set(file, URL.createObjectURL(file));
  return addresses.get(file);
}

function showAnswer(answer) {
  showQuestion(answer.asked);
  const { answers, asked, metric } = answer;
  const alike = asked?.label != null ? answers.filter((image) => image.label === asked.label && !image.same_file).length : null;
  const labels = alike === null ? "" : ` ${alike} of them share its label.`;
  at("title").textContent = answers.length === 1 ? "The nearest image" : `The ${answers.length} nearest images`;
  const copies = answer.copies_left_out ? ` Left out: ${answer.copies_left_out} more with the same pixels.` : "";
  at("status").textContent = `Found in ${Math.max(1, Math.round(answer.embed_ms + answer.search_ms))} ms.${labels}${copies} Score: ${SCORES[metric]}.`;
  at("cards").replaceChildren(...answers.map((image, place) => card(image, place + 1)));
  at("more").hidden = answers.length < state.shown || state.shown >= data.most_shown;
}

function showError(sentence) {
  at("title").textContent = "No answer";
  at("status").textContent = "";
  const begins = /^[a-z']+ /.test(sentence) ? sentence[0].toUpperCase() : sentence[0]; // a path stays as it is written
  at("error").textContent = `${begins}${sentence.slice(1)}.`;
  at("error").hidden = false;
  at("cards").replaceChildren();
  at("more").hidden = true;
}

function element(name, kind, text) {
  const made = document.createElement(name);
  made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Names of files and labels may be long without a space: lines may end after these characters.
function breakable(name, kind, text) {
  const made = element(name, kind);
  text.split(/(?<=[_/.-])/).forEach((part) => made.append(part, document.createElement("wbr")));
  return made;
}

// A gallery image as a link that searches on from it; also in a new tab.
function card(image, rank) {
  const item = document.createElement("li");
  const link = element("a", "card");
  const picture = document.createElement("img");
  link.href = address(state.model, { image: image.image_id });
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
  if (image.same_file) link.append(element("span", "note", "the very same file"));
  const more = image.paths.length > 1 ? ` and ${image.paths.length - 1} more` : "";
  const path = breakable("span", "path", image.paths[0] + more);
  path.title = image.paths.join("\n");
  link.append(path);
  item.append(link);
  return item;
}

const SCORES = {
  cosine: "cosine similarity, 1 is the same direction",
  l2: "minus the squared distance, 0 is the same vector",
  reciprocal_rank_fusion: "sum of the reciprocal ranks in both rankings",
  score_fusion: "weighted sum of both rankings' normalised scores",
  k_reciprocal: "minus the k-reciprocal distance, 0 shares every neighbour",
};
const score = (value) => (Math.abs(value) < 10 ? value.toFixed(3) : value.toPrecision(4));

function describeModel() {
  const row = rows.get(state.model);
  at("model").value = state.model;
  at("random").hidden = !row.random;
  at("words-form").hidden = !row.text;
  at("no-text").hidden = row.text;
  const others = data.rows.filter((other) => other.text).map((other) => other.name);
  const way = others.length ? `choose ${others.join(" or ")} to search with words` : "words need a row with a text tower, as CLIP has one";
  at("no-text").textContent = `${row.name} knows pictures only; ${way}.`;
  at("made-of").hidden = !row.made_of;
  at("made-of").textContent = `${row.name}: ${row.made_of}, as for the pipeline's queries.`;
}

function askPhoto(file) {
  if (!file) return;
  photos.push(file);
  go({ question: { photo: photos.length - 1 } });
}

function start() {
  for (const row of data.rows) {
    const option = new Option(row.ready ? row.name : `${row.name} (not computed here)`, row.name);
    option.disabled = !row.ready;
    option.title = row.fault;
    at(row.made_of ? "refinements" : "models").append(option);
  }
  at("refinements").hidden = !data.rows.some((row) => row.made_of);
  const absent = data.rows.filter((row) => !row.ready).map((row) => row.name);
  at("absent").hidden = absent.length === 0;
  at("absent").title = data.rows.map((row) => row.fault).filter(Boolean).join("\n");
  at("absent").textContent = `Not computed here: ${absent.join(", ")}. Run dvc repro, or dvc pull, and load this page again.`;
  at("words").maxLength = data.max_characters;
  at("model").addEventListener("change", () => go({ model: at("model").value }));
  at("file").addEventListener("change", () => {
    askPhoto(at("file").files[0]);
    at("file").value = ""; // the same file may be chosen again
  });
  at("words-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = at("words").value.trim();
    if (words) go({ question: { words } });
  });
  at("cards").addEventListener("click", (event) => {
    const link = event.target.closest("a.card");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ question: { image: link.dataset.image } });
    at("results").focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  at("more").addEventListener("click", () => {
    state.shown = Math.min(data.most_shown, state.shown * 2);
    show();
  });
  at("asked-picture").addEventListener("error", () => (at("asked-picture").hidden = true)); // TIFF, say: browsers don't show it
  takeDropsAndPastes();
  addEventListener("popstate", () => {
    state = stateOfAddress();
    showWords();
    show();
  });
  state = stateOfAddress();
  showWords();
  show();
}

function takeDropsAndPastes() {
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
    askPhoto(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (file) askPhoto(file);
  });
}

start();
