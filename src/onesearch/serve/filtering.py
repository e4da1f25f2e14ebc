"""What a search may show: names, prices and lists that an item is held against. Light: the command line reads it.

Several values of a field are alternatives, several fields must all hold. Of what the catalogue does not say, a price
lies in no band and a name is none of those asked for; only stock is given the benefit of the doubt, since a shop that
records no stock would have nothing to show otherwise.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from onesearch.types import UserError

NAMES = ("category", "brand", "seller")
"""Fields that hold names which items have."""

SEPARATOR = " > "
"""Between the names of a category's path."""

Values = tuple[str, ...] | str
"""Values, each once, in order; given as one text they are a single value, or several as [A, B]."""


@dataclass(frozen=True)
class Filter:
    """What an item must be to be shown.

    Args:
        category: a name anywhere on an item's path, or a path from its root on, as `Shoes > Women`; [A, B] are
            alternatives. Upper and lower case are alike, as in the next two.
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
        for name in (*NAMES, "allow", "block"):
            given = getattr(self, name)
            if given is not None:  # in one order, so that what means the same is the same
                object.__setattr__(self, name, tuple(sorted(set(_values(given)))))
        for name in ("price_min", "price_max"):
            price = getattr(self, name)
            if price is not None and not (0 <= price < math.inf):
                raise UserError(f"filter.{name} is {price}: give a number that is 0 or more.")
        if self.price_min is not None and self.price_max is not None and self.price_min > self.price_max:
            raise UserError(
                f"filter.price_min is {self.price_min:g} and price_max {self.price_max:g}: no price lies between."
            )

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


def _values(given: Iterable[str]) -> Iterable[str]:
    """A command line has numbers in brackets as a text: item IDs may be numbers, and may begin with 0."""
    if not isinstance(given, str):
        return given
    is_list = given.startswith("[") and given.endswith("]")
    return [part.strip(" '\"") for part in given[1:-1].split(",")] if is_list else [given]
