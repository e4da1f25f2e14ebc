"""What is recorded of items, in the form in which the reward model's features compare it: values, words, prices.

Attributes: the 18 structured types, with brand and seller where a type has no value, then leaf and top category.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesearch.keywords.terms import terms
from onesearch.types import ATTRIBUTE_TYPES

NUM_ATTRIBUTES = len(ATTRIBUTE_TYPES) + 2
LEAF, TOP = NUM_ATTRIBUTES - 2, NUM_ATTRIBUTES - 1
"""Columns of the categories."""

NUM_VALUE_BUCKETS = 4096

NONE = -1
"""In place of a value that is not recorded."""


class ItemFacts(NamedTuple):
    """Recorded facts of N items."""

    values: NDArray[np.int64]  # [N, A] number of each attribute's value among those of its type, NONE
    hashed: NDArray[np.int64]  # [N, A] a bucket for each value, the same in every catalogue; 0 where NONE
    shares: NDArray[np.float32]  # [N, A] share of the items with that value among those with one, 1 where NONE
    prices: NDArray[np.float32]  # [N] log price less the median of the leaf category, 0 where unknown
    title_terms: list[frozenset[str]]  # [N]
    terms: list[frozenset[str]]  # [N] of title, brand, seller, categories and attribute values
    rarity: dict[str, float]  # term → log((N + 1)/(n + ½)), how few items have it

    @classmethod
    def of(cls, items: Mapping[str, Sequence[Any]]) -> "ItemFacts":
        """Facts of the canonical items table, given as columns by name.

        Args:
            items: `title`, `brand`, `seller`, `category`, `price` and `attributes`, each [N].
        """
        texts = [_recorded(*row) for row in zip(*(items[name] for name in _COLUMNS), strict=True)]
        values = np.stack([_numbered(column) for column in zip(*texts, strict=True)] or [_EMPTY] * NUM_ATTRIBUTES, 1)
        hashed = np.array([_hashed(text) for text in texts], np.int64).reshape(len(texts), NUM_ATTRIBUTES)
        titles = [frozenset(terms(title or "")) for title in items["title"]]
        attributes = [frozenset(terms(" ".join(_all_values(*row)))) for row in zip(
            *(items[name] for name in _COLUMNS), strict=True
        )]  # fmt: skip
        known = [title | others for title, others in zip(titles, attributes, strict=True)]
        counts: dict[str, int] = {}
        for found in known:
            for term in found:
                counts[term] = counts.get(term, 0) + 1
        rarity = {term: math.log((len(known) + 1) / (count + 0.5)) for term, count in counts.items()}
        prices = _relative(items["price"], values[:, LEAF])
        return cls(values, hashed, _shares(values), prices, titles, known, rarity)

    @classmethod
    def unknown(cls, num_items: int) -> "ItemFacts":
        """Of a catalogue that records nothing: all features that compare facts are those of no match."""
        columns = dict.fromkeys(("title", *_COLUMNS, "price"), [None] * num_items)
        return cls.of(columns)


_COLUMNS = ("attributes", "brand", "seller", "category")
_EMPTY = np.empty(0, np.int64)


def _recorded(
    attributes: Sequence[tuple[str, Sequence[str]]] | None,
    brand: str | None,
    seller: str | None,
    category: Sequence[str] | None,
) -> list[str | None]:
    """The value of each attribute, the first where there are several: [A]."""
    first = {"Brand": brand, "Anchor": seller}
    first |= {kind: values[0] for kind, values in attributes or () if values}
    return [
        *(first.get(kind) for kind in ATTRIBUTE_TYPES),
        "/".join(category or ()) or None,
        category[0] if category else None,
    ]


def _all_values(
    attributes: Sequence[tuple[str, Sequence[str]]] | None,
    brand: str | None,
    seller: str | None,
    category: Sequence[str] | None,
) -> list[str]:
    values = [value for _, found in attributes or () for value in found or () if value]
    return [*values, brand or "", seller or "", *(category or ())]


def _numbered(texts: Sequence[str | None]) -> NDArray[np.int64]:
    """The same number for the same text, whatever its case: [N]."""
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(text.casefold(), len(numbers)) if text else NONE for text in texts], np.int64
    )  # fmt: skip


def _hashed(texts: Sequence[str | None]) -> list[int]:
    """A number of each attribute's value that does not depend on what other items there are: [A]."""
    return [
        1 + zlib.crc32(f"{place}/{text.casefold()}".encode()) % (NUM_VALUE_BUCKETS - 1) if text else 0
        for place, text in enumerate(texts)
    ]


def _shares(values: NDArray[np.int64]) -> NDArray[np.float32]:
    shares = np.ones(values.shape, np.float32)
    for column in range(values.shape[1]):
        known = values[:, column] != NONE
        counts = np.bincount(values[known, column])
        shares[known, column] = counts[values[known, column]] / max(1, known.sum())
    return shares


def _relative(prices: Sequence[float | None], leaves: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log price less the median of its category: [N]."""
    logs = np.array([math.log(price) if price and price > 0 else math.nan for price in prices], np.float64)
    for leaf in np.unique(leaves):
        at = (leaves == leaf) & ~np.isnan(logs)
        logs[at] -= np.median(logs[at]) if at.any() else 0.0
    return np.nan_to_num(logs).astype(np.float32)
