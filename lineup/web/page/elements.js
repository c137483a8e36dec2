// What the scripts of pages share. Names from outside become text, never markup.
export function element(tag, className, text) {
  const created = document.createElement(tag);
  created.className = className;
  if (text !== undefined) created.textContent = text;
  return created;
}

// File names and labels may be long without a space: these characters allow a line break after them.
export function breakable(tag, className, text) {
  const created = element(tag, className);
  text.split(/(?<=[_/.-])/).forEach((part) => created.append(part, document.createElement("wbr")));
  return created;
}

// A server's sentence begins in lower case; a path keeps its spelling.
export function withCapital(sentence) {
  return /^[a-z']+ /.test(sentence) ? sentence[0].toUpperCase() + sentence.slice(1) : sentence;
}
