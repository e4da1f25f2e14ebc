"""Averages and paired differences of variants, by hand."""

import numpy as np
import pytest

from onesearch.ablation.averages import METRICS, averages, judged


def values(*variants):
    """[V, T, S, M] where every metric is the same."""
    return np.repeat(np.array(variants, dtype=float)[..., None], len(METRICS), axis=3)


def each(num_searches):
    """Every search is another user's."""
    return np.arange(num_searches)


def test_a_difference_is_measured_search_by_search():
    """Two seeds, four searches. Either seed of the second variant finds the second search, and nothing else is new.

    Its difference is the average of [0, 1, 0, 0] over four draws, Binomial(4, 1/4)/4: none with .316, at most two with
    .949, at most three with .996. So the 95% interval runs from 0 to 3/4. The variants' own averages are 3/8 and 5/8.
    """
    first, second = averages(values([[1, 0, 1, 0], [1, 0, 0, 0]], [[1, 1, 1, 0], [1, 1, 0, 0]]), each(4))
    assert first["differences"] == {}
    assert first["num_searches"] == second["num_searches"] == 4
    assert first["metrics"]["HR@10"]["value"] == pytest.approx(3 / 8)
    assert first["metrics"]["HR@10"]["seeds"] == [0.5, 0.25]
    assert second["metrics"]["HR@10"]["value"] == pytest.approx(5 / 8)
    assert second["metrics"]["HR@10"]["seeds"] == [0.75, 0.5]
    for metric in METRICS:
        assert second["differences"][metric] == {"value": 0.25, "low": 0.0, "high": 0.75, "seeds": [0.25, 0.25]}


def test_searches_of_one_user_are_drawn_together():
    """One user gains in each of three searches, another in none: an average of .75 that hangs on a single user.

    Of two users drawn with replacement, a quarter of the draws are the first one alone, a half both, a quarter the
    other alone: averages 1, 3/4 and 0. Were searches drawn apart, Binomial(4, 3/4)/4 would be below .25 with .004 only.
    """
    both = values([[0, 0, 0, 0]], [[1, 1, 0, 1]])
    gain = averages(both, np.array([7, 7, 2, 7]))[1]["differences"]["HR@10"]
    assert gain == {"value": 0.75, "low": 0.0, "high": 1.0, "seeds": [0.75]}
    assert averages(both, each(4))[1]["differences"]["HR@10"]["low"] == 0.25


def test_without_the_first_variant_nothing_is_compared():
    assert [row["differences"] for row in averages(values([[1, 0]], [[1, 1]]), each(2), compares=False)] == [{}, {}]


def test_what_every_search_gains_has_no_interval():
    """Searches are hard or easy for both: each variant's average is uncertain, the difference of .25 is not."""
    easy = np.tile([0.0, 0.25, 0.5, 0.75], 10)
    first, second = averages(values([easy], [easy + 0.25]), each(40))
    own = first["metrics"]["MRR@10"]
    assert own["high"] - own["low"] > 0.1
    gain = second["differences"]["MRR@10"]
    assert [gain["low"], gain["value"], gain["high"]] == pytest.approx([0.25] * 3)


def test_metrics_of_a_search():
    """Found at the third place, one of two; at the first, the only one; not at all."""
    ranked = np.array([[7, 8, 9, *range(10, 17)], [5, -1, *[-1] * 8], [1, 2, *[-1] * 8]])
    found = dict(zip(METRICS, judged(ranked, [{9, 99}, {5}, {3}]).T.tolist(), strict=True))
    assert found["HR@10"] == [1, 1, 0]
    assert found["recall@10"] == [0.5, 1, 0]
    assert found["MRR@10"] == pytest.approx([1 / 3, 1, 0])


def test_orders_are_averaged_over_the_searches_that_have_them():
    """Of four searches two led to an order: .5 and 1 under the first variant, 1 and 1 under the second, +.25.

    A slice without an order has no such figure, and the others stand as they were.
    """
    gaps = np.array([np.nan, 0.5, np.nan, 1.0])
    both = np.stack([values([[1, 0, 1, 0]])[0], values([[1, 1, 1, 0]])[0]])
    sold = np.stack([gaps, np.where(np.isnan(gaps), np.nan, 1.0)])[:, None, :, None]
    first, second = averages(np.concatenate([both, sold], axis=3), each(4))
    assert first["metrics"]["oNDCG@10"]["value"] == 0.75
    assert second["differences"]["oNDCG@10"]["value"] == pytest.approx(0.25)
    assert {**second["metrics"], "oNDCG@10": None} == {**averages(both, each(4))[1]["metrics"], "oNDCG@10": None}
    alone = averages(np.concatenate([both, sold], axis=3)[:, :, [0, 2]], each(2))
    assert [set(row["metrics"]) for row in alone] == [set(METRICS)] * 2
