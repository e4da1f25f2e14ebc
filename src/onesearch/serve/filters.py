"""Filters as parts of the trie: a beam walks over the SIDs of items that pass, and over no other.

    filter → items that pass [N] → SIDs with such an item [S] → the trie of these SIDs → beams → items that pass

A list that is filtered after the beam shrinks, to nothing where the filter is narrow; a beam inside the part finds the
best K SIDs of the part, with the probabilities that they have in the whole. Compiled filters are kept: the part of a
trie costs a fraction of a second at a million items. A short list of blocked items, which is a shopper's own, cuts no
trie: they are left out of the buckets, and as many beams more are walked.

A name that no item has is refused, with names that are like it: it is a slip of the pen, and an empty list would look
like an empty shelf. An item ID that is unknown is passed over: lists of IDs come from other systems, which know of
items sooner or later than the catalogue does, and no search should fail for it.
"""

import difflib
import heapq
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from onesearch.log.prepared import Log
from onesearch.log.schema import Column
from onesearch.serve.filtering import NAMES, ROOT, SEPARATOR, Filter
from onesearch.sid.table import SidTable
from onesearch.sid.trie import Trie
from onesearch.types import UserError

Mask = NDArray[np.bool_]

_JOINT = "\x1f"  # between the names of a path while it is one text: the unit separator, which no name has
_LIKE_ENOUGH = 500  # names that a wrong one is compared with, the most frequent: more would take too long
_COMPARABLE = 48  # letters of a name, and of those that it is compared with, for the same reason


class Passing(NamedTuple):
    """What passes a filter."""

    items: Mask  # [N]
    trie: Trie | None  # of the SIDs of these items; None: no item passes
    num_items: int
    spare: int = 0  # beams beyond K, for SIDs of the trie that may have no item left


class Choice(NamedTuple):
    """A name or path to filter by."""

    value: str  # as a filter takes it
    path: tuple[str, ...]
    num_items: int  # that it lets pass


class Named:
    """Who has which name: a column of names, or of paths of names.

    Names that differ in upper and lower case alone are one name, spelled as the most items have it.

    Args:
        field: what it is called in a filter.
        column: [N] a name an item, or the names of a path with `_JOINT` between them; null or empty: unknown.
    """

    def __init__(self, field: str, column: Column) -> None:
        self._field = field
        coded = column.combine_chunks().dictionary_encode()
        paths = [tuple(filter(None, text.split(_JOINT))) for text in coded.dictionary.to_pylist()]
        self._path_of = np.asarray(coded.indices.fill_null(len(paths)))  # [N]
        self._counts = np.bincount(self._path_of, minlength=len(paths) + 1)  # the last one is that of the unknown
        self._paths: dict[str, list[int]] = {}  # folded name or beginning → paths that have it
        self._rooted: dict[str, list[int]] = {}  # folded beginning → paths that begin so
        self._spelling: dict[str, str] = {}
        self._beginnings: dict[str, tuple[str, ...]] = {}  # folded beginning → its names
        for number in np.argsort(-self._counts[:-1], kind="stable").tolist():  # the most frequent spelling comes first
            path = paths[number]
            beginnings = {SEPARATOR.join(path[:depth]): path[:depth] for depth in range(1, len(path) + 1)}
            for text, beginning in beginnings.items():
                _add(self._rooted, text.casefold(), number)
                self._beginnings.setdefault(text.casefold(), beginning)
            for text in (*path, *beginnings):
                _add(self._paths, text.casefold(), number)
                self._spelling.setdefault(text.casefold(), text)

    def having(self, names: Iterable[str]) -> Mask:
        """[N] which items have one of the names."""
        chosen = np.zeros(len(self._counts), dtype=bool)
        for name in names:
            chosen[self._of(name)] = True
        having: Mask = chosen[self._path_of]
        return having

    def knows(self, name: str) -> bool:
        """Whether an item has a name."""
        return bool(self._of(name))

    def check(self, names: Iterable[str]) -> None:
        """Refuse a name that no item has.

        Raises:
            UserError: it names it, and some that are like it.
        """
        for name in names:
            if not self.knows(name):
                raise UserError(f"filter.{self._field}: no item has the {self._field} '{name}' ({self._hint(name)}).")

    @cached_property
    def choices(self) -> list[Choice]:
        """All names, and all that paths begin with: those of the most items first, a path after what it begins with."""
        found = []
        for folded, path in self._beginnings.items():
            text = SEPARATOR.join(path)
            is_elsewhere = len(self._paths[folded]) > len(self._rooted[folded])
            value = ROOT + text if is_elsewhere else text
            found.append(Choice(value, path, int(self._counts[self._of(value)].sum())))
        return sorted(found, key=lambda one: (-one.num_items, len(one.path), one.path))

    def _of(self, name: str) -> list[int]:
        """Paths that have a name, or begin as it says."""
        folded = name.casefold()
        if folded in self._paths:
            return self._paths[folded]
        return self._rooted.get(folded.removeprefix(ROOT), []) if folded.startswith(ROOT) else []

    def _hint(self, name: str) -> str:
        if not self._paths:
            return "none is recorded at all: leave it out"
        folded, short = name.casefold().removeprefix(ROOT), [one for one in self._frequent if len(one) <= _COMPARABLE]
        like = [one for one in self._frequent if folded and folded in one][:3]
        if len(folded) <= _COMPARABLE:
            like += difflib.get_close_matches(folded, short)
        some = [f"'{self._spelling[one]}'" for one in list(dict.fromkeys(like))[:3] or self._frequent[:3]]
        return f"{'like it' if like else 'the most items have'}: {', '.join(some)}"

    @cached_property
    def _frequent(self) -> list[str]:
        """Folded names, those of the most items first."""
        counts = self._counts.tolist()
        num_items = {name: sum(counts[number] for number in numbers) for name, numbers in self._paths.items()}
        return heapq.nlargest(_LIKE_ENOUGH, num_items, key=num_items.__getitem__)


