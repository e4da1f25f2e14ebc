import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from onesearch.evaluate.compare import ANONYMOUS, METRICS, SLICES, compare, slices
from onesearch.evaluate.figure import draw
from onesearch.evaluate.orders import ORDERS_METRIC, LoggedOrders
from onesearch.evaluate.table import steps_table, tables


class Fixed:
    """Answers each query from a table."""

    def __init__(self, name, answers):
        self.name, self.answers, self.asked = name, answers, []

    def rank(self, contexts, k):
        self.asked.extend(contexts)
        return [self.answers[search.query][:k] for search in contexts]


@pytest.fixture
def searches(make_search):
    """Four count: "a" new, "a" of a shopper with a click, "b" unseen and new, "b" of one with an order."""
    return [
        make_search("a", (0,), impressed=(0, 1)),
        make_search("a", (1,), long_clicks=(5,), purchased=(1,)),
        make_search("b", (2, 3)),
        make_search("b", (9,), long_orders=(5,)),
        make_search("b", ()),
    ]


@pytest.fixture
def comparison(searches):
    rankers = [
        Fixed("weak", {"a": [0], "b": []}),
        Fixed("strong", {"a": [0, 1], "b": []}),
        Fixed("onesearch-x", {"a": [1, 0], "b": [4, 3]}),
    ]
    return compare(rankers, searches, seen_queries={"a"}, num_resamples=200, batch_size=3)


def figure(comparison, system, slice_name, metric):
    (row,) = (r for r in comparison.rows if (r.system, r.slice, r.metric) == (system, slice_name, metric))
    return row


def test_figures_by_hand(comparison):
    """onesearch-x: hits at place 2 (of {0}), 1 (of {1}), 2 (of {2, 3}), none: MRR = (1/2 + 1 + 1/2 + 0) / 4 = 0.5.

    NDCG@10 of the third search = (1/log2 3) / (1 + 1/log2 3).
    """
    assert figure(comparison, "onesearch-x", "all", "HR@1").value == 0.25
    assert figure(comparison, "onesearch-x", "all", "HR@5").value == 0.75
    assert figure(comparison, "onesearch-x", "all", "MRR@10").value == 0.5
    second = 1 / math.log2(3)
    expected = (second + 1 + second / (1 + second)) / 4
    assert figure(comparison, "onesearch-x", "all", "NDCG@10").value == pytest.approx(expected)
    assert figure(comparison, "weak", "all", "HR@10").value == 0.25


def test_slices(comparison, searches):
    assert [figure(comparison, "strong", name, "HR@10").num_searches for name in SLICES] == [4, 2, 2, 2]
    assert [figure(comparison, "strong", name, "HR@10").value for name in SLICES] == [0.5, 0, 0.5, 0.5]
    members = slices(searches, {"a"})
    assert members["unseen"].tolist() == [False, False, True, True, True]
    assert members["returning"].tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("field", ["recent_queries", "recent_clicks", "long_clicks", "long_orders"])
def test_any_history_makes_a_returning_shopper(make_search, field):
    assert slices([make_search("a", (0,), **{field: (1,)})], set())["returning"].tolist() == [True]


def test_differences_are_to_the_best_baseline_of_the_metric(comparison):
    """HR@10, all: strong .5 is the best baseline, ours .75. HR@1, all: weak and strong tie at .25, the first stands.

    Where ours and the baseline hit the same searches, as on HR@10 of "a", the paired difference has no spread.
    """
    found = {(row.slice, row.metric): row for row in comparison.differences}
    assert {row.system for row in comparison.differences} == {"onesearch-x"}
    assert (found["all", "HR@10"].baseline, found["all", "HR@10"].value) == ("strong", 0.25)
    assert (found["all", "HR@1"].baseline, found["all", "HR@1"].value) == ("weak", 0.0)
    assert found["all", "HR@10"].low <= 0.25 <= found["all", "HR@10"].high
    same = found["returning", "HR@10"]
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_no_system_sees_the_answer(searches):
    spy = Fixed("spy", {"a": [], "b": []})
    compare([spy], searches, set(), num_resamples=2)
    assert len(spy.asked) == 4
    assert all((s.clicked, s.purchased, s.impressed) == ((), (), None) for s in spy.asked)
    assert spy.asked[1].long_clicks == (5,)


