from types import SimpleNamespace

import pyarrow as pa
import pytest

from onesearch.evaluate.baselines import Cascade, Lookup, Popularity, baselines


@pytest.fixture
def history(make_search):
    """Clicks: item 2 three times, items 0 and 1 twice each, and of these 1 was clicked last."""
    clicks = [("tv", (0,)), ("tv", (0, 2)), ("hdmi cable", (1, 2)), ("radio", ()), ("tv", (2,)), ("hdmi cable", (1,))]
    return [make_search(query, clicked) for query, clicked in clicks]


def test_popularity_counts_clicks_and_breaks_ties_by_recency(history, make_search):
    ranker = Popularity(history)
    assert ranker.rank([make_search("tv"), make_search("radio")], 10) == [[2, 1, 0]] * 2
    assert ranker.rank([make_search("tv")], 1) == [[2]]


def test_lookup_knows_only_clicks_of_the_same_query(history, make_search):
    """ "tv": items 0 and 2 twice each, 2 last. "radio" was asked but never clicked; "laptop" was never asked."""
    searches = [make_search(query) for query in ("tv", "hdmi cable", "radio", "laptop")]
    assert Lookup(history).rank(searches, 10) == [[2, 0], [1, 2], [], []]
    assert Lookup(history).rank(searches, 1) == [[2], [1], [], []]


def test_cascade_fills_up_without_repeating(history, make_search):
    """ "hdmi cable" → lookup [1, 2], then what popularity [2, 1, 0] adds: 0. "laptop" → popularity alone."""
    cascade = Cascade([Lookup(history), Popularity(history)])
    assert cascade.rank([make_search("hdmi cable"), make_search("laptop")], 3) == [[1, 2, 0], [2, 1, 0]]
    assert cascade.rank([make_search("hdmi cable")], 2) == [[1, 2]]
    assert cascade.rank([], 2) == []


def test_baselines_are_fitted_before_the_test_boundary(make_search):
    """Item 2 is clicked in the test period only: no baseline may know it. A null title matches nothing."""
    split_of = {
        "train": [make_search("tv", (0,))],
        "validation": [make_search("radio", (1,))],
        "test": [make_search("tv", (2,))] * 5,
    }
    log = SimpleNamespace(
        contexts=lambda *splits: [search for split in splits for search in split_of[split]],
        items=pa.table({"title": ["tv", "radio", None]}),
    )
    popularity, lookup, bm25, cascade = baselines(log)
    assert [ranker.name for ranker in (popularity, lookup, bm25, cascade)] == [
        "popularity",
        "lookup",
        "bm25",
        "cascade",
    ]
    asked = [make_search("radio"), make_search("tv")]
    assert popularity.rank(asked, 5) == [[1, 0]] * 2
    assert lookup.rank(asked, 5) == bm25.rank(asked, 5) == [[1], [0]]
    assert cascade.rank(asked, 5) == [[1, 0], [0, 1]]
