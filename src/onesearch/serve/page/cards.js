// One hit, one card.

import { make, marked, tokens } from "./dom.js";
import { price, say } from "./strings.js";
import { tree } from "./tree.js";

/**
 * @param hit one of an answer, explained
 * @param options `best`: the score of the first hit; `place`: where the other answer has it (null: not there, undefined:
 *   there is no other); `onevent`: called with "click" or "order", null where nobody is asked for
 */
export function card(hit, { best, place, onevent }) {
  const { explanation } = hit;
  const heading = make("h3", {}, ...marked(hit.title, explanation.highlights));
  const facts = [hit.brand, hit.category.join(" › "), hit.available === false ? say("soldOut") : null].filter(Boolean);
  const matched = explanation.matched.map((keyword) =>
    make("li", {}, keyword.type ? make("small", {}, `${keyword.type} `) : null, keyword.value));
  const share = Math.exp(Math.max(hit.score - best, -8));
  const bar = make("span.bar", { "aria-hidden": "true" }, make("span"));
  bar.firstChild.style.width = `${Math.max(share * 100, 1)}%`;
  const reasons = make("div.reasons", { hidden: true });
  const why = make("button.why", { type: "button", "aria-expanded": "false", onclick: () => {
    reasons.hidden = !reasons.hidden;
    why.setAttribute("aria-expanded", String(!reasons.hidden));
    if (!reasons.childElementCount) reasons.append(tree(explanation.levels, hit.title));
  } }, say("reads"));
  return make(
    "li.card", {},
    make("div.head", {},
      make("span.rank", { "aria-hidden": "true" }, String(hit.position)),
      make("div", {}, heading, make("p.facts", {}, facts.join(" · "))),
      make("div.worth", {}, hit.price === null ? null : make("p.price", {}, price(hit.price)), moved(hit.position, place))),
    matched.length ? make("ul.matched", {}, matched) : null,
    make("div.scored", {},
      make("p.sid", { translate: "no" }, ...tokens(hit.sid)),
      make("span.score", {}, bar, make("small", {}, say("score", hit.score)))),
    make("div.foot", {}, why,
      onevent ? make("span.acts", {}, act("click", "clickOn", hit, onevent), act("order", "orderOf", hit, onevent)) : null),
    reasons);
}

const act = (kind, label, hit, onevent) =>
  make("button.quiet", { type: "button", "aria-label": say(label, hit.title), onclick: () => onevent(kind) }, say(kind));

/** How far a hit has moved from its place in the other answer. */
function moved(position, place) {
  if (place === undefined) return null;
  const by = place === null ? null : place - position;
  const [kind, text, label] =
    by === null ? ["fresh", say("isNew"), say("fresh")]
    : by > 0 ? ["up", `▲ ${by}`, say("up", by)]
    : by < 0 ? ["down", `▼ ${-by}`, say("down", -by)]
    : ["same", "=", say("same")];
  return make(`p.moved.${kind}`, { role: "img", "aria-label": label, title: label }, text);
}
