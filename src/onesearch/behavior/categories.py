"""Which category a query asks for, and which of a shopper's behaviours are of it.

    wanted(q) = the most frequent leaf category of the items most clicked for q, or for queries like it, until the day
                before; where no click says anything, of the items nearest to q

OneSearch (arXiv 2509.03236) picks the relevant part of a long history by the query; by category is SIM's hard search
(arXiv 2006.05639).
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from onesearch.behavior.relevant import same_category
from onesearch.behavior.window import PADDING

UNKNOWN = -1
"""The category of an item without one, and of a query that nothing is known of."""


class Categories:
    """Leaf categories of items and queries.

    Args:
        of_items: number of each item's leaf category, [N], `UNKNOWN` where none is recorded.
        nearest: the items nearest to a query: (query, count) → item rows.
        num_votes: how many items say what a query asks for.
    """

    def __init__(
        self, of_items: NDArray[np.int64], nearest: Callable[[str, int], Sequence[int]], num_votes: int = 10
    ) -> None:
        self.of_items = of_items
        self.nearest = nearest
        self.num_votes = num_votes

    def wanted(self, query: str, clicked: Sequence[int]) -> int:
        """The category that a query asks for.

        Args:
            query: its words.
            clicked: item rows most clicked for it, or for queries like it, before the search; best first.
        """
        voted = self._vote(clicked[: self.num_votes])
        return voted if voted != UNKNOWN else self._vote(self.nearest(query, self.num_votes))

    def relevant(self, category: int, items: Sequence[int], k: int) -> list[int]:
        """The `k` latest of some items, oldest first, that are of a category; nothing is of an unknown one."""
        history = torch.from_numpy(self.of_items[list(items)])
        positions = same_category(torch.tensor(category), history, k).tolist()
        return [items[position] for position in positions if position != PADDING]

    def _vote(self, items: Sequence[int]) -> int:
        """The most frequent category of some items; of several the one that comes first."""
        votes = Counter(category for category in self.of_items[list(items)].tolist() if category != UNKNOWN)
        return votes.most_common(1)[0][0] if votes else UNKNOWN
