// What the items of every answer have to be. The address has it under the names of `GET /search`.

import { make } from "./dom.js";
import { price, say } from "./strings.js";

const LISTS = ["category", "brand", "seller"], PRICES = ["price_min", "price_max"], STOCK = "in_stock";

export class Filters {
  /**
   * @param address the page's URLSearchParams
   * @param choices what there is, as `GET /filters` has it
   * @param onchange called when something is chosen
   */
  constructor(address, choices, onchange) {
    Object.assign(this, { address, choices, onchange });
    this.element = make("details.filters");
    this.element.open = matchMedia("(min-width: 48rem)").matches;
    this.draw();
  }

  /** As the body of a search has it. */
  get body() {
    const lists = LISTS.map((name) => [name, this.address.getAll(name)]);
    const prices = PRICES.filter((name) => this.address.has(name)).map((name) => [name, Number(this.address.get(name))]);
    return { ...Object.fromEntries([...lists, ...prices]), [STOCK]: this.address.get(STOCK) !== "false" };
  }

  /** How many are chosen. */
  get number() {
    return [...LISTS, ...PRICES, STOCK].filter((name) => this.address.has(name)).length;
  }

  draw() {
    const { category, num_sold_out, price_min: least, price_max: most } = this.choices;
    this.summary = make("summary");
    this.clear = make("button.quiet", { type: "button", onclick: () => this.forget() }, say("clear"));
    const choices = make("div.choices", {},
      this.select("category", category.map((one) => [one.value, this.told(one.path)])),
      ["brand", "seller"].map((name) => this.select(name, this.choices[name].map(({ value }) => [value, value]))),
      least === null ? null : this.between(least, most),
      num_sold_out ? this.stock() : null,
      this.clear);
    this.element.replaceChildren(this.summary, choices);
    this.element.hidden = choices.childElementCount === 1; // the catalogue says nothing to choose by
    this.count();
  }

  /** A category below that which it is in, which is told beside a name that several have. */
  told(path) {
    const name = path.at(-1), isOne = this.choices.category.filter((one) => one.path.at(-1) === name).length === 1;
    return "\u2003".repeat(path.length - 1) + name + (isOne || path.length === 1 ? "" : ` (${path.at(-2)})`);
  }

  /** One of some names; what an address has beside them, or several of them, is a choice of its own. */
  select(name, options) {
    const chosen = this.address.getAll(name), own = chosen.join(", ");
    if (!options.length && !own) return null;
    const offered = [[[], say("any")], ...options.map(([value, text]) => [[value], text])];
    const isChosen = ([values]) => values.length === chosen.length && values.every((value, place) => value === chosen[place]);
    const all = offered.some(isChosen) ? offered : [offered[0], [chosen, own], ...offered.slice(1)];
    const id = `filter-${name}`;
    const select = make("select", { id, onchange: () => this.change(name, ...all[select.selectedIndex][0]) },
      all.map(([values, text]) => make("option", { value: values.join(", ") }, text)));
    select.selectedIndex = all.findIndex(isChosen);
    return make("div.choice", {}, make("label", { for: id }, say(name)), select);
  }

  between(...span) {
    const [low, high] = PRICES.map((name, place) => {
      const input = make("input", {
        type: "number", min: 0, step: "any", inputmode: "decimal", "aria-label": say(name),
        value: this.address.get(name), placeholder: price(span[place]),
        onchange: () => input.reportValidity() && this.change(name, input.value) });
      return input;
    });
    return make("div.choice.between", { role: "group", "aria-labelledby": "filter-price" },
      make("span.label", { id: "filter-price" }, say("price")), low, make("span", { "aria-hidden": "true" }, "–"), high);
  }

  stock() {
    const change = () => this.change(STOCK, box.checked ? "" : "false");
    const box = make("input", { type: "checkbox", checked: this.body[STOCK], onchange: change });
    return make("label.stock", {}, box, say("inStock"));
  }

  change(name, ...values) {
    this.address.delete(name);
    for (const value of values.filter(Boolean)) this.address.append(name, value);
    this.count();
    this.onchange();
  }

  forget() {
    for (const name of [...LISTS, ...PRICES, STOCK]) this.address.delete(name);
    this.draw();
    this.summary.focus();
    this.onchange();
  }

  count() {
    this.summary.textContent = say("filters", this.number);
    this.clear.hidden = !this.number;
  }
}
