"""What the reward model counts of a shopper's past, a query's words and recorded facts, worked by hand."""

import math

import numpy as np
import pytest

from onesearch.models.reward_history import NUM_ANSWERS, NUM_MATCHES, match_answers, match_history
from onesearch.models.reward_items import LEAF, NONE, NUM_ATTRIBUTES, TOP, ItemFacts
from onesearch.models.reward_query import describe_shopper, match_words, session_queries
from onesearch.types import ATTRIBUTE_TYPES, SearchContext

BRAND, COLOR = ATTRIBUTE_TYPES.index("Brand"), ATTRIBUTE_TYPES.index("Color")
HOUR = 3_600_000_000
ITEMS = {
    "title": ["Red kettle", "Blue kettle 2l", "Red lamp", None],
    "brand": ["Acme", "acme", "Nord", None],
    "seller": [None] * 4,
    "category": [["Kitchen", "Kettles"], ["Kitchen", "Kettles"], ["Home", "Lamps"], None],
    "price": [10.0, 40.0, 15.0, None],
    "attributes": [[("Color", ["red"])], [("Color", ["blue"])], [("Color", ["red", "white"])], None],
}
FACTS = ItemFacts.of(ITEMS)


def search(**fields):
    empty = dict.fromkeys(SearchContext._fields, ())
    return SearchContext(**{**empty, "query": "red kettle", "day": 100, "profile": "", **fields})


def matches(candidates, longest=100, latest=20, **fields):
    return match_history(FACTS, search(**fields), np.array(candidates), longest, latest)


def test_facts_of_items():
    """Case does not tell brands apart; two of three known brands are Acme; prices are beside the category's median.

    Kettles of 10 and 40 have the median of their logs at log 20: −log 2 and log 2.
    """
    assert FACTS.values[:, BRAND].tolist() == [0, 0, 1, NONE]
    assert FACTS.values[:, COLOR].tolist() == [0, 1, 0, NONE]
    assert FACTS.values[:, LEAF].tolist() == FACTS.values[:, TOP].tolist() == [0, 0, 1, NONE]
    assert FACTS.shares[:, BRAND].tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1])
    assert FACTS.prices.tolist() == pytest.approx([-math.log(2), math.log(2), 0, 0])
    assert FACTS.terms[1] == {"blue", "kettle", "2", "l", "acme", "kitchen", "kettles"}
    assert FACTS.rarity["kettle"] == pytest.approx(math.log(5 / 2.5))


def test_the_bucket_of_a_value_does_not_depend_on_the_other_items():
    """What comes later, or is read alone, has the same number; nothing recorded is bucket 0."""
    alone = ItemFacts.of({name: column[1:2] for name, column in ITEMS.items()})
    assert alone.hashed[0].tolist() == FACTS.hashed[1].tolist()
    assert FACTS.hashed[0, BRAND] == FACTS.hashed[1, BRAND] != FACTS.hashed[2, BRAND]
    assert (FACTS.hashed[3] == 0).all()


def test_repeats_by_hand():
    """Clicks 0 1 0 2 on days 90, 95, 98, 100 of a search on day 100: item 0 twice, one click and two days ago."""
    found = matches([0, 1, 3], long_clicks=(0, 1, 0, 2), long_click_days=(90, 95, 98, 100))
    assert found[0, 0, :3].tolist() == pytest.approx([math.log(3), 1 / 2, 1 / 3])
    assert found[1, 0, :3].tolist() == pytest.approx([math.log(2), 1 / 3, 1 / 6])
    assert found[2, 0, :3].tolist() == [0, 0, 0]


