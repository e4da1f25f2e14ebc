// The page: one search box, one or two columns, and an address that says all of it.

import { ask, Refused, useKey } from "./api.js";
import { Column, own, you } from "./column.js";
import { make } from "./dom.js";
import { Filters } from "./filters.js";
import { choose, current, say } from "./strings.js";

const CHOICES = ["user", "stage", "sort"];
const $ = (id) => document.getElementById(id);
const address = new URLSearchParams(location.search);
const page = { health: null, users: [], columns: [], filters: null };

Object.assign(page, {
  isCompared: () => address.get("compare") === "1",
  filter: () => page.filters.body,
  beside: (column) => (column.side === "right" ? page.columns[0]?.answer : undefined),
  onchange: (column) => {
    remember();
    if (column.answer) search([column]);
  },
  onquery: (query) => {
    $("query").value = query;
    search();
  },
  onevent: (column) => {
    for (const other of page.columns) if (other.chosen.user === column.chosen.user) other.showBehaviour();
    status(say("noted"), make("button.quiet", { type: "button", onclick: () => search() }, say("again")));
  },
  onerror: (error) => {
    if (error.name === "AbortError") return;
    status(error instanceof Refused ? error.message : say("failed"));
    $("status").classList.add("wrong");
    if (error instanceof Refused && error.status === 401) {
      $("key").hidden = false;
      $("key-value").focus();
    }
  },
});

function status(...parts) {
  $("status").classList.remove("wrong");
  $("status").replaceChildren(...parts);
}

/** Keep what is chosen in the address, so that it can be sent to somebody. */
function remember() {
  const set = (name, value) => (value ? address.set(name, value) : address.delete(name));
  set("q", $("query").value.trim());
  page.columns.forEach(({ chosen }, place) => {
    const usual = { ...own(page.health), user: you() };
    for (const name of CHOICES) set(name + (place ? "2" : ""), chosen[name] === usual[name] ? "" : chosen[name]);
  });
  history.replaceState(null, "", address.size ? `?${address}` : location.pathname);
}

async function search(columns = page.columns) {
  const query = $("query").value.trim();
  if (!query) return $("query").focus();
  remember();
  status(say("waiting"));
  try {
    for (const column of columns) await column.search(query); // one after the other: the right one is set beside the left
    const [left, right] = page.columns;
    if (right?.answer && columns.length === 1 && columns[0] === left) right.show(right.answer);
    const milliseconds = columns.reduce((sum, column) => sum + column.answer.milliseconds, 0);
    const ids = new Set(left.answer.hits.map((hit) => hit.item_id));
    const shared = right?.answer?.hits.filter((hit) => ids.has(hit.item_id)).length;
    const passing = (page.filters.number && left.answer.num_passing) || null;
    status(right ? say("foundBoth", shared, ids.size) : say("found", ids.size, milliseconds, passing));
  } catch (error) {
    page.onerror(error);
  }
}

/** As many columns as are asked for; the left one stays as it is. */
function arrange() {
  const sides = page.isCompared() ? ["left", "right"] : ["left"];
  const chosen = (side) => {
    const n = side === "left" ? "" : "2";
    return Object.fromEntries(CHOICES.map((name) => [name, address.get(name + n) ?? ""]));
  };
  page.columns = sides.map((side, place) => page.columns[place] ?? new Column(side, chosen(side), page));
  $("results").classList.toggle("compared", page.isCompared());
  $("results").replaceChildren(...page.columns.map((column) => column.element));
  $("compare").setAttribute("aria-pressed", String(page.isCompared()));
}

function compare() {
  if (page.isCompared()) address.delete("compare");
  else address.set("compare", "1");
  arrange();
  page.columns.forEach((column) => column.draw());
  remember();
  const [left, right] = page.columns;
  if (left.answer) search(right ? [right] : [left]);
}

function speak(language) {
  choose(language);
  localStorage.setItem("onesearch-language", current());
  document.querySelectorAll("[data-text]").forEach((element) => (element.textContent = say(element.dataset.text)));
  document.querySelectorAll("[data-label]").forEach((element) => element.setAttribute("aria-label", say(element.dataset.label)));
  document.querySelectorAll("[data-language]").forEach((button) =>
    button.setAttribute("aria-pressed", String(button.dataset.language === current())));
  if (page.health) $("served").textContent = say("served", page.health);
  status();
  page.filters?.draw();
  page.columns.forEach((column) => column.draw());
}

async function start() {
  try {
    page.health = await ask("health");
    $("query").maxLength = page.health.max_query_length;
    page.users = (await ask("users", { limit: 30 })).users;
    const refine = () => (page.columns[0].answer ? search() : remember());
    page.filters = new Filters(address, await ask("filters"), refine);
    $("filters").replaceChildren(page.filters.element);
    $("key").hidden = true;
    arrange();
    speak(current());
    if ($("query").value) await search();
  } catch (error) {
    page.onerror(error);
  }
}

$("search").addEventListener("submit", (event) => (event.preventDefault(), search()));
$("compare").addEventListener("click", compare);
$("key").addEventListener("submit", (event) => (event.preventDefault(), useKey($("key-value").value), start()));
document.querySelectorAll("[data-language]").forEach((button) =>
  button.addEventListener("click", () => speak(button.dataset.language)));
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    $("query").focus();
  }
});

$("query").value = address.get("q") ?? "";
speak(address.get("lang") ?? localStorage.getItem("onesearch-language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
start();
