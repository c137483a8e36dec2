// One screen at a time: a query and answers to it. An answer without a mark is saved as 0. Nothing counts before the
// server has it on its disk.
import { breakable, withCapital } from "/shared/elements.js";
import { Refused, address, ask, preload } from "/static/server.js";
import { JUNK, NAMES, RIGHT, UNSURE, name, showMark, tile } from "/static/tiles.js";
import { placeVerdict, showVerdict } from "/static/verdict.js";

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
// The more pictures, the smaller they are shown, so that a screen is seen at a glance.
const SIZES = [[1, "one"], [12, "few"], [28, "some"], [Infinity, "many"]];
const MAX_SCREENS_BACK = 20;
// A second Enter, meant for the last screen, must not save the next one before anybody has seen it.
const MS_BEFORE_SAVING = 250;

// Not randomUUID, which a page lacks that came over HTTP from another machine's name, as behind a forwarded port.
// A tab that was duplicated has the storage of the first, and needs a name of its own; one that is reloaded keeps it.
if (performance.getEntriesByType("navigation")[0]?.type !== "reload") delete sessionStorage.tab;
const tab = (sessionStorage.tab ??= crypto.getRandomValues(new Uint32Array(2)).join("-"));
// Its queries go to other tabs, so that the random order has no gap for the verdict.
addEventListener("pagehide", () => navigator.sendBeacon("/left", new Blob([JSON.stringify({ tab })], { type: "application/json" })));
const screensBack = JSON.parse(sessionStorage.screensBack ?? "[]"); // {screen, marks}, the last one saved at the end

let waiting = []; // the screens that the server has given to this tab
let screen = null; // what is shown, null at the end
let marks = new Map(); // {image_id: mark}
let steps = []; // [{number, mark}]: what the marks were before each change of this screen
let shownAt = 0;
let saving = false;
let current = 0; // number of the picture that the keyboard is at

// Screens

function receive({ screens, progress }) {
  waiting = screens;
  showProgress(progress);
  preload(screens.slice(1));
}

function showNext() {
  const stored = JSON.parse(sessionStorage.marks ?? "null");
  const next = waiting[0] ?? null;
  show(next, stored !== null && stored.query === next?.query.image_id ? stored.marks : []);
}

function show(next, nextMarks) {
  screen = next;
  marks = new Map(nextMarks);
  steps = [];
  current = 0;
  shownAt = performance.now();
  at("error").hidden = true;
  at("main").hidden = screen === null;
  at("end").hidden = screen !== null;
  placeVerdict();
  if (screen === null) return showEnd();
  const { pictures } = screen;
  showQuery();
  at("pictures").dataset.size = SIZES.find(([most]) => pictures.length <= most)[1];
  at("pictures").replaceChildren(...pictures.map((photo, number) => tile(photo, number, data.suspects)));
  pictures.forEach((_, number) => showMarkOf(number));
  showActions();
  scrollTo(0, 0);
  at("asked").scrollTop = 0; // the verdict is below the query, and may have been read
  focusPicture(0);
  at("status").textContent = at("question").textContent;
}

function showQuery() {
  const { query, pictures, same_set: sameSet } = screen;
  at("query-picture").src = address(query);
  at("query-title").textContent = name(query);
  at("query-path").replaceWith(Object.assign(breakable("span", "path", query.path), { id: "query-path" }));
  at("same-set").hidden = !sameSet;
  const question = pictures.length === 1 ? "Is this right?" : `Which of these ${pictures.length} are right?`;
  at("question").textContent = data.suspects ? "Is it right after all?" : question;
  const instruction = "Mark what answers the query. What stays unmarked is wrong.";
  at("hint").textContent = data.suspects
    ? "The labels say no, and the rows rank it first. Mark it if it answers the query."
    : data.disputed ? `People differ here. ${instruction}` : instruction;
}

function showEnd() {
  const all = data.disputed ? "All disputed answers are judged again." : "Everything is judged.";
  at("end-title").textContent = data.suspects ? "All doubtful labels are judged." : all;
  at("back").hidden = screensBack.length === 0;
  at("end").focus();
  at("status").textContent = at("end-title").textContent;
}

// Marks

const markOf = (number) => marks.get(screen.pictures[number].image_id);

