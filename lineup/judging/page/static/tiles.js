// A picture with its mark: 1 (right), -1 (junk), null (can't tell), or undefined.
import { breakable, element } from "/shared/elements.js";
import { address } from "/static/server.js";

export const RIGHT = 1;
export const JUNK = -1;
export const UNSURE = null;
export const NAMES = new Map([[RIGHT, "right"], [JUNK, "junk"], [UNSURE, "can’t tell"]]);

export const name = (photo) => photo.label ?? photo.path.split("/").pop();

// withName: whether the label is shown; it would sway whoever judges what is right.
export function tile(photo, number, withName) {
  const item = element("li", "picture");
  item.dataset.image = photo.image_id;
  const button = element("button", "plain");
  button.type = "button";
  button.tabIndex = number === 0 ? 0 : -1;
  button.setAttribute("aria-keyshortcuts", "Space J T Z");
  const image = element("img", "");
  image.src = address(photo);
  image.alt = "";
  image.draggable = false;
  button.append(image);
  const tools = element("div", "tools");
  tools.append(
    tool("unsure", "?", "Can’t tell about this picture (T)"),
    tool("junk", "junk", "Junk: neither right nor wrong (J)"),
    tool("zoom", "⤢", "Enlarge (Z)"),
  );
  item.append(button, element("span", "mark"), tools);
  if (withName) item.append(breakable("div", "label", name(photo)));
  return item;
}

function tool(action, text, title) {
  const button = element("button", action, text);
  button.type = "button";
  button.tabIndex = -1; // by keyboard: J, T and Z on the picture
  button.title = title;
  button.setAttribute("aria-label", title);
  button.dataset.action = action;
  return button;
}

export function showMark(item, value, number, count) {
  const text = NAMES.get(value) ?? "";
  item.dataset.mark = value === UNSURE ? "unsure" : (value ?? "");
  const button = item.querySelector(".plain");
  button.setAttribute("aria-pressed", value === RIGHT);
  button.setAttribute("aria-label", `Picture ${number + 1} of ${count}${text && `, ${text}`}`);
  item.querySelector(".mark").textContent = value === RIGHT ? "✓" : text;
  item.querySelector(".junk").setAttribute("aria-pressed", value === JUNK);
  item.querySelector(".unsure").setAttribute("aria-pressed", value === UNSURE);
}