def _add(numbers: dict[str, list[int]], text: str, number: int) -> None:
    """Append a number once, also where a path has one name twice."""
    known = numbers.setdefault(text, [])
    if known[-1:] != [number]:
        known.append(number)


class Filters:
    """The filters of one catalogue, compiled when they are asked for.

    Args:
        log: with the items of the catalogue.
        table: their SIDs.
        trie: of the same SIDs, on the device of those who walk it.
        most: compiled filters that are kept, those that were asked for last. Each takes 20 to 35 MB where most of a
            million items pass, and 1 or 2 where few do.
    """

    def __init__(self, log: Log, table: SidTable, trie: Trie, most: int = 32) -> None:
        self.log = log
        self._trie = trie
        items = log.items
        assert len(items) == len(table.codes), "the log must have the items of the SIDs"
        self._leaf_of = table.sid_rows(table.codes)  # [N]
        self.names = {
            "category": Named("category", pc.binary_join(items["category"], _JOINT)),
            "brand": Named("brand", items["brand"]),
            "seller": Named("seller", items["seller"]),
        }
        self.prices = np.asarray(items["price"].fill_null(np.nan))  # [N] NaN: unknown, in no band
        self.available = np.asarray(items["available"].fill_null(True))  # [N]
        self._compiled = lru_cache(maxsize=most)(self._compile)

    def of(self, wanted: Filter) -> Passing:
        """The items that pass a filter, and the trie whose SIDs have them.

        Raises:
            UserError: see `check`.
        """
        part = self._compiled(wanted.part)
        if not wanted.spare:
            return part
        passes = part.items & ~self._listed(wanted.block)
        return Passing(passes, part.trie, int(np.count_nonzero(passes)), wanted.spare)

    def knows(self, wanted: Filter) -> bool:
        """Whether there is what a filter names: `check`, without the sentence, and so at once."""
        return all(self.names[field].knows(name) for field in NAMES for name in getattr(wanted, field))

    def check(self, wanted: Filter) -> None:
        """Refuse a filter that names what there is not, before it is compiled.

        Raises:
            UserError: no item has a category, brand or seller.
        """
        for name in NAMES:
            self.names[name].check(getattr(wanted, name))

    def _compile(self, wanted: Filter) -> Passing:
        """The items that pass a filter, and the trie of their SIDs."""
        self.check(wanted)
        passes = self.available.copy() if wanted.in_stock else np.ones(len(self.available), dtype=bool)
        for name in NAMES:
            if names := getattr(wanted, name):
                passes &= self.names[name].having(names)
        if wanted.price_min is not None:
            passes &= self.prices >= wanted.price_min
        if wanted.price_max is not None:
            passes &= self.prices <= wanted.price_max
        if wanted.allow is not None:
            passes &= self._listed(wanted.allow)
        if wanted.block:
            passes &= ~self._listed(wanted.block)
        return Passing(passes, self._part(passes), int(passes.sum()))

    def _listed(self, item_ids: Iterable[str]) -> Mask:
        rows = (self.log.row_of.get(item_id) for item_id in item_ids)
        listed = np.zeros(len(self.available), dtype=bool)
        listed[[row for row in rows if row is not None]] = True
        return listed

    def _part(self, passes: Mask) -> Trie | None:
        """The trie of the SIDs of some items."""
        leaves = np.zeros(self._trie.num_sids, dtype=bool)
        leaves[self._leaf_of[passes]] = True
        if leaves.all():
            return self._trie
        return self._trie.within(torch.from_numpy(leaves)) if leaves.any() else None
