"""Core keywords: per attribute type, the values that shoppers see and ask for most.

    PV(type, value) = Σ views of the items that carry the value + Σ PV of the queries in which the value is found
    core keywords of a type = its values with PV ≥ min_pv, by falling PV, the first top_k

The paper (arXiv 2509.03236) counts values by page views and keeps the top ones; what counts as a page view of a value,
and the two cuts, are ours.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from onesearch.keywords.folding import fold
from onesearch.keywords.matcher import KeywordMatcher
from onesearch.types import ATTRIBUTE_TYPES, UserError


@dataclass(frozen=True)
class Keyword:
    """A core keyword."""

    type: str  # one of the 18 attribute types
    value: str  # folded
    page_views: int


@dataclass(frozen=True)
class Lexicon:
    """The core keywords, by type in the order of `ATTRIBUTE_TYPES`, then by falling page views."""

    keywords: tuple[Keyword, ...]

    def matcher(self) -> KeywordMatcher:
        """An automaton over these keywords."""
        return KeywordMatcher((keyword.type, keyword.value) for keyword in self.keywords)

    def save(self, path: Path) -> None:
        """Write JSON: type → [[value, page views], ..]."""
        by_type: dict[str, list[list[object]]] = {}
        for keyword in self.keywords:
            by_type.setdefault(keyword.type, []).append([keyword.value, keyword.page_views])
        path.write_text(json.dumps(by_type, indent=1, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """Read what `save` wrote, or a list of one's own in the same form.

        Raises:
            UserError: a type that is none of the 18, or an entry that is no [value, page views].
        """
        keywords = []
        for type_, entries in json.loads(path.read_text("utf-8")).items():
            check_type(type_, str(path))
            for entry in entries:
                if not isinstance(entry, list) or len(entry) != 2:
                    raise UserError(f"{path}, '{type_}': {entry!r} must be [value, page views].")
                keywords.append(
                    Keyword(type_, fold(str(entry[0])), int(entry[1]))
                )  # a hand-written list is folded here
        return cls(tuple(keywords))


def mine_lexicon(
    attributes: Sequence[Mapping[str, Sequence[str]]],
    item_views: Sequence[int],
    queries: Iterable[tuple[str, int]],
    top_k: int,
    min_pv: int,
    asked_for: Iterable[tuple[str, str]] = (),
) -> Lexicon:
    """Count values by page views and keep the top of each type.

    Args:
        attributes: per item, attribute type → values.
        item_views: page views of each item (clicks, where a log has no impressions).
        queries: (query text, page views).
        top_k: the most keywords of one type.
        min_pv: the fewest page views of a keyword.
        asked_for: further (type, value) pairs, which no item need carry: they are counted where queries hold them.

    Raises:
        UserError: an attribute type that is none of the 18, or another number of views than of items.
    """
    if len(attributes) != len(item_views):
        raise UserError(f"item_views has {len(item_views)} entries for {len(attributes)} items.")
    page_views = _count_items(attributes, item_views)
    _count_queries(page_views, list(queries), asked_for)
    return Lexicon(tuple(keyword for type_ in ATTRIBUTE_TYPES for keyword in _top(page_views, type_, top_k, min_pv)))


def _count_items(
    attributes: Sequence[Mapping[str, Sequence[str]]], item_views: Sequence[int]
) -> Counter[tuple[str, str]]:
    page_views: Counter[tuple[str, str]] = Counter()
    folded = cache(fold)  # a shop's items share their values
    for row, (values_by_type, views) in enumerate(zip(attributes, item_views, strict=True)):
        for type_, values in values_by_type.items():
            check_type(type_, f"attributes of item row {row}")
            for value in set(map(folded, values)) - {""}:
                page_views[type_, value] += int(views)
    return page_views


def _count_queries(
    page_views: Counter[tuple[str, str]], queries: Sequence[tuple[str, int]], asked_for: Iterable[tuple[str, str]]
) -> None:
    """Add each query's views to the values found in it, once a query."""
    matcher = KeywordMatcher([*page_views, *asked_for])
    found = matcher.find_all([query for query, _ in queries])
    for query, keyword in set(zip(found.texts.tolist(), found.keywords.tolist(), strict=True)):
        for type_ in matcher.types[keyword]:
            page_views[type_, matcher.values[keyword]] += queries[query][1]


def _top(page_views: Counter[tuple[str, str]], type_: str, top_k: int, min_pv: int) -> list[Keyword]:
    found = [Keyword(*key, views) for key, views in page_views.items() if key[0] == type_ and views >= min_pv]
    return sorted(found, key=lambda keyword: (-keyword.page_views, keyword.value))[:top_k]


def check_type(type_: str, where: str) -> None:
    """Refuse an attribute type that is none of the 18.

    Raises:
        UserError: it names `where` the type was met.
    """
    if type_ not in ATTRIBUTE_TYPES:
        raise UserError(f"{where}: '{type_}' is no attribute type; the 18 types are {', '.join(ATTRIBUTE_TYPES)}.")
