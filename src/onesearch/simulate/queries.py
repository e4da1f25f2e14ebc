"""What a shopper types: a product word and a few wanted values, in their own words, with the usual errors.

A query says less than the shopper wants: the rest is in the shopper's history, which is why history helps to answer it.
Every product has the few attributes that people ask it by (a dress by colour, a charger by watts), so that queries
repeat: most of a day's searches were made before, as in real logs.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onesearch.simulate.catalogue import COLUMN, Catalogue, Floats, Ints
from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.vocabulary import Vocabulary

KEYWORDS = (0.36, 0.51, 0.12, 0.01)  # share of first queries with 1, 2, 3, 4 keywords
WANTED = {
    "Color": 3.0, "Style": 2.0, "Material": 2.0, "Function": 2.0, "Scene": 1.5, "Season": 1.5, "Modifier": 2.0,
    "Brand": 1.5, "Pattern": 1.0, "Specifications": 0.7, "Price": 0.8, "Series": 0.3,
}  # fmt: skip
"""How likely a product is asked by an attribute, up to a factor of its own."""

REFORMULATIONS = {"refine": 0.25, "broaden": 0.25, "synonym": 0.2, "repeat": 0.3}
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


class Intent(NamedTuple):
    """What a shopper is after in a session."""

    category: int
    target: int  # the item in mind; any that is like it will do, unless `exact`
    wants: tuple[int, ...]  # value numbers, most wanted first
    mentions: tuple[int, ...]  # value numbers in the order in which they come to mind
    exact: bool  # looking again for this very item


class Wording(NamedTuple):
    """How an intent is put at the moment."""

    num_keywords: int
    synonym: int  # 0 the catalogue's product word, then its synonyms


class Query(NamedTuple):
    """A query as typed, and what a good engine reads in it."""

    text: str
    entity: int  # value number of the product word
    values: tuple[int, ...]  # value numbers of the other keywords


class QueryWriter:
    """Writes queries in the words of a vocabulary."""

    def __init__(
        self, vocabulary: Vocabulary, catalogue: Catalogue, config: Marketplace, rng: np.random.Generator
    ) -> None:
        self.vocabulary, self.catalogue, self.config, self.rng = vocabulary, catalogue, config, rng
        usual = config.chance("asked by").gamma(0.25, size=(len(vocabulary.categories), len(WANTED))) + 1e-3
        self.asked_by = np.log(usual * np.array(list(WANTED.values())))  # [leaf categories, types]

    def intent(self, target: int, exact: bool = False) -> Intent:
        """The intent of a shopper who has the item `target` in mind."""
        category = int(self.catalogue.category[target])
        values = self.catalogue.values[target][[COLUMN[kind] for kind in WANTED]]
        order = np.argsort(-self.asked_by[category] - self.rng.gumbel(0, 0.3, len(values)))
        wanted = [int(value) for value in values[order] if value < self.catalogue.absent]
        wants = tuple(wanted[: self.rng.integers(1, 4)])
        # Whoever shares a product word with others ("sneakers") sometimes says for whom.
        audience = self.vocabulary.categories[category].audience
        says = audience != "unisex" and self.rng.random() < 0.12
        said = [self.vocabulary.number["Audience", audience]] if says else []
        return Intent(category, target, wants, tuple((said + wanted)[:3]), exact)

    def wording(self, intent: Intent) -> Wording:
        """The first wording of a session."""
        count = int(self.rng.choice(len(KEYWORDS), p=KEYWORDS)) + 1
        return Wording(count, self._synonym(intent) if self.rng.random() < self.config.synonyms else 0)

    def reformulate(self, intent: Intent, wording: Wording) -> Wording:
        """The next wording of an intent: narrower, broader, in another word, or the same again."""
        kind = self.rng.choice(list(REFORMULATIONS), p=list(REFORMULATIONS.values()))
        if kind == "synonym":
            return wording._replace(synonym=0 if wording.synonym else self._synonym(intent))
        step = {"refine": 1, "broaden": -1, "repeat": 0}[str(kind)]
        return wording._replace(num_keywords=int(np.clip(wording.num_keywords + step, 1, len(KEYWORDS))))

    def write(self, intent: Intent, wording: Wording) -> Query:
        """The query as typed."""
        leaf = self.vocabulary.categories[intent.category]
        mentioned = intent.mentions[: wording.num_keywords - 1]
        entity = (leaf.entity, *leaf.synonyms)[wording.synonym]
        words = [*self._ordered([self._word(value) for value in mentioned]), entity]
        if self.rng.random() < self.config.reordered:
            words = words[::-1]
        text = " ".join(words)
        if self.rng.random() < self.config.typos:
            text = mistype(text, self.rng)
        return Query(text, self.vocabulary.number["Entity", leaf.entity], mentioned)

    def _synonym(self, intent: Intent) -> int:
        count = len(self.vocabulary.categories[intent.category].synonyms)
        return min(int(self.rng.geometric(0.75)), count)  # the first one is the common one

    def _word(self, value: int) -> str:
        text = self.vocabulary.values[value][1].lower()
        synonyms = self.vocabulary.synonyms.get(text, [])
        return synonyms[0] if synonyms and self.rng.random() < 0.5 * self.config.synonyms else text

    def _ordered(self, words: list[str]) -> list[str]:
        # English puts its adjectives in one order; an order of its own for every shopper would make all queries new.
        return words if self.rng.random() < self.config.reordered else sorted(words)


def mistype(text: str, rng: np.random.Generator) -> str:
    """`text` with one error in one word. A word has few usual errors, which many people make."""
    words = text.split()
    long = [index for index, word in enumerate(words) if len(word) > 3]
    if len(words) > 1 and (not long or rng.random() < 0.2):
        gap = int(rng.integers(1, len(words)))
        return " ".join([*words[: gap - 1], words[gap - 1] + words[gap], *words[gap + 1 :]])
    if not long:
        return text
    index = int(rng.choice(long))
    words[index] = _usual_error(words[index], int(rng.integers(2)))
    return " ".join(words)


def _usual_error(word: str, which: int) -> str:
    rng = np.random.default_rng([which, zlib.crc32(word.encode())])
    at = int(rng.integers(1, len(word) - 1))
    kind = rng.choice(["double", "drop", "swap", "neighbour"])
    if kind == "double":
        return word[:at] + word[at] + word[at:]
    if kind == "drop":
        return word[:at] + word[at + 1 :]
    if kind == "swap":
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + _neighbour(word[at], rng) + word[at + 1 :]


def _neighbour(letter: str, rng: np.random.Generator) -> str:
    row = next((row for row in KEYBOARD if letter in row), letter)
    near = [row[i] for i in (row.find(letter) - 1, row.find(letter) + 1) if 0 <= i < len(row)]
    return str(rng.choice(near)) if near else letter


def matches(values: Ints, wanted: Sequence[int]) -> Floats:
    """Share of the `wanted` values that items with these `values` [n, 18] have -> [n]; 1 where nothing is wanted."""
    if not wanted:
        return np.ones(len(values))
    shares: Floats = (values[:, :, None] == np.array(wanted)).any(1).mean(1)
    return shares
