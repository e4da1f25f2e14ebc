"""The category that a query asks for, and the behaviours of that category, by hand."""

import numpy as np
import pytest

from onesearch.behavior.categories import UNKNOWN, Categories

OF_ITEMS = np.array([7, 7, 8, 9, UNKNOWN])


def categories(nearest=(), **options):
    """Items 0 and 1 are of category 7, then 8 and 9; item 4 is of none."""
    return Categories(OF_ITEMS, lambda query, k: nearest[:k], **options)


@pytest.mark.parametrize(
    ("clicked", "nearest", "wanted"),
    [
        ((2, 0, 1), (3,), 7),  # two of three
        ((2, 0), (3,), 8),  # one each: the most clicked one
        ((4, 3), (0,), 9),  # what has no category has no vote
        ((), (3, 2), 9),  # no click: the nearest items
        ((4,), (2,), 8),  # no click that says anything
        ((), (4,), UNKNOWN),
        ((), (), UNKNOWN),
    ],
)
def test_the_wanted_category(clicked, nearest, wanted):
    assert categories(nearest).wanted("q", clicked) == wanted


def test_only_the_most_clicked_vote():
    """With two votes the two items of category 7 behind them do not count."""
    assert categories(num_votes=2).wanted("q", (2, 3, 0, 1)) == 8
    assert categories((2, 3, 0, 1), num_votes=2).wanted("q", ()) == 8


def test_relevant_are_the_latest_of_the_category_by_time():
    """History 0 2 1 3 4: of category 7 items 0 and 1, of which 1 is the later."""
    history = (0, 2, 1, 3, 4)
    assert categories().relevant(7, history, 5) == [0, 1]
    assert categories().relevant(7, history, 1) == [1]
    assert categories().relevant(8, history, 5) == [2]
    assert categories().relevant(UNKNOWN, history, 5) == []
