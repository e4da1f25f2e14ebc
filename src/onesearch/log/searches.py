"""Searches of a prepared log as a sequence that holds none: each is cut from the mapped files when it is asked for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from onesearch.log.as_of import AsOf
from onesearch.log.mapped_files import Int64, Integers
from onesearch.log.schema import KINDS
from onesearch.types import SearchContext

_MANY = 1 << 16
"""Searches that are looked at together where a whole column is walked."""


class Searches(Sequence[SearchContext]):
    """Searches as of their own time. It may be pickled: whoever gets it maps the files anew.

    Args:
        source: the mapped files.
        rows: rows of its searches, [S].
    """

    def __init__(self, source: AsOf, rows: Int64) -> None:
        self.source = source
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> SearchContext: ...

    @overload
    def __getitem__(self, place: slice) -> "Searches": ...

    def __getitem__(self, place: int | slice) -> "SearchContext | Searches":
        if isinstance(place, slice):
            return Searches(self.source, self.rows[place])
        return self.source.context(int(self.rows[place]))

    def __iter__(self) -> Iterator[SearchContext]:
        return (self.source.context(row) for part in self._parts() for row in part.tolist())

    def take(self, places: "npt.ArrayLike") -> "Searches":
        """Some of them: their places in any order, or a mask [S]."""
        chosen = np.asarray(places)
        return Searches(self.source, self.rows[chosen if chosen.dtype == bool else chosen.astype(np.int64)])

    def __reduce__(self) -> tuple[type["Searches"], tuple[AsOf, Int64]]:
        return Searches, (self.source, self.rows)  # not what can be found out again

    @cached_property
    def answered(self) -> "Searches":
        """Those with a clicked item."""
        return self.take(self.num_clicks > 0)

    @property
    def days(self) -> Int64:
        """Days since 1970-01-01, [S]."""
        return self.source.days.take(self.rows)

    @property
    def num_clicks(self) -> Int64:
        """Clicked items, [S]."""
        return self.source.clicked.lengths(self.rows)

    @property
    def num_purchases(self) -> Int64:
        """Purchased items, [S]; 0 where the log does not record them."""
        return self.source.purchased.lengths(self.rows)

    @property
    def query_numbers(self) -> Int64:
        """The query of each by its number, [S]; numbers follow the order of the texts."""
        return self.source.queries.take(self.rows)

    @property
    def have_history(self) -> npt.NDArray[np.bool_]:
        """Whether anything that its user did before is known, [S]."""
        known: npt.NDArray[np.bool_] = np.zeros(len(self), bool)
        for kind in KINDS:
            known |= self.source.counts[kind].take(self.rows) > 0
        return known

    @property
    def users(self) -> Int64:
        """A number for the user of each, [S]; each search without a user is somebody else's."""
        shoppers = self.source.shoppers.take(self.rows)
        return np.where(shoppers < 0, -1 - np.arange(len(self)), shoppers)

    @property
    def search_ids(self) -> list[str]:
        """[S]."""
        return self.source.search_ids.take(self.rows)

    def outcomes(self) -> Iterator["Outcome"]:
        """What each led to, without what its user did before: many times cheaper than the whole search."""
        source = self.source
        for part in self._parts():
            queries = source.texts.take(source.queries.take(part))
            for query, row in zip(queries, part.tolist(), strict=True):
                yield Outcome(query, source.clicked[row] or (), source.purchased[row] or (), source.impressed[row])

    def queries(self) -> list[str]:
        """The distinct queries, sorted."""
        return self.source.texts.take(np.unique(self.query_numbers))

    def queries_seen(self) -> list[str]:
        """The distinct queries of these searches and those asked before them, in the order in which they come."""
        known: dict[int, None] = {}
        for part in self._parts():
            numbers, first = np.unique(self.source.queries_seen(part), return_index=True)
            known.update(dict.fromkeys(numbers[np.argsort(first)].tolist()))
        return self.source.texts.take(np.fromiter(known, np.int64, len(known)))

    def _parts(self) -> Iterator[Int64]:
        return (self.rows[start : start + _MANY] for start in range(0, len(self.rows), _MANY))


class Outcome(NamedTuple):
    """What a search led to; fields as in `SearchContext`."""

    query: str
    clicked: tuple[int, ...]
    purchased: tuple[int, ...]
    impressed: tuple[int, ...] | None