function mark(number, value) {
  steps.push([{ number, mark: markOf(number) }]);
  setMarks([{ number, mark: markOf(number) === value ? undefined : value }]);
}

function markOthersRight() {
  const others = screen.pictures.map((_, number) => ({ number, mark: markOf(number) })).filter(({ mark }) => mark === undefined);
  if (others.length === 0) return;
  steps.push(others);
  setMarks(others.map(({ number }) => ({ number, mark: RIGHT })));
  at("status").textContent = `${others.length} marked as right`;
}

function setMarks(changes) {
  for (const { number, mark: value } of changes) {
    const { image_id: id } = screen.pictures[number];
    if (value === undefined) marks.delete(id);
    else marks.set(id, value);
    showMarkOf(number);
  }
  sessionStorage.marks = JSON.stringify({ query: screen.query.image_id, marks: [...marks] });
  showActions();
}

function showMarkOf(number) {
  const { pictures } = screen;
  showMark(at("pictures").children[number], markOf(number), number, pictures.length);
  if (at("zoom").open && number === current) showZoom();
}

function showActions() {
  const right = [...marks.values()].filter((value) => value === RIGHT).length;
  at("next-text").textContent = right === 0 ? (data.suspects ? "Not right, next" : "Next") : `${right} right, next`;
  at("undo").disabled = steps.length === 0 && screensBack.length === 0;
}

function undo() {
  if (saving) return;
  const step = screen === null ? undefined : steps.pop();
  if (step !== undefined) {
    setMarks(step);
    if (step.length === 1) focusPicture(step[0].number);
  } else if (screensBack.length > 0) {
    const last = screensBack.pop();
    sessionStorage.screensBack = JSON.stringify(screensBack);
    show(last.screen, last.marks);
    at("status").textContent = "Back at the last screen; save it again to change it.";
  }
}

// Saving

// The person's word on each picture; `all` is what those get that are not marked as junk or unsure.
async function save(all) {
  if (saving || screen === null || performance.now() - shownAt < MS_BEFORE_SAVING) return;
  saving = true;
  const saved = screen;
  const ids = saved.pictures.map((photo) => photo.image_id);
  const isKept = (id) => marks.has(id) && (all === undefined || marks.get(id) !== RIGHT);
  const said = new Map(ids.map((id) => [id, isKept(id) ? marks.get(id) : all === undefined ? 0 : all]));
  const body = JSON.stringify({ tab, query_id: saved.query.image_id, marks: Object.fromEntries(said) });
  try {
    receive(await ask("/judgements", { method: "POST", body, headers: { "Content-Type": "application/json" } }));
    screensBack.push({ screen: saved, marks: [...said].filter(([, value]) => value !== 0) });
    screensBack.splice(0, screensBack.length - MAX_SCREENS_BACK);
    sessionStorage.screensBack = JSON.stringify(screensBack);
    sessionStorage.removeItem("marks");
    showNext();
    if (!data.suspects) showVerdict(data.k); // of suspects, labels decide on all other pairs
  } catch (error) {
    showError(`Not saved: ${sentenceOf(error)}`);
  }
  saving = false;
}

function showError(sentence) {
  at("error").textContent = `${sentence}.`;
  at("error").hidden = false;
}

const sentenceOf = (error) => (error instanceof Refused ? error.message : String(error));

function showProgress({ judged, queries, same_judged: sameJudged, same_queries: sameQueries, pairs }) {
  const all = queries + sameQueries;
  const number = (value) => value.toLocaleString("en");
  at("progress").max = Math.max(1, all);
  at("progress").value = judged + sameJudged;
  const what = data.suspects ? "doubtful labels" : data.disputed ? "queries with disputed answers" : "queries";
  const pictures = data.disputed ? "" : `, ${number(pairs)} pictures judged`; // all of them were, before
  at("progress-text").textContent = `${number(judged + sameJudged)} of ${number(all)} ${what}${pictures}`;
  document.title = `${number(judged + sameJudged)} judged: Lineup`;
}

// The keyboard

function columns() {
  return getComputedStyle(at("pictures")).gridTemplateColumns.split(" ").length;
}

