"""Hard negatives: what the encoder, as it is now, takes for an answer and shoppers do not.

For each query the items that stand at some ranks of the whole catalogue under the current encoder. The first ranks are
left out, since unclicked does not mean irrelevant (cf. Xiong et al. 2021, arXiv 2007.00808), and so is every item that
was clicked, bought or judged relevant for the query.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesearch.data.relations import Relations
from onesearch.models.nearest import nearest
from onesearch.types import UserError

RELEVANT = 2
"""Least grade of an item that is no negative."""

Judged = list[tuple[str, int, int]]


@dataclass(frozen=True)
class HardNegatives:
    """How many, and where from; ours, nothing is published.

    Args:
        num: hard negatives of each query–item pair; 0: none.
        first_rank: best rank of one, from 0.
        last_rank: worst rank, exclusive.
        refresh: epochs between two minings.
        first_epoch: the first that has any; before it a fresh encoder ranks nothing well.
        judged_share: share of the judgments that L_rel learns from, those of highest cosine first: the confusable ones.
    """

    num: int = 0
    first_rank: int = 10
    last_rank: int = 100
    refresh: int = 1
    first_epoch: int = 1
    judged_share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.first_rank < self.last_rank:
            raise UserError(
                f"hard.first_rank is {self.first_rank} and hard.last_rank is {self.last_rank}: give a window of ranks, "
                "the first below the last."
            )
        for name, least in (("num", 0), ("refresh", 1), ("first_epoch", 0)):
            if getattr(self, name) < least:
                raise UserError(f"hard.{name} is {getattr(self, name)}: give {least} or more.")
        if not 0 <= self.judged_share <= 1:
            raise UserError(f"hard.judged_share is {self.judged_share}: give a share from 0 to 1.")

    def due(self, epoch: int, has_mined: bool) -> bool:
        """Whether to mine at the start of an epoch; a fit that goes on has mined nothing yet."""
        wanted = self.num > 0 or self.judged_share < 1
        return wanted and epoch >= self.first_epoch and (not has_mined or epoch % self.refresh == 0)


class NearItems:
    """The items of some ranks of each query.

    Args:
        queries: distinct texts, [Q].
        rows: [Q, W] int32 item rows, -1 where an item is no negative.
    """

    def __init__(self, queries: Sequence[str], rows: NDArray[np.int32]) -> None:
        self.place = {query: place for place, query in enumerate(queries)}
        self.rows = rows

    def draw(self, query: str, num: int, rng: random.Random) -> list[int]:
        """At most `num` hard negatives of a query; none of a text that is no query of the log."""
        if query not in self.place:
            return []
        row = self.rows[self.place[query]]
        candidates: list[int] = row[row >= 0].tolist()
        return rng.sample(candidates, min(num, len(candidates)))


def mine_near(
    relations: Relations,
    item_texts: Sequence[str],
    embed: Callable[[Sequence[str]], Tensor],
    settings: HardNegatives,
) -> NearItems:
    """Rank the catalogue for every clicked query, and take what is near and was never chosen.

    Args:
        relations: what is known of the queries.
        item_texts: text of each item row, [N].
        embed: texts → unit vectors.
        settings: which ranks.
    """
    liked = defaultdict(set)
    for query, item in relations.q2i:
        liked[query].add(item)
    queries = sorted(liked)
    for query, item, grade in relations.judged:
        if grade >= RELEVANT:
            liked[query].add(item)
    ranked = nearest(embed(queries), embed(item_texts), settings.last_rank)
    rows = ranked[:, settings.first_rank :].numpy().astype(np.int32)
    for query, row in zip(queries, rows, strict=True):
        row[np.isin(row, list(liked[query]))] = -1
    return NearItems(queries, rows)


def confusable(
    judged: Judged, item_texts: Sequence[str], embed: Callable[[Sequence[str]], Tensor], share: float
) -> Judged:
    """The `share` of the judgments whose query and item are most alike, in their given order."""
    if not judged:
        return []
    queries = list(dict.fromkeys(query for query, *_ in judged))
    items = list(dict.fromkeys(item for _, item, _ in judged))
    query_place, item_place = ({value: place for place, value in enumerate(found)} for found in (queries, items))
    left, right = embed(queries), embed([item_texts[item] for item in items])
    one, other = [query_place[query] for query, *_ in judged], [item_place[item] for _, item, _ in judged]
    cosines = (left[one] * right[other]).sum(1)
    chosen = torch.topk(cosines, math.ceil(share * len(judged))).indices.sort().values
    return [judged[row] for row in chosen.tolist()]
