"""Grades of pairs that are easy to grade by hand."""

import numpy as np

from onesearch.simulate.catalogue import COLUMN, make_catalogue
from onesearch.simulate.judgments import grade, judge
from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.queries import Query
from onesearch.simulate.vocabulary import load_vocabulary


def test_grades() -> None:
    """Query "(its colour) X" against: the item itself 3, another colour of X 2, other product near 1, far 0."""
    vocabulary, config = load_vocabulary(), Marketplace(num_items=600)
    catalogue = make_catalogue(vocabulary, config)
    department = np.array([leaf.department for leaf in vocabulary.categories])[catalogue.category]
    colour, entity = catalogue.values[:, COLUMN["Color"]], catalogue.values[:, COLUMN["Entity"]]
    item = int(np.flatnonzero(colour < catalogue.absent)[0])
    query = Query("", int(entity[item]), (int(colour[item]),))
    same = entity == entity[item]
    expected = np.select([same & (colour == colour[item]), same, department == department[item]], [3, 2, 1], 0)
    assert set(expected) == {0, 1, 2, 3}
    assert [grade(query, row, catalogue, department) for row in range(600)] == expected.tolist()


def test_no_searches_no_judgments() -> None:
    config = Marketplace(num_items=100)
    catalogue = make_catalogue(load_vocabulary(), config)
    assert judge([], catalogue, np.zeros(100, np.int64), config) == []