def test_intervals_hold_the_value_and_are_seeded(comparison, searches):
    assert all(row.low <= row.value <= row.high for row in comparison.rows)
    assert figure(comparison, "strong", "all", "HR@10").low < 0.5 < figure(comparison, "strong", "all", "HR@10").high
    rankers = [Fixed("weak", {"a": [0], "b": []})]
    assert compare(rankers, searches, {"a"}, 50) == compare(rankers, searches, {"a"}, 50)


def test_json(comparison, tmp_path):
    comparison.write(tmp_path / "compare.json")
    written = json.loads((tmp_path / "compare.json").read_text("utf-8"))
    assert len(written["rows"]) == 3 * len(SLICES) * len(METRICS)
    assert set(written["rows"][0]) == {"system", "slice", "metric", "value", "low", "high", "num_searches"}
    assert written["orders"] == ""
    assert set(written["differences"][0]) == {"system", "baseline", "slice", "metric", "value", "low", "high"}


def test_an_empty_slice_has_no_rows(make_search):
    found = compare([Fixed("one", {"a": [0]})], [make_search("a", (0,))], {"a"}, num_resamples=2)
    assert {row.slice for row in found.rows} == {"all", "new"}
    assert found.differences == []
    assert [table.title for table in tables(found.rows)] == ["all: 1 searches", "new: 1 searches"]


def test_user_mistakes(searches, make_search):
    one = Fixed("one", {"a": [0], "b": [0]})
    with pytest.raises(ValueError, match="No test search has a clicked item"):
        compare([one], [make_search("a")], set())
    with pytest.raises(ValueError, match=r"share a name.*: one, one"):
        compare([one, one], searches, set())
    one.rank = lambda contexts, k: [[0]]
    with pytest.raises(ValueError, match="'one' answered 1 of 4 searches"):
        compare([one], searches, set())


def test_table_prints_every_figure_with_the_best_in_bold(comparison):
    """In the slice "all" the best HR@10 is .75 and NDCG@10 that of onesearch-x; at HR@1 all three print 0.250."""
    console = Console(record=True, width=120, force_terminal=True, file=io.StringIO())
    for table in tables(comparison.rows):
        console.print(table)
    text = console.export_text(styles=True)
    everything = text.split("unseen: 2 searches")[0]
    assert "all: 4 searches" in everything
    assert everything.count("\x1b[1m0.250\x1b[0m") == 3
    assert "\x1b[1m0.750\x1b[0m" in everything
    assert "\x1b[1m0.500\x1b[0m (" not in everything  # HR@10 of "strong" is not the best


def test_80_columns_hold_every_name_and_figure(make_search):
    """The longest of our names, beside an interval, is not cut; a narrower terminal costs figures, never a name."""
    name = f"onesearch-personalize{ANONYMOUS}"
    found = compare([Fixed(name, {"a": [0]})], [make_search("a", (0,))], {"a"}, num_resamples=2)
    for width in (80, 60):
        console = Console(width=width, file=io.StringIO(), record=True)
        console.print(tables(found.rows)[0])
        text = console.export_text()
        assert name in text
        assert width < 80 or "1.000 (1.000–1.000)" in text
        assert "…" not in text or width < 80


