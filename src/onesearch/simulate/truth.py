"""What a simulated log cannot tell: how likely each shopper was to click and to buy each item, shown or not.

    click     P(click | seen)        = σ(a(u, i))                      a, c: see `simulate.sessions`
    order     P(order | click)       = σ(c + purse(u, i) + 0.7·quality(i))
    seen      P(position p is seen)  = (1 − g)^(p−1) · Π_{j<p} (1 − (1 − r)·P(click on i_j | seen))
    shown at p                         P(click) = seen · click,   P(click and order) = seen · click · order

g is the chance to give up after a position, r that of reading on after a click. The shopper stops at the first click
after which they do not read on, and whether they do is drawn apart from what they like: hence the product.

A marketplace is a pure function of its settings, so that playing it again from those in a log's manifest gives the
shopper's intent behind every search. Nothing is drawn besides, and nothing is kept: N numbers a search, when asked for.

Shapes: N items of the catalogue, n asked for, P shown.
"""

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onesearch.log.searches import ids_of
from onesearch.simulate.catalogue import Floats, Ints
from onesearch.simulate.marketplace import DAY, Marketplace
from onesearch.simulate.sessions import GIVING_UP, READING_ON, Search
from onesearch.simulate.simulator import item_names, open_mall, searches_table
from onesearch.types import SearchContext, UserError

if TYPE_CHECKING:
    from onesearch.log.prepared import Log


class Exposures(NamedTuple):
    """The truth about what was shown, a list for each search with a number for each item in display order."""

    click: list[Floats]  # P(click | seen)
    order: list[Floats]  # P(order | click)
    seen: list[Floats]  # P(seen), by the item's position and what stands above it


class Truth:
    """The probabilities of a simulated marketplace. Items are rows, searches are named by the log's IDs.

    Args:
        marketplace: its settings.
    """

    def __init__(self, marketplace: Marketplace) -> None:
        self.marketplace = marketplace
        self.mall = open_mall(marketplace)
        self.searches = self.mall.play()

    @classmethod
    def open(cls, log: "Log") -> "Truth":
        """The truth behind a prepared log.

        Raises:
            UserError: the log does not say from what it was simulated, or this version simulates another one from that.
        """
        settings = log.manifest.config.get("settings", {})
        if log.manifest.config["source"] != "Simulator" or not settings:
            raise UserError(
                f"{log.folder} does not hold the settings of a simulation: only a simulated log has a truth."
            )
        truth = cls(Marketplace(**{**settings, "start": datetime.date.fromisoformat(settings["start"])}))
        if not truth.is_behind(log):
            raise UserError(
                f"{log.folder} was simulated by another version of the simulator or of numpy, which drew other clicks: "
                "simulate it again to know the truth behind it."
            )
        return truth

    def is_behind(self, log: "Log") -> bool:
        """Whether a log holds these searches with these items and clicks."""
        again = searches_table(self.searches, self.marketplace)
        columns = ("search_id", "user_id", "query", "impressed", "clicked", "purchased")
        known = item_names(self.marketplace).to_pylist() == log.item_ids[: self.marketplace.num_items]
        return known and all(again[name].to_pylist() == log.searches[name].to_pylist() for name in columns)

    def search(self, search_id: str) -> Search:
        """A search with its intent."""
        return self.searches[int(search_id.removeprefix("s"))]

    def click(self, search_id: str, items: Ints) -> Floats:
        """P(click | seen) of item rows [n]."""
        search = self.search(search_id)
        return self.mall.attraction(search.user, search.second, search.intent, items)

    def order(self, search_id: str, items: Ints) -> Floats:
        """P(order | click) of item rows [n]."""
        return self.mall.conversion(self.search(search_id).user, items)

    def orders(self, search_id: str, items: Ints) -> Floats:
        """P(click and order | seen) of item rows [n]; 0 for items that were not on sale on the day of the search."""
        day = int(self.search(search_id).second // DAY)
        chances = self.click(search_id, items) * self.order(search_id, items)
        return np.where(np.isin(items, self.mall.catalogue.on_sale(items, day)), chances, 0.0)

    def seen(self, search_id: str) -> Floats:
        """P(seen) of each position of what was shown, [P]."""
        return seen(self.click(search_id, self.search(search_id).impressed))

    def of_exposures(self, searches: Sequence[SearchContext]) -> Exposures:
        """The truth about what was shown in searches of the log, in their order."""
        found = Exposures([], [], [])
        for search_id in ids_of(searches):
            shown = self.search(search_id).impressed
            found.click.append(self.click(search_id, shown))
            found.order.append(self.order(search_id, shown))
            found.seen.append(self.seen(search_id))
        return found


def seen(click: Floats) -> Floats:
    """P(seen) of each position of a list, from P(click | seen) of its items [P], as at the top of the module."""
    goes_on = (1 - GIVING_UP) * (1 - (1 - READING_ON) * click[:-1])
    return np.cumprod(np.concatenate([[1.0], goes_on]))