function focusPicture(number) {
  const items = at("pictures").children;
  items[current]?.querySelector(".plain").setAttribute("tabindex", "-1");
  current = Math.max(0, Math.min(items.length - 1, number));
  const button = items[current].querySelector(".plain");
  button.setAttribute("tabindex", "0");
  if (at("zoom").open) return showZoom();
  button.focus({ preventScroll: current === 0 });
}

const MOVES = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -columns(), ArrowDown: () => columns() };

function move(key) {
  const target = current + (MOVES[key]?.() ?? 0);
  if (key === "Home") focusPicture(0);
  else if (key === "End") focusPicture(screen.pictures.length - 1);
  else if (target >= 0 && target < screen.pictures.length) focusPicture(target);
}

const ON_PICTURE = {
  " ": () => mark(current, RIGHT),
  j: () => mark(current, JUNK),
  t: () => mark(current, UNSURE),
  Home: move,
  End: move,
  ...Object.fromEntries(Object.keys(MOVES).map((key) => [key, move])),
};
const ON_SCREEN = {
  ...ON_PICTURE,
  a: markOthersRight,
  z: openZoom,
  Enter: () => save(),
  n: () => save(0),
  c: () => save(UNSURE),
  u: undo,
  Backspace: undo,
};
const ENLARGED = { ...ON_PICTURE, z: closeZoom, Enter: closeZoom };

function pressed(event) {
  const undoes = event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey);
  if (!undoes && (event.ctrlKey || event.metaKey || event.altKey)) return;
  const key = undoes ? "u" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const control = event.target.closest?.("button, a, summary");
  if (control && (key === " " || (key === "Enter" && !control.matches(".picture .plain")))) return; // it presses that
  const action = (at("zoom").open ? ENLARGED : ON_SCREEN)[key];
  if (action === undefined || (screen === null && action !== undo)) return;
  event.preventDefault();
  if (!event.repeat || key in MOVES) action(key);
}

// Enlarged

function openZoom() {
  at("zoom").showModal();
  at("zoom").focus();
  showZoom();
}

function closeZoom() {
  at("zoom").close();
}

function showZoom() {
  const photo = screen.pictures[current];
  const state = NAMES.get(marks.get(photo.image_id));
  at("zoom-query").src = address(screen.query);
  at("zoom-query-path").textContent = screen.query.path;
  at("zoom-picture").src = address(photo);
  at("zoom-picture").alt = `Picture ${current + 1}`;
  at("zoom-title").textContent = `Picture ${current + 1} of ${screen.pictures.length}${state ? `: ${state}` : ""}`;
  at("zoom-path").textContent = photo.path;
}

function clicked(event) {
  const item = event.target.closest(".picture");
  if (item === null) return;
  const action = event.target.closest("[data-action]")?.dataset.action ?? "right";
  focusPicture([...at("pictures").children].indexOf(item));
  if (action === "zoom") openZoom();
  else mark(current, { right: RIGHT, junk: JUNK, unsure: UNSURE }[action]);
}

// Whoever opens the verdict or the keys by mouse goes on with the pictures: Enter saves, and does not close them again.
function opened(event) {
  const byMouse = event.detail > 0 && event.target.closest("summary") !== null;
  if (byMouse && screen !== null) at("pictures").children[current].querySelector(".plain").focus({ preventScroll: true });
}

async function start() {
  at("nothing").hidden = data.suspects; // with one picture, Enter says the same
  at("pictures").addEventListener("click", clicked);
  at("next").addEventListener("click", () => save());
  at("nothing").addEventListener("click", () => save(0));
  at("unsure").addEventListener("click", () => save(UNSURE));
  for (const id of ["undo", "back"]) at(id).addEventListener("click", undo);
  at("query-button").addEventListener("click", openZoom);
  at("zoom").addEventListener("close", () => focusPicture(current));
  addEventListener("keydown", pressed);
  addEventListener("click", opened);
  try {
    receive(await ask(`/screens?tab=${tab}`));
    showNext();
    at("keys").open = data.first && matchMedia("(min-width: 761px)").matches; // a phone has none
    if (!data.suspects) showVerdict(data.k);
  } catch (error) {
    at("main").hidden = false;
    showError(withCapital(sentenceOf(error)));
  }
  document.documentElement.dataset.loaded = "yes";
}

start();
