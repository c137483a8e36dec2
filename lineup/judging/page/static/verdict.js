// What the judgements so far say about the rows: beside the query, or below the pictures on a narrow screen.
import { breakable, element } from "/shared/elements.js";
import { ask } from "/static/server.js";

const at = (id) => document.getElementById(id);
const isWide = matchMedia("(min-width: 761px)");
const AT_ONCE = 4;
let number = 0; // of the last question; a late answer to an earlier one is not shown

export function placeVerdict() {
  const beside = isWide.matches && !at("main").hidden;
  if (beside) at("asked").append(at("verdict"));
  else document.body.append(at("verdict"));
}
isWide.addEventListener("change", placeVerdict);

export async function showVerdict(k) {
  const mine = ++number;
  try {
    const { judged, queries, sentences, rows } = await ask("/verdict");
    if (mine !== number) return;
    at("verdict").hidden = sentences.length === 0;
    at("sentences").replaceChildren(...sentences.slice(0, AT_ONCE).map(withCode));
    at("more-sentences").replaceChildren(...sentences.slice(AT_ONCE).map(withCode));
    at("more").hidden = sentences.length <= AT_ONCE;
    at("more-text").textContent = `${sentences.length - AT_ONCE} more sentences`;
    at("standing-rows").replaceChildren(...rows.map(withInterval));
    at("verdict-note").textContent =
      `Precision of the first ${k} answers, by ${judged.toLocaleString("en")} of the ${queries.toLocaleString("en")} ` +
      "queries on which the rows differ. Look as often as you like: the intervals allow for it.";
  } catch {
    at("verdict").hidden = true; // saving says what is wrong
  }
}

// A sentence with row names between backquotes.
function withCode(sentence) {
  const item = document.createElement("li");
  sentence.split("`").forEach((part, index) => item.append(index % 2 ? element("code", "", part) : part));
  return item;
}

// A row of the table: its name above its interval as a bar with the mean as a mark, then both as numbers.
function withInterval({ row, mean, low, high }) {
  const line = element("tr", ""), name = element("th", "");
  const track = element("span", "track"), bar = element("span", "bar"), mark = element("span", "mean");
  name.scope = "row";
  bar.style.left = `${100 * low}%`;
  bar.style.width = `${100 * (high - low)}%`;
  mark.style.left = `${100 * mean}%`;
  track.append(bar, mark);
  name.append(breakable("code", "", row), track);
  line.append(name, element("td", "number", mean.toFixed(2)), element("td", "number", `${low.toFixed(2)} to ${high.toFixed(2)}`));
  return line;
}
