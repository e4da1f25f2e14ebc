"""Hard negatives in a catalogue on a line: who is near to whom is plain to see."""

import random

import pytest
import torch

from onesearch.data.hard_negatives import HardNegatives, confusable, mine_near
from onesearch.data.relations import Relations
from onesearch.types import UserError

ITEMS = [str(number) for number in range(20)]


def on_a_circle(texts):
    """Text "7" stands at 7 tenths of a radian: the nearest of a number are its neighbours."""
    angles = torch.tensor([float(text) for text in texts]) / 10
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def relations(q2i, judged=()):
    return Relations(q2i, [], [], [], list(judged))


def test_the_window_without_what_was_liked():
    """Query 0 ranks 0, 1, 2, … Of ranks 2 to 5 item 3 was clicked and item 4 judged relevant: 2 and 5 remain."""
    judged = [("0", 4, 2), ("0", 5, 1)]
    near = mine_near(relations([("0", 0), ("0", 3), ("19", 19)], judged), ITEMS, on_a_circle, HardNegatives(1, 2, 6))
    rows = {query: [row for row in near.rows[place].tolist() if row >= 0] for query, place in near.place.items()}
    assert rows == {"0": [2, 5], "19": [17, 16, 15, 14]}


def test_draws_what_is_there():
    """At most `num`, never an item twice; nothing for a text that is no query."""
    near = mine_near(relations([("0", 0), ("0", 3)]), ITEMS, on_a_circle, HardNegatives(1, 2, 6))
    rng = random.Random(0)
    assert sorted(near.draw("0", 9, rng)) == [2, 4, 5]
    assert {item for _ in range(50) for item in near.draw("0", 1, rng)} == {2, 4, 5}
    assert near.draw("7", 2, rng) == []


def test_a_catalogue_smaller_than_the_window():
    near = mine_near(relations([("0", 0)]), ITEMS[:3], on_a_circle, HardNegatives(1, 10, 100))
    assert near.draw("0", 2, random.Random(0)) == []


def test_confusable_judgments_are_the_most_alike():
    """Distances 9, 1, 3 and 0: half of them are 1 and 0, in their given order."""
    judged = [("0", 9, 3), ("4", 5, 0), ("3", 6, 1), ("7", 7, 2)]
    assert confusable(judged, ITEMS, on_a_circle, 0.5) == [("4", 5, 0), ("7", 7, 2)]
    assert confusable(judged, ITEMS, on_a_circle, 1.0) == judged
    assert confusable([], ITEMS, on_a_circle, 0.5) == []


def test_an_empty_window_is_refused():
    with pytest.raises(UserError, match=r"first_rank is 10 and hard\.last_rank is 10"):
        HardNegatives(1, 10, 10)


@pytest.mark.parametrize(
    ("name", "value"), [("num", -1), ("refresh", 0), ("first_epoch", -1), ("judged_share", 1.5), ("judged_share", -0.1)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=rf"hard\.{name} is {value}: give"):
        HardNegatives(**{name: value})
