"""Where an item says what the query asks for: the query's core keywords and other words, found in the item's text."""

from collections.abc import Sequence
from typing import NamedTuple

from onesearch.keywords.matcher import KeywordMatcher
from onesearch.log.text import normalize_query


class Matched(NamedTuple):
    """A keyword of the query that an item has."""

    value: str  # folded
    type: str | None  # one of the 18 attribute types; None: a word of the query that is no core keyword


class ItemMatches(NamedTuple):
    """What an item has of a query."""

    keywords: list[Matched]  # each once, in title, brand, categories or attributes
    places: list[tuple[int, int]]  # in the title: characters [start, end), from left to right


class QueryKeywords:
    """The keywords of a query.

    Args:
        query: as typed.
        matcher: of the core keywords.
    """

    def __init__(self, query: str, matcher: KeywordMatcher) -> None:
        core = matcher.find(query)
        self._types: dict[str, str | None] = {}
        for match in core:
            self._types.setdefault(match.value, match.type)
        inside = {word for value in self._types for word in value.split()}
        words = [
            word for word in normalize_query(query).split() if word not in inside and (len(word) > 1 or word > "z")
        ]
        self._types |= dict.fromkeys(words)
        # A type is only a name to the matcher; one row a value keeps it simple.
        self._matcher = (
            KeywordMatcher((type_ or "", value) for value, type_ in self._types.items()) if self._types else None
        )

    def match(self, titles: Sequence[str], texts: Sequence[str]) -> list[ItemMatches]:
        """What each item has of the query.

        Args:
            titles: of the items.
            texts: how they read as a whole.
        """
        if self._matcher is None:
            return [ItemMatches([], []) for _ in titles]
        places: list[list[tuple[int, int]]] = [[] for _ in titles]
        found = self._matcher.find_all(titles)
        for row, start, end in zip(found.texts.tolist(), found.starts.tolist(), found.ends.tolist(), strict=True):
            places[row].append((start, end))
        values: list[dict[str, None]] = [{} for _ in titles]
        for part in (titles, texts):
            found = self._matcher.find_all(part)
            for row, keyword in zip(found.texts.tolist(), found.keywords.tolist(), strict=True):
                values[row][self._matcher.values[keyword]] = None
        return [
            ItemMatches([Matched(value, self._types.get(value)) for value in of_item], of_title)
            for of_item, of_title in zip(values, places, strict=True)
        ]
