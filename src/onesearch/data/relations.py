"""What the log says belongs together, for the aligned encoder (KHQE, method §1.1).

q2i     a query and an item clicked or bought for it
q2q     two queries, i2i two items, mined from co-clicks (`log.pairs`)
ranked  a query with an item that was ordered, one that was clicked, one that was shown and not clicked
judged  a query and an item with a grade of relevance
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from onesearch.log.pairs import PairMiner, mine_all
from onesearch.log.prepared import Log
from onesearch.log.searches import Outcome, outcomes_of, queries_of
from onesearch.log.text import normalize_query
from onesearch.types import SearchContext


@dataclass(frozen=True)
class Relations:
    """Items by row, queries as texts."""

    q2i: list[tuple[str, int]]
    q2q: list[tuple[str, str]]
    i2i: list[tuple[int, int]]
    ranked: list[tuple[str, int | None, int | None, int | None]]  # query, ordered, clicked, shown
    judged: list[tuple[str, int, int]]  # query, item, grade


def mine_relations(log: Log, contexts: Sequence[SearchContext], miners: Sequence[PairMiner]) -> Relations:
    """All relations of some searches; several miners of pairs add up."""
    fitted = set(queries_of(contexts))
    q2i = [(c.query, item) for c in outcomes_of(contexts) for item in c.clicked + c.purchased]
    distinct = sorted({(query, log.item_ids[item]) for query, item in q2i})
    clicks = pa.table({"query": [q for q, _ in distinct], "item_id": [i for _, i in distinct]})
    i2i = mine_all(clicks, "item_id", "query", miners)
    return Relations(
        q2i=q2i,
        q2q=mine_all(clicks, "query", "item_id", miners),
        i2i=[(log.row_of[left], log.row_of[right]) for left, right in i2i],
        ranked=[triple for context in outcomes_of(contexts) for triple in _ranked(context)],
        judged=[
            (normalize_query(row["query"]), log.row_of[row["item_id"]], row["grade"])
            for row in log.judgments.to_pylist()
            # Judgments bear no date: one on a query that only the test knows would tell of the future.
            if row["item_id"] in log.row_of and normalize_query(row["query"]) in fitted
        ],
    )


def _ranked(context: Outcome | SearchContext) -> Iterator[tuple[str, int | None, int | None, int | None]]:
    """One ordered, one clicked and one skipped item of a search that has at least two of the three kinds."""
    clicked = [item for item in context.clicked if item not in context.purchased]
    skipped = [item for item in context.impressed or () if item not in context.clicked]
    first = [items[0] if items else None for items in (list(context.purchased), clicked, skipped)]
    if sum(item is not None for item in first) >= 2:
        yield context.query, first[0], first[1], first[2]
