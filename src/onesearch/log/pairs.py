"""Pair mining for the aligned encoder: which queries, and which items, are about the same thing.

ItemCF over co-clicks, for items a, b clicked for common queries (and for queries clicked on common items alike):
    sim(a, b) = |Q_a ∩ Q_b| / sqrt(|Q_a| · |Q_b|)
"""

import ibis
import pyarrow as pa
from ibis import _
from ibis.expr.types import Table


def co_clicked(clicks: Table, of: str, by: str, min_similarity: float, top_k: int) -> Table:
    """Pairs of `of` that were clicked together through `by`, most similar first.

    Args:
        clicks: distinct (query, item_id) pairs.
        of: the column to be paired, `query` or `item_id`.
        by: the column that links them, the other one.
        min_similarity: least ItemCF similarity, 0 to 1.
        top_k: most partners of one text among those that come after it in alphabetical order; it may be a partner of
            any number of texts before it.

    Returns:
        left, right (left < right), similarity.
    """
    counted = clicks.group_by(of).mutate(degree=_.count())
    left = counted.select(_[by], left=_[of], left_degree=_.degree)
    right = counted.select(_[by], right=_[of], right_degree=_.degree)
    pairs = (
        left.join(right, by)
        .filter(_.left < _.right)
        .group_by("left", "right", "left_degree", "right_degree")
        .agg(common=_.count())
        .mutate(similarity=_.common / (_.left_degree * _.right_degree).cast("float64").sqrt())
        .filter(_.similarity >= min_similarity)
    )
    nearest = ibis.row_number().over(group_by="left", order_by=[_.similarity.desc(), _.right])
    return pairs.mutate(rank=nearest).filter(_.rank < top_k).select("left", "right", "similarity")


def mine(clicks: pa.Table, of: str, by: str, min_similarity: float, top_k: int) -> pa.Table:
    """`co_clicked` on the embedded engine, in a fixed order."""
    pairs = co_clicked(ibis.memtable(clicks), of, by, min_similarity, top_k).order_by("left", "right")
    return ibis.duckdb.connect().to_pyarrow(pairs)
