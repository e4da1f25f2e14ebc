// A column: whose search, which stage, what is known of them, and the answer.

import { ask, Refused } from "./api.js";
import { card, scaleOf } from "./cards.js";
import { make } from "./dom.js";
import { price, say } from "./strings.js";

const K = 10;
const YOU = "onesearch-you";

/** A name for whoever sits here, for this tab; only the service's file of events ever sees it. */
export function you() {
  const name = sessionStorage.getItem(YOU) ?? `visitor-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  sessionStorage.setItem(YOU, name);
  return name;
}

/** What the service does where nothing is chosen. */
export const own = (health) => ({ user: "", stage: health.stage, sort: health.rerank ? "reward" : "generated" });

export class Column {
  /**
   * @param side "left" or "right"
   * @param chosen `{user, stage, sort}`, "" for nobody and the service's own
   * @param page `{health, users, filter, beside, onchange, onquery, onevent, onerror}`
   */
  constructor(side, chosen, page) {
    Object.assign(this, { side, chosen, page, hits: null, answer: null, request: null });
    this.element = make(`section.column.${side}`);
    this.draw();
  }

  /** Everything but the answer is drawn anew; the answer too, from what is known, when the language changes. */
  draw() {
    const { health, users } = this.page;
    const names = users.some((user) => user.user_id === this.chosen.user) || ["", you()].includes(this.chosen.user);
    const shoppers = [
      ["", say("nobody")], [you(), say("you")],
      ...users.map((user) => [user.user_id, say("told", user)]),
      ...(names ? [] : [[this.chosen.user, this.chosen.user]]),
    ];
    this.behaviour = make("details.behaviour");
    this.behaviour.open = !this.page.isCompared() && matchMedia("(min-width: 56rem)").matches;
    this.list = make("ol.cards");
    this.note = make("p.empty", {}, say("begin"));
    this.element.setAttribute("aria-label", say(this.page.isCompared() ? this.side : "answer"));
    this.element.replaceChildren(
      make("div.who", {},
        this.select("user", say("shopper"), shoppers),
        this.select("stage", say("stage"), health.stages.map((stage) => [stage, stage])),
        health.can_rerank ? this.select("sort", say("sort"), ["generated", "reward"].map((name) => [name, say(name)])) : null),
      make("div.body", {}, this.behaviour, make("div.answer", {}, this.note, this.list)));
    this.showBehaviour();
    if (this.answer) this.show(this.answer);
  }

  select(name, label, options) {
    const id = `${this.side}-${name}`;
    const select = make("select", { id, onchange: () => this.change(name, select.value) },
      options.map(([value, text]) => make("option", { value }, text)));
    select.value = this.chosen[name] || own(this.page.health)[name];
    return make(`div.choice.${name}`, {}, make("label", { for: id }, label), select);
  }

  change(name, value) {
    this.chosen[name] = value;
    if (name === "user") this.showBehaviour();
    this.page.onchange(this);
  }

  /** Search; the answer of a search that was overtaken by another one is dropped. */
  async search(query) {
    this.request?.abort();
    this.request = new AbortController();
    this.element.setAttribute("aria-busy", "true");
    try {
      const { user, stage, sort } = this.chosen;
      const rerank = sort && this.page.health.can_rerank ? sort === "reward" : null;
      const body = { query, user_id: user || null, stage: stage || null, rerank, filter: this.page.filter(), k: K, explain: true };
      this.answer = await ask("search", { body, signal: this.request.signal });
      this.show(this.answer);
      return this.answer;
    } finally {
      this.element.removeAttribute("aria-busy");
    }
  }

  /** Show an answer, beside that of another column where there is one. */
  show(answer, beside = this.page.beside(this)) {
    const places = beside && new Map(beside.hits.map((hit) => [hit.item_id, hit.position]));
    const place = (hit) => (places ? places.get(hit.item_id) ?? null : undefined);
    const onevent = (hit) => (this.chosen.user ? (kind) => this.tell(kind, hit, answer.query) : null);
    const scale = scaleOf(answer), parts = answer.reranked ? Object.keys(answer.score_weights) : null;
    this.list.replaceChildren(...answer.hits.map((hit) => card(hit, { scale, parts, place: place(hit), onevent: onevent(hit) })));
    this.note.textContent = this.about(answer);
    this.note.hidden = !this.note.textContent;
  }

  /** What stands above an answer. */
  about({ hits, num_passing, reads_users, score_weights }) {
    if (!hits.length) return say(num_passing ? "empty" : "nonePasses");
    if (this.chosen.user && !reads_users) return say("anonymous");
    return this.page.health.can_rerank ? say("formula", score_weights) : "";
  }

  async tell(kind, hit, query) {
    try {
      const event = { user_id: this.chosen.user, kind, item_id: hit.item_id, query };
      await ask("events", { body: { events: [event] } });
      this.page.onevent(this);
    } catch (error) {
      this.page.onerror(error);
    }
  }

  async showBehaviour() {
    const user = this.chosen.user;
    const summary = make("summary", {}, say("behaviour"));
    this.behaviour.replaceChildren(summary);
    if (!user) {
      this.behaviour.append(make("p.note", {}, say("nobodyKnown")));
      return;
    }
    try {
      const known = await ask(`users/${encodeURIComponent(user)}`, { limit: 6 });
      if (user !== this.chosen.user) return;
      this.behaviour.replaceChildren(summary, ...this.known(known));
    } catch (error) {
      const isNew = error instanceof Refused && error.status === 404;
      this.behaviour.replaceChildren(summary, make("p.note", {}, isNew ? say("nothing") : error.message));
    }
  }

  known({ profile, recent_queries, recent_clicks, orders }) {
    const query = (text) =>
      make("li", {}, make("button.quiet", { type: "button", "aria-label": say("askAgain", text), onclick: () => this.page.onquery(text) }, text));
    const item = ({ title, price: worth }) =>
      make("li", {}, make("span", {}, title), worth === null ? null : make("small", {}, price(worth)));
    const part = (name, kind, rows) => (rows.length ? [make("h4", {}, say(name)), make(`ul.${kind}`, {}, rows)] : []);
    return [
      profile ? make("p.profile", {}, profile) : null,
      ...part("asked", "queries", [...new Set(recent_queries)].map(query)),
      ...part("clicked", "things", recent_clicks.map(item)),
      ...part("ordered", "things", orders.map(item)),
    ].filter(Boolean);
  }
}
