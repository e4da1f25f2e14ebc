"""Pair mining for the aligned encoder: which queries, and which items, are about the same thing.

Both miners look at texts a, b (items, or queries) through the links that they share (the queries that led to both
items, or the items that both queries led to):

    ItemCF   sim(a, b) = |U_a ∩ U_b| / sqrt(|U_a| · |U_b|)                      U_a: the links of a
    Swing    sim(a, b) = Σ_{u < v ∈ U_a ∩ U_b} w_u·w_v / (α + |I_u ∩ I_v|)      I_u: the texts of link u
             w_u = 1 / sqrt(|I_u|)

Swing (Yang et al. 2020, arXiv 2010.05525) believes two links the more, the less they have in common otherwise. In use
are a plain form with w = 1 and this one, which damps busy links; we take this one, each pair u, v counted once.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import pyarrow as pa
from ibis import _
from ibis.expr.types import Table


class PairMiner(ABC):
    """A way to find texts that belong together."""

    @abstractmethod
    def pairs(self, edges: Table) -> Table:
        """Pairs of texts, most similar first.

        Args:
            edges: distinct (link, text).

        Returns:
            left, right (left < right), similarity.
        """


@dataclass(frozen=True)
class ItemCf(PairMiner):
    """Share of common links.

    Args:
        min_similarity: least similarity, 0 to 1.
        top_k: most partners of one text among those that come after it in alphabetical order; it may be a partner of
            any number of texts before it.
        max_degree: see `Swing`; None: everything is counted, in time and memory that grow with the busiest link's
            square.
    """

    min_similarity: float = 0.1
    top_k: int = 20
    max_degree: int | None = None

    def pairs(self, edges: Table) -> Table:
        """Count the links that two texts share."""
        if self.max_degree is not None:
            edges = _capped(edges, self.max_degree)
        counted = edges.group_by("text").mutate(degree=_.count())
        left = counted.select("link", left=_.text, left_degree=_.degree)
        right = counted.select("link", right=_.text, right_degree=_.degree)
        pairs = (
            left.join(right, "link")
            .filter(_.left < _.right)
            .group_by("left", "right", "left_degree", "right_degree")
            .agg(common=_.count())
            .mutate(similarity=_.common / (_.left_degree * _.right_degree).cast("float64").sqrt())
            .filter(_.similarity >= self.min_similarity)
        )
        return _nearest(pairs, self.top_k)


@dataclass(frozen=True)
class Swing(PairMiner):
    """Pairs of links that share two texts and little else.

    Args:
        alpha: α, smoothing.
        top_k: most partners of one text among those that come after it in alphabetical order.
        max_degree: most texts of a link, the best linked ones, and most links of a text, those with the fewest texts;
            the rest is left out before anything is counted. It bounds the work, which grows with its square.
    """

    alpha: float = 1.0
    top_k: int = 20
    max_degree: int = 100

    def pairs(self, edges: Table) -> Table:
        """Find the links that share texts, then the pairs of those texts."""
        edges = _capped(edges, self.max_degree).group_by("link").mutate(degree=_.count())
        one = edges.select("text", u=_.link, u_degree=_.degree)
        other = edges.select("text", v=_.link, v_degree=_.degree)
        shared = one.join(other, "text").filter(_.u < _.v).group_by("u", "v").mutate(common=_.count())
        weight = 1 / ((_.u_degree * _.v_degree).cast("float64").sqrt() * (self.alpha + _.common))
        left = shared.filter(_.common > 1).select("u", "v", left=_.text, weight=weight)
        right = shared.select("u", "v", right=_.text)
        swings = left.join(right, ["u", "v"]).filter(_.left < _.right)
        # A sum of floats depends on its order, which a parallel engine does not keep: the digits beyond are noise.
        pairs = swings.group_by("left", "right").agg(similarity=_.weight.sum().round(12))
        return _nearest(pairs, self.top_k)


def _capped(edges: Table, most: int) -> Table:
    """The `most` best linked texts of each link, and the `most` most specific links of each text."""
    edges = edges.group_by("text").mutate(num_links=_.count()).group_by("link").mutate(num_texts=_.count())
    of_link = ibis.row_number().over(group_by="link", order_by=[_.num_links.desc(), _.text])
    of_text = ibis.row_number().over(group_by="text", order_by=[_.num_texts, _.link])
    ranked = edges.mutate(of_link=of_link, of_text=of_text)
    return ranked.filter(_.of_link < most, _.of_text < most).select("link", "text")


def _nearest(pairs: Table, top_k: int) -> Table:
    rank = ibis.row_number().over(group_by="left", order_by=[_.similarity.desc(), _.right])
    return pairs.mutate(rank=rank).filter(_.rank < top_k).select("left", "right", "similarity")


def mine(clicks: pa.Table, of: str, by: str, miner: PairMiner) -> pa.Table:
    """Run a miner on the embedded engine, in a fixed order.

    Args:
        clicks: distinct (query, item_id) pairs.
        of: the column to be paired, `query` or `item_id`.
        by: the column that links them, the other one.
        miner: how.

    Returns:
        left, right (left < right), similarity.
    """
    edges = ibis.memtable(clicks).select(link=_[by], text=_[of])
    return ibis.duckdb.connect().to_pyarrow(miner.pairs(edges).order_by("left", "right"))


def mine_all(clicks: pa.Table, of: str, by: str, miners: Sequence[PairMiner]) -> list[tuple[str, str]]:
    """What any of the miners finds, each pair once, in a fixed order; arguments as of `mine`."""
    tables = [mine(clicks, of, by, miner) for miner in miners]
    return sorted({(row["left"], row["right"]) for table in tables for row in table.to_pylist()})