def test_figure_is_a_picture_of_every_slice(comparison, tmp_path):
    """The SVG holds the systems' names and titles as text when fonts are not turned into paths."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        draw(comparison.rows, tmp_path / "compare.svg")
    text = (tmp_path / "compare.svg").read_text("utf-8")
    for words in ("onesearch-x", "unseen queries (n = 2)", "returning shoppers (n = 2)", "HR@10 with 95%"):
        assert words in text
    draw([row for row in comparison.rows if row.slice != "new"], tmp_path / "three.png")
    assert (tmp_path / "three.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw([], tmp_path / "none.png")


def test_bootstrap_is_paired_over_systems(searches):
    """Two equal systems under two names differ by nothing, in every resample."""
    answers = {"a": [0], "b": [2]}
    found = compare([Fixed("base", answers), Fixed("onesearch-same", answers)], searches, set(), num_resamples=20)
    assert np.all([[row.low, row.value, row.high] == [0, 0, 0] for row in found.differences])


def test_a_system_is_compared_with_itself_without_the_user(make_search):
    """Told who asks it finds one search more of two: +.5, beside -.5 to the baseline, which finds both."""
    searches = [make_search("a", (0,), user_id="u"), make_search("b", (1,), user_id="v")]
    rankers = [
        Fixed("base", {"a": [0], "b": [1]}),
        Fixed("onesearch-x", {"a": [0], "b": []}),
        Fixed("onesearch-x" + ANONYMOUS, {"a": [], "b": []}),
    ]
    found = compare(rankers, searches, {"a", "b"}, num_resamples=20)
    gains = {(row.system, row.baseline): row.value for row in found.differences if row.metric == "HR@10"}
    ours, unknown = "onesearch-x", "onesearch-x" + ANONYMOUS
    assert gains == {(ours, "base"): -0.5, (ours, unknown): 0.5, (unknown, "base"): -1.0}


def test_intervals_are_over_users(make_search):
    """Eight searches of one user are one draw: every resample is the same."""
    searches = [make_search("ab"[place % 2], (0,), user_id="u") for place in range(8)]
    rankers = [Fixed("base", {"a": [0], "b": []})]
    alone = figure(compare(rankers, searches, set(), 50), "base", "all", "HR@10")
    assert (alone.low, alone.value, alone.high) == (0.5, 0.5, 0.5)
    apart = [search._replace(user_id=f"u{place}") for place, search in enumerate(searches)]
    assert figure(compare(rankers, apart, set(), 50), "base", "all", "HR@10").low < 0.5


def test_orders_are_a_metric_of_the_searches_that_led_to_one(searches):
    """Only the second search ended with an order, of item 1: strong has it second, onesearch-x first, weak not at all.

    Slices without an order have no such row; counts are those of the judged searches.
    """
    rankers = [
        Fixed("weak", {"a": [0], "b": []}),
        Fixed("strong", {"a": [0, 1], "b": []}),
        Fixed("onesearch-x", {"a": [1, 0], "b": [4, 3]}),
    ]
    found = compare(rankers, searches, {"a"}, num_resamples=50, orders=LoggedOrders())
    rows = {(row.system, row.slice): row for row in found.rows if row.metric == ORDERS_METRIC}
    assert {part for _, part in rows} == {"all", "returning"}
    assert [rows[name, "all"].value for name in ("weak", "strong", "onesearch-x")] == [0, 1 / math.log2(3), 1]
    assert {row.num_searches for row in rows.values()} == {1}
    (gain,) = (row for row in found.differences if (row.slice, row.metric) == ("all", ORDERS_METRIC))
    assert (gain.baseline, gain.value) == ("strong", 1 - 1 / math.log2(3))
    assert found.orders == LoggedOrders.note
    without = compare(rankers, searches, {"a"}, num_resamples=50)
    assert [row for row in found.rows if row.metric != ORDERS_METRIC] == without.rows
    console = Console(width=90, file=io.StringIO(), record=True)
    console.print(tables(found.rows)[0])
    assert "oNDCG@10 (n=1)" in console.export_text()


def test_what_each_step_adds(make_search):
    """b finds one search more than a, re-sorting loses it: +.5 and −.5, printed with their sign, a line a pair."""
    searches = [make_search("a", (0,), user_id="u"), make_search("b", (1,), user_id="v")]
    rankers = [
        Fixed("onesearch-a", {"a": [0], "b": []}),
        Fixed("onesearch-b", {"a": [0], "b": [1]}),
        Fixed("onesearch-reranked", {"a": [0], "b": []}),
    ]
    pairs = [("onesearch-b", "onesearch-a"), ("onesearch-reranked", "onesearch-b")]
    found = compare(rankers, searches, {"a", "b"}, num_resamples=20, steps=pairs)
    gains = {(row.system, row.baseline): row.value for row in found.differences if row.metric == "HR@10"}
    assert gains == {pairs[0]: 0.5, pairs[1]: -0.5}
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(*steps_table(found.differences))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["b", "a", "+0.500", "+0.500"] in lines
    assert ["reranked", "b", "-0.500", "-0.500"] in lines
    assert steps_table(compare(rankers, searches, {"a", "b"}, num_resamples=2).differences) == []


def test_the_figure_shows_orders_beneath_clicks(searches, tmp_path):
    import matplotlib as mpl

    found = compare([Fixed("one", {"a": [1], "b": []})], searches, {"a"}, num_resamples=9, orders=LoggedOrders())
    with mpl.rc_context({"svg.fonttype": "none"}):
        draw(found.rows, tmp_path / "with.svg")
        draw([row for row in found.rows if row.metric != ORDERS_METRIC], tmp_path / "without.svg")
    texts = [(tmp_path / name).read_text("utf-8") for name in ("with.svg", "without.svg")]
    assert ["oNDCG@10" in text for text in texts] == [True, False]