def test_habits_by_hand():
    """Brands clicked: Acme 3, Nord 1; κ = 4: log((3 + 4·2/3)/(4 + 4)) − log(2/3). No habit is 0, and nor is no value.

    In the kitchen all three clicks are Acme: log((3 + 8/3)/(3 + 4)) − log(2/3).
    """
    found = matches([0, 2, 3], long_clicks=(0, 1, 0, 2), long_click_days=(90, 95, 98, 100))[:, 0]
    acme = math.log((3 + 8 / 3) / 8) - math.log(2 / 3)
    nord = math.log((1 + 4 / 3) / 8) - math.log(1 / 3)
    assert found[:, 3 + BRAND].tolist() == pytest.approx([acme, nord, 0])
    home = math.log((3 + 8 / 3) / 7) - math.log(2 / 3)
    assert found[0, 3 + NUM_ATTRIBUTES + BRAND] == pytest.approx(home)
    assert found[0, -6:-4].tolist() == pytest.approx([math.log(4)] * 2)


def test_the_latest_click_and_prices():
    """The latest is item 2: red as item 0, which shares one of its four values; it was today."""
    found = matches([0, 1], long_clicks=(1, 2), long_click_days=(99, 100))[:, 0]
    assert found[:, -4].tolist() == found[:, -3].tolist() == pytest.approx([1 / 4, 0])
    assert found[0, -2] == pytest.approx(-math.log(2) - math.log(2) / 2)
    assert matches([0], long_clicks=(1, 2), long_click_days=(98, 99))[0, 0, -3] == 0


def test_a_window_sees_the_latest_clicks_alone():
    """Of 0 0 2 the latest one is 2: no repeat of 0, n = 1; the whole has both."""
    found = matches([0], latest=1, long_clicks=(0, 0, 2), long_click_days=(98, 99, 100))[0]
    assert found[:, 0].tolist() == pytest.approx([math.log(3), 0])
    assert found[:, -1].tolist() == pytest.approx([math.log(4), math.log(2)])
    assert found.shape == (2, NUM_MATCHES)


def test_without_history_only_the_price_is_left():
    found = matches([0, 3])
    assert found[0, :, -2].tolist() == pytest.approx([-math.log(2)] * 2)
    assert np.count_nonzero(found) == 2


def test_answers_of_the_query():
    """Most clicked 2, 0: item 0 is the second, and red is what both are: log((2 + 4·2/3)/(2 + 4)) − log(2/3)."""
    found = match_answers(FACTS, search(cold_start=(2, 0)), np.array([0, 1]))
    assert found[:, -2].tolist() == [0.5, 0]
    assert found[0, COLOR] == pytest.approx(math.log((2 + 8 / 3) / 6) - math.log(2 / 3))
    assert found[0, -1] == pytest.approx(math.log(3))
    assert match_answers(FACTS, search(), np.array([0])).tolist() == [[0] * NUM_ANSWERS]


def test_words_of_query_and_session():
    """Of "red kettle", red is in two items and kettle in two: each is half. "blu" is no word of theirs: not counted."""
    found = match_words(FACTS, search(query="red kettle blu"), [0, 1, 2])
    assert found[:, 0].tolist() == found[:, 1].tolist() == pytest.approx([1, 0.5, 0.5])
    times = (100 * 24 * HOUR - HOUR, 100 * 24 * HOUR + HOUR // 2, 100 * 24 * HOUR + 3 * HOUR // 4)
    asked = search(query="kettle", recent_queries=("lamp", "blue kettle", "kettle"), recent_query_times=times)
    assert session_queries(asked) == ["blue kettle", "kettle"]
    assert match_words(FACTS, asked, [0, 1])[:, 2:].tolist() == [[0, 1], [1, 1]]
    assert session_queries(asked._replace(day=101)) == []


def test_a_shoppers_figures():
    """Three clicks, one order, two queries of which the second began the session; one click since the first query."""
    start = 100 * 24 * HOUR
    found = describe_shopper(
        search(
            long_clicks=(0, 1, 2),
            long_orders=(1,),
            recent_queries=("lamp", "red kettle"),
            recent_query_times=(start - 9 * HOUR, start + HOUR),
            recent_clicks=(0, 1),
            recent_click_times=(start - 10 * HOUR, start + HOUR),
        )
    )
    assert found == pytest.approx([math.log(4), math.log(3), 2 / 4, math.log(2), 2 / 13, 1, 1, 1, 2])
