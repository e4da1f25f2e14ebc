"""Graded relevance of (query, item) pairs, as an assessor sees it who knows the query and not the shopper.

3 excellent: the product, with every value that the query names · 2 related: the product, with other values ·
1 mismatch: another product of the department · 0 irrelevant.
"""

from typing import NamedTuple

import numpy as np

from onesearch.simulate.catalogue import COLUMN, Catalogue, Ints
from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.queries import Query, matches
from onesearch.simulate.sessions import Search


class Judgment(NamedTuple):
    """A graded pair."""

    query: str
    item: int
    grade: int


def judge(searches: list[Search], catalogue: Catalogue, department: Ints, config: Marketplace) -> list[Judgment]:
    """Sample pairs and grade them: half were shown, a quarter are of the department, a quarter of anywhere.

    Args:
        searches: the log's searches.
        catalogue: the items.
        department: [N] department of each item.
        config: the marketplace.
    """
    rng = config.chance("judgments")
    judgments: dict[tuple[str, int], Judgment] = {}
    for _ in range(4 * config.num_judgments if searches else 0):
        if len(judgments) == config.num_judgments:
            break
        search = searches[rng.integers(len(searches))]
        item = _candidate(search, department, rng)
        query = search.query
        # One text can come from two readings; the first one sampled stands.
        judgments.setdefault((query.text, item), Judgment(query.text, item, grade(query, item, catalogue, department)))
    return list(judgments.values())


def grade(query: Query, item: int, catalogue: Catalogue, department: Ints) -> int:
    """Relevance of an item to what a query says, 0 to 3."""
    values = catalogue.values[item : item + 1]
    if values[0, COLUMN["Entity"]] == query.entity:
        return 3 if matches(values, query.values)[0] == 1 else 2
    products = np.flatnonzero(catalogue.values[:, COLUMN["Entity"]] == query.entity)
    return int(department[item] in department[products])


def _candidate(search: Search, department: Ints, rng: np.random.Generator) -> int:
    kind = rng.random()
    if kind < 0.5:
        return int(rng.choice(search.impressed))
    if kind < 0.75:
        return int(rng.choice(np.flatnonzero(department == department[search.impressed[0]])))
    return int(rng.integers(len(department)))
