// One hit, one card.

import { make, marked, tokens } from "./dom.js";
import { price, say } from "./strings.js";
import { tree } from "./tree.js";

/**
 * @param hit one of an answer, explained
 * @param options `scale`: how long the bar of a score is; `parts`: names of what a re-sorted score is made of, null where
 *   it is the log-probability; `place`: where the other answer has it (null: not there, undefined: there is no other);
 *   `onevent`: called with "click" or "order", null where nobody is asked for
 */
export function card(hit, { scale, parts, place, onevent }) {
  const { explanation } = hit;
  const heading = make("h3", {}, ...marked(hit.title, explanation.highlights));
  const facts = [hit.brand, hit.category.join(" › "), hit.available === false ? say("soldOut") : null].filter(Boolean);
  const matched = explanation.matched.map((keyword) =>
    make("li", {}, keyword.type ? make("small", {}, `${keyword.type} `) : null, keyword.value));
  const bar = make("span.bar", { "aria-hidden": "true" }, make("span"));
  bar.firstChild.style.width = `${Math.max(scale(hit.score) * 100, 1)}%`;
  const judged = parts?.map((name) => make("li", {}, make("small", {}, say("part", name, explanation.score_parts[name]))));
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
      make("span.score", {}, bar, make("small", {}, say(parts ? "score" : "log_p", hit.score)))),
    judged ? make("ul.parts", {}, judged) : null,
    make("div.foot", {}, why,
      onevent ? make("span.acts", {}, act("click", "clickOn", hit, onevent), act("order", "orderOf", hit, onevent)) : null),
    reasons);
}

/**
 * How long the bars of an answer's scores are, 0 to 1. As generated: the probability beside that of the first hit.
 * Re-sorted: from 0 to the first hit's score, or from the lowest one where that is below 0.
 */
export function scaleOf({ hits, reranked }) {
  const scores = hits.map((hit) => hit.score), best = scores[0];
  if (!reranked) return (score) => Math.exp(score - best);
  const zero = Math.min(0, ...scores);
  return (score) => (best > zero ? (score - zero) / (best - zero) : 1);
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
