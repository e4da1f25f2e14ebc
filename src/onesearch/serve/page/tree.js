// The tree of semantic IDs, opened level by level; the way to one item is marked, and stands first at each level.

import { ask } from "./api.js";
import { make, token } from "./dom.js";
import { price, say } from "./strings.js";

const FIRST = 4, STEP = 20;

/** A tree whose root is open, and whose way leads to an item. */
export function tree(levels, title) {
  const way = new Map(levels.map((level) => [level.prefix, level]));
  const depths = levels.map((level) => level.prefix);
  const root = { prefix: "", token: "", num_items: null, category: null, keywords: [], category_share: 0, log_probability: null };
  const list = make("ul.tree", { "aria-label": say("tree") });
  list.append(node(root, { way, depths, title }, 0));
  return list;
}

function node(level, path, depth) {
  const onWay = depth === 0 || path.way.has(level.prefix);
  const isLeaf = depth === path.depths.length;
  const own = path.way.get(level.prefix);
  const children = make("ul", { hidden: true });
  const button = make(
    "button.node",
    { type: "button", "aria-expanded": "false", onclick: () => toggle(button, children, level, path, depth) },
    depth ? token(level.token) : null,
    make("span.meaning", {}, depth ? level.category ?? "–" : say("all")),
    part(depth && level.category ? level.category_share : 1),
    level.num_items === null ? null : make("small", {}, say("items", level.num_items)),
    own && own.log_probability !== null ? make("small", {}, say("chosen", own.log_probability)) : null,
  );
  const shared = level.keywords.map((keyword) =>
    make("li", {}, keyword.value, part(keyword.share)));
  const row = make(`li${onWay && depth ? ".way" : ""}`, {},
    button, shared.length ? make("ul.shared", {}, shared) : null, children);
  if (!isLeaf && depth === 0) queueMicrotask(() => toggle(button, children, level, path, depth));
  return row;
}

/** How many of the items share something, where not all do. */
const part = (share) => (share > 0.995 ? null : make("small", {}, ` ${say("ofItems", share)}`));

async function toggle(button, children, level, path, depth) {
  const open = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", String(open));
  children.hidden = !open;
  if (!open || children.childElementCount) return;
  try {
    const found = await ask("sids", { prefix: level.prefix, limit: STEP });
    if (children.childElementCount) return;
    if (depth === path.depths.length) children.append(...found.items.map((item) => leaf(item)));
    else fill(children, found, level, path, depth);
  } catch (error) {
    children.replaceChildren(make("li.note", {}, error.message));
  }
}

/** Some children, and a button for the rest. */
function fill(children, found, level, path, depth) {
  const own = path.way.get(path.depths[depth]);
  const isOnWay = own !== undefined && own.prefix.startsWith(level.prefix);
  const others = found.children.filter((child) => !isOnWay || child.prefix !== own.prefix);
  const show = (child) => node(child, path, depth + 1);
  children.append(...[...(isOnWay ? [own] : []), ...others.slice(0, FIRST)].map(show));
  const waiting = others.slice(FIRST);
  let offset = found.children.length, left = found.num_children - children.childElementCount;
  if (left <= 0) return;
  const more = make("button.quiet", { type: "button" }, say("more", left));
  const row = make("li", {}, more);
  more.addEventListener("click", async () => {
    let next = waiting.splice(0, STEP);
    if (!next.length) {
      const page = await ask("sids", { prefix: level.prefix, limit: STEP, offset });
      offset += page.children.length;
      next = page.children.filter((child) => !isOnWay || child.prefix !== own.prefix);
    }
    const rows = next.map(show);
    row.before(...rows);
    left -= rows.length;
    rows[0]?.querySelector("button")?.focus();
    if (left > 0 && rows.length) more.textContent = say("more", left);
    else row.remove();
  });
  children.append(row);
}

const leaf = (item) =>
  make("li.leaf", {}, item.title, item.price === null ? null : make("small", {}, ` ${price(item.price)}`));
