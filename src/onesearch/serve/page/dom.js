// Elements are made of text and elements, never of markup: what shoppers and catalogues say is shown as they said it.

/** `make("p.note", {lang: "en"}, "text", element)`; a property that begins with "on" listens, null is nothing. */
export function make(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Text in which some places [start, end), counted in code points, are marked. */
export function marked(text, places) {
  const characters = Array.from(text);
  const parts = [];
  let behind = 0;
  for (const [start, end] of places) {
    parts.push(characters.slice(behind, start).join(""));
    parts.push(make("mark", {}, characters.slice(start, end).join("")));
    behind = end;
  }
  return [...parts, characters.slice(behind).join("")].filter((part) => part !== "");
}

/** A SID as one chip a token; residual and product levels have a tone each. */
export const tokens = (sid) => (sid.match(/<[a-z]_\d+>/g) ?? []).map(token);
export const token = (text) => make(`code.token.${text.slice(1, 2) <= "c" ? "coarse" : "fine"}`, {}, text);
