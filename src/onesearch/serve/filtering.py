"""What a search may show: names, prices and lists that an item is held against. Light: the command line reads it.

Several values of a field are alternatives, several fields must all hold. Of what the catalogue does not say, a price
lies in no band and a name is none of those asked for; only stock is given the benefit of the doubt, since a shop that
records no stock would have nothing to show otherwise.
"""

import math
from dataclasses import dataclass, replace

import yaml

from onesearch.types import UserError

NAMES = ("category", "brand", "seller")
"""Fields that hold names which items have."""

SEPARATOR = " > "
"""Between the names of a category's path."""

ROOT = "> "
"""Before a path that must not be taken for a name: `> Women` is the root Women, and no Women elsewhere."""

Values = tuple[str, ...] | str
"""Values, each once, in order; a text is a single one."""

_LISTS = (*NAMES, "allow", "block")
_SHORT = 64  # blocked items that are left to the buckets: more would cost more beams than a trie of their own
_STEP = 16  # spare beams, so that lists of a like length walk together


@dataclass(frozen=True)
class Filter:
    """What an item must be to be shown.

    Args:
        category: a name anywhere on an item's path, or a path from its root on, as `Shoes > Women`; `> Women` is the
            root of that name. Several are alternatives, in brackets as ['Home, Garden', Shoes]. Upper and lower case
            are alike, as in the next two.
        brand: who makes it.
        seller: who sells it.
        price_min: what it costs at least.
        price_max: what it costs at most; an item whose price is unknown is in no band.
        in_stock: leave out what is known to be sold out; false: show it too.
        allow: IDs of the only items that may be shown; all may when not given, none when empty.
        block: IDs of items that must not be shown.
    """

    category: Values = ()
    brand: Values = ()
    seller: Values = ()
    price_min: float | None = None
    price_max: float | None = None
    in_stock: bool = True
    allow: Values | None = None
    block: Values = ()

    def __post_init__(self) -> None:
        for name in _LISTS:
            given = getattr(self, name)
            if given is not None:  # in one order, so that what means the same is the same
                values = {given} if isinstance(given, str) else set(given)
                object.__setattr__(self, name, tuple(sorted(values)))
        for name in ("price_min", "price_max"):
            price = getattr(self, name)
            if price is not None and not (0 <= price < math.inf):
                raise UserError(f"filter.{name} is {price}: give a number that is 0 or more.")
        if self.price_min is not None and self.price_max is not None and self.price_min > self.price_max:
            raise UserError(
                f"filter.price_min is {self.price_min:g} and price_max {self.price_max:g}: no price lies between."
            )

    @property
    def part(self) -> "Filter":
        """The filter whose part of the trie is walked: a short list of blocked items is left to the buckets.

        Such lists are a shopper's own. To cut the trie by each would cost more than the search, and nobody else's
        search could share it.
        """
        return replace(self, block=()) if self.spare else self

    @property
    def spare(self) -> int:
        """Beams beyond K, one at least for each item that is blocked in the buckets: it may be alone on its SID."""
        return -(-len(self.block) // _STEP) * _STEP if len(self.block) <= _SHORT else 0

    def __str__(self) -> str:
        """In words, for people."""
        told = [f"{name} {' or '.join(getattr(self, name))}" for name in NAMES if getattr(self, name)]
        if self.price_min is not None:
            told.append(f"from {self.price_min:g}")
        if self.price_max is not None:
            told.append(f"up to {self.price_max:g}")
        if self.allow is not None:
            told.append(f"{len(self.allow)} allowed")
        if self.block:
            told.append(f"{len(self.block)} blocked")
        return ", ".join([*told, "in stock" if self.in_stock else "sold out too"])


@dataclass(frozen=True)
class TypedFilter(Filter):
    """What an item must be to be shown; several values are a list in brackets, as ['Home, Garden', Shoes]."""

    def __post_init__(self) -> None:
        for name in _LISTS:
            given = getattr(self, name)
            if isinstance(given, str) and given.startswith("[") and given.endswith("]"):
                object.__setattr__(self, name, _listed(name, given))
        super().__post_init__()


def _listed(name: str, typed: str) -> tuple[str, ...]:
    """The values of a list, each the text that it is: an item ID may be 007, and a brand On."""
    try:
        values = yaml.load(typed, yaml.BaseLoader)  # which knows texts alone
    except yaml.YAMLError:
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"filter.{name}: {typed} is no list of names: write it as ['Home, Garden', Shoes].")
    return tuple(values)