class ClickedPairs(Sequence[tuple[str, int]]):
    """The (query, item row) of every click, in the order of the searches and of the clicks in them.

    Args:
        searches: what was clicked in.
    """

    def __init__(self, searches: Searches) -> None:
        self.searches = searches
        self.ends = np.cumsum(searches.num_clicks)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @overload
    def __getitem__(self, place: int) -> tuple[str, int]: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[tuple[str, int]]: ...

    def __getitem__(self, place: int | slice) -> tuple[str, int] | Sequence[tuple[str, int]]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        search = int(np.searchsorted(self.ends, number, side="right"))
        source, row = self.searches.source, int(self.searches.rows[search])
        before = int(self.ends[search - 1]) if search else 0
        return source.texts[source.queries[row]], source.clicked.entry(row, number - before)

    @property
    def items(self) -> Integers:
        """The item rows alone, [P]."""
        return self.searches.source.clicked.flat(self.searches.rows)

    def by_query(self) -> "ClickedItems":
        """The same items, query by query."""
        numbers = np.repeat(self.searches.query_numbers, np.diff(self.ends, prepend=0))
        order = np.argsort(numbers, kind="stable")
        known, starts = np.unique(numbers[order], return_index=True)
        return ClickedItems(self.searches.source.texts.take(known), self.items[order], starts)


class ClickedItems(Mapping[str, Integers]):
    """Query → the item rows clicked for it, as often as they were, in the order of time.

    Args:
        queries: distinct, [Q].
        items: rows of the items of the first query, then of the next, [P].
        starts: where the items of each begin, [Q].
    """

    def __init__(self, queries: Sequence[str], items: Integers, starts: Int64) -> None:
        self.number = {query: number for number, query in enumerate(queries)}
        self.items_clicked = items
        self.bounds = np.append(starts, len(items))

    def __getitem__(self, query: str) -> Integers:
        number = self.number[query]
        return self.items_clicked[self.bounds[number] : self.bounds[number + 1]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.number)

    def __len__(self) -> int:
        return len(self.number)


# The same of searches that are held in memory: whoever takes a sequence of contexts takes both.


def answered(searches: Sequence[SearchContext]) -> Sequence[SearchContext]:
    """Those with a clicked item."""
    return searches.answered if isinstance(searches, Searches) else [found for found in searches if found.clicked]


def days_of(searches: Sequence[SearchContext]) -> Int64:
    """Days since 1970-01-01, [S]."""
    return searches.days if isinstance(searches, Searches) else np.array([found.day for found in searches], np.int64)


def queries_of(searches: Sequence[SearchContext]) -> list[str]:
    """The distinct queries, sorted."""
    return searches.queries() if isinstance(searches, Searches) else sorted({found.query for found in searches})


def have_history(searches: Sequence[SearchContext]) -> npt.NDArray[np.bool_]:
    """Whether anything that its user did before is known, [S]."""
    if isinstance(searches, Searches):
        return searches.have_history
    known = (c.recent_queries or c.recent_clicks or c.long_clicks or c.long_orders for c in searches)
    return np.array([bool(behaviours) for behaviours in known], bool)


def users_of(searches: Sequence[SearchContext]) -> Int64:
    """A number for the user of each, [S]; each search without a user is somebody else's."""
    if isinstance(searches, Searches):
        return searches.users
    numbers: dict[str, int] = {}
    known = (numbers.setdefault(found.user_id, len(numbers)) if found.user_id else None for found in searches)
    return np.array([-1 - place if number is None else number for place, number in enumerate(known)], np.int64)


def ids_of(searches: Sequence[SearchContext]) -> list[str]:
    """The ID of each, [S]."""
    return searches.search_ids if isinstance(searches, Searches) else [found.search_id for found in searches]


def outcomes_of(searches: Sequence[SearchContext]) -> Iterable[Outcome | SearchContext]:
    """What each led to."""
    return searches.outcomes() if isinstance(searches, Searches) else searches


def pairs_of(searches: Sequence[SearchContext]) -> Sequence[tuple[str, int]]:
    """The (query, item row) of every click."""
    if isinstance(searches, Searches):
        return ClickedPairs(searches)
    return [(found.query, item) for found in searches for item in found.clicked]


def items_of(pairs: Sequence[tuple[str, int]]) -> Integers:
    """The item rows of clicked pairs, [P]."""
    return pairs.items if isinstance(pairs, ClickedPairs) else np.array([item for _, item in pairs], np.int64)


def items_by_query(pairs: Sequence[tuple[str, int]]) -> Mapping[str, Integers]:
    """The items clicked for each query, repeated as often as clicked, in the order of the pairs."""
    if isinstance(pairs, ClickedPairs):
        return pairs.by_query()
    found: dict[str, list[int]] = {}
    for query, item in pairs:
        found.setdefault(query, []).append(item)
    return {query: np.array(items) for query, items in found.items()}
