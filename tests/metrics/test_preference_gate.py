"""Figures of the gate against counts by hand, brute force, and the bootstrap for intervals."""

import numpy as np
import pytest

from onesearch.evaluate.bootstrap import interval, resampled_means
from onesearch.metrics.preference_gate import (
    LEARNT_FROM,
    Gate,
    JudgedBeam,
    PairColumns,
    beam_figures,
    clustered_interval,
    invalid_figures,
    judge,
    list_figures,
)
from onesearch.types import UserError

GOOD = {
    "changed": 0.5,
    "judged_on": "validation",
    "agreement": {
        "train": {"value": 0.9, "low": 0.8, "high": 1.0, "gain": {"value": 0.5, "high": 0.6}},
        "validation": {"value": 0.6, "low": 0.5, "high": 0.7, "gain": {"value": -0.2, "high": -0.1}},
    },
    "degenerate": 0.1,
    "zero_weight": 0.1,
    "chosen_log_prob": {"mean": -5.0},
}


def test_a_beam_by_hand():
    """Scores put the beam 0 1 2 3 into the order 2 0 3 1. Clicked: 2, risen, and 1, fallen.

    Pairs: 2 above 0 and 3, 1 below both: 2 of 4. The generator had 2 below 0 above 3, 1 likewise: 2 of 4.
    """
    got = judge(np.array([0.8, 0.1, 0.9, 0.5]), np.array([False, True, True, False]))
    assert got == (True, 1, 1, 0.5, 0.5)


@pytest.mark.parametrize("seed", range(20))
def test_agreement_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    scores, clicked = rng.integers(0, 4, 7).astype(float), rng.random(7) < 0.4
    clicked[:2] = True, False
    pairs = [(c, u) for c in range(7) for u in range(7) if clicked[c] and not clicked[u]]
    won = [1.0 if scores[c] > scores[u] else 0.5 if scores[c] == scores[u] else 0.0 for c, u in pairs]
    got = judge(scores, clicked)
    assert got.agreement == pytest.approx(np.mean(won))
    assert got.of_generator == pytest.approx(np.mean([c < u for c, u in pairs]))


def test_without_a_click_inside_nothing_is_compared():
    """Beams of no click, of clicks alone, and of one item; order changed or not is told all the same."""
    none = judge(np.array([0.1, 0.9]), np.zeros(2, bool))
    assert none.is_changed and none.agreement != none.agreement
    everything = judge(np.array([0.9, 0.1]), np.ones(2, bool))
    assert not everything.is_changed and everything.agreement != everything.agreement
    assert not judge(np.array([0.3]), np.ones(1, bool)).is_changed


def test_validation_counts_where_it_has_clicks():
    """Two thirds changed; clicks of the training split alone are judged on it, else on the validation split."""
    clicked = np.array([False, True])
    right, wrong = judge(np.array([0.1, 0.9]), clicked), judge(np.array([0.9, 0.1]), clicked)
    blind = judge(np.array([0.1, 0.9]), np.zeros(2, bool))
    beams = [JudgedBeam("train", "u", right), JudgedBeam("train", "v", wrong), JudgedBeam("validation", "", blind)]
    found = beam_figures(beams)
    assert found["changed"] == pytest.approx(2 / 3)
    assert (found["judged_on"], set(found["agreement"])) == ("train", {"train"})
    train = found["agreement"]["train"]
    assert (train["value"], train["of_generator"], train["gain"]["value"]) == (0.5, 0.0, 0.5)
    assert train["clicked_items"] == {"risen": 1, "fallen": 0}
    found = beam_figures([*beams, JudgedBeam("validation", "w", right)])
    assert (found["judged_on"], found["agreement"]["validation"]["value"]) == ("validation", 1.0)


def test_validation_that_was_learnt_from_has_a_name_of_its_own():
    """It counts before the training split, and the gate's sentence says what it is."""
    wrong = judge(np.array([0.9, 0.1]), np.array([False, True]))
    beams = [JudgedBeam(split, f"{split}{user}", wrong) for split in ("train", LEARNT_FROM) for user in range(20)]
    found = beam_figures(beams)
    assert (found["judged_on"], set(found["agreement"])) == (LEARNT_FROM, {"train", LEARNT_FROM})
    (_, sentence) = Gate(min_changed=0.0, min_gain=1.0).problems(GOOD | found | {"changed": 1.0})
    assert "(validation (learnt from) searches)" in sentence


def test_searches_without_a_user_are_independent():
    """40 anonymous searches are 40 clusters, those of one user a single one, of which nothing is known."""
    values = [judge(np.array([0.1, 0.9]), np.array([0, 1]) > 0), judge(np.array([0.9, 0.1]), np.array([0, 1]) > 0)]
    anonymous = beam_figures([JudgedBeam("train", "", value) for value in values * 20])["agreement"]["train"]
    assert 0 < anonymous["low"] < anonymous["high"] < 1
    known = beam_figures([JudgedBeam("train", "u", value) for value in values * 20])["agreement"]["train"]
    assert (known["low"], known["high"]) == (0, 1)


def test_intervals_are_those_of_the_bootstrap():
    """300 searches of 60 users who differ: within a tenth of the width of the percentile bootstrap over users."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, 60, 300)
    values = np.clip(0.6 + 0.2 * rng.normal(size=60)[users] + 0.1 * rng.normal(size=300), 0, 1)
    got = clustered_interval(values, users, 0, 1)
    want = interval(values.mean(), resampled_means(values[:, None], users, 4000)[:, 0])
    width = want.high - want.low
    assert got["value"] == pytest.approx(want.value)
    assert got["low"] == pytest.approx(want.low, abs=width / 10)
    assert got["high"] == pytest.approx(want.high, abs=width / 10)
    alone = clustered_interval(values, np.arange(300), 0, 1)
    assert alone["high"] - alone["low"] < 0.8 * width  # a user's searches are not independent


def test_of_few_users_nothing_is_known():
    """Two users, or 19, who agree by chance leave the whole range, and no gate stops; twenty do not."""
    for number in (1, 2, 19):
        found = clustered_interval(np.full(number, 0.4), np.arange(number), 0, 1)
        assert found == {"value": pytest.approx(0.4), "low": 0, "high": 1}
    assert clustered_interval(np.full(20, 0.4), np.arange(20), 0, 1)["high"] == pytest.approx(0.4)


def test_lists_by_hand():
    """List 0 has two pairs of weights 0 and 3 (the most), list 1 one of weight 0; one list was dropped: 1/3."""
    pairs = PairColumns(
        np.array([0, 0, 1]),
        np.array([-0.1, 0.2, -0.3]),
        np.array([0.0, 3.0, 0.0]),
        np.array([-2.0, -2.0, -4.0]),
        np.array([-3.0, -1.0, -5.0]),
    )
    found = list_figures(pairs, 1, 3.0)
    assert (found["num_lists"], found["num_degenerate"], found["degenerate"]) == (2, 1, pytest.approx(1 / 3))
    assert (found["zero_weight"], found["zero_weight_pairs"]) == (0.5, pytest.approx(2 / 3))
    assert found["full_weight_pairs"] == pytest.approx(1 / 3)
    assert found["chosen_log_prob"]["mean"] == -3  # a list counts once
    assert found["rejected_log_prob"]["mean"] == -3
    assert found["reference_accuracy"] == pytest.approx(2 / 3)
    assert sum(found["reward_gap"]["counts"]) == sum(found["reference_margin"]["counts"]) == 3


def test_soft_lists_have_no_figures_of_weights():
    """All else is there, and no gate asks for what is not."""
    pairs = PairColumns(np.array([0, 0, 1]), None, None, np.array([-2.0, -2.0, -4.0]), np.array([-3.0, -1.0, -5.0]))
    found = list_figures(pairs, 0, 3.0)
    assert not {"zero_weight", "zero_weight_pairs", "full_weight_pairs", "reward_gap"} & set(found)
    assert found["reference_accuracy"] == pytest.approx(2 / 3)
    Gate(max_zero_weight=0.0).check("dpo", found)


def test_sids_of_no_item_by_hand():
    """Three of them over two lists; none at all have no log-probability."""
    found = invalid_figures(np.array([-4.0, -6.0, -8.0]), 2)
    assert found["invalid_a_list"] == 1.5
    assert found["invalid_log_prob"] == pytest.approx({"mean": -6, "p10": -7.6, "p50": -6, "p90": -4.4})
    assert invalid_figures(np.empty(0), 2) == {"invalid_a_list": 0, "invalid_log_prob": None}


@pytest.mark.parametrize(
    ("change", "gate", "sentence"),
    [
        ({"changed": 0.01}, {}, r"re-sorts 1.0% of the beams, below min_changed 2.0%: train it longer"),
        ({}, {"min_agreement": 0.71}, r"in 60.0% of the pairs \(95%: 50.0% to 70.0%, validation searches\), below"),
        (
            {},
            {"min_gain": 0.0},
            r"puts -20.0% of the pairs .* \(validation searches\), below min_gain \+0.0%",
        ),
        ({"degenerate": 0.6}, {}, r"in 60.0% of the lists .* above max_degenerate 50.0%: use a finer codebook"),
        ({"zero_weight": 0.95}, {}, r"95.0% of the lists weigh nothing, above max_zero_weight 90.0%"),
        ({"chosen_log_prob": {"mean": -40.0}}, {}, r"mean log-probability of -40.0 .* below min_chosen_log_prob -32.5"),
    ],
)
def test_what_lies_beyond_a_threshold_is_refused(change, gate, sentence):
    """Which figure, the threshold and the way out, in one sentence; not where the gate is told to let pass."""
    with pytest.raises(UserError, match=rf"^dpo: .*{sentence}.*'model.init_args.gate'.* in dpo_lists\.$"):
        Gate(**gate).check("dpo", GOOD | change)
    Gate(**gate, stop=False).check("dpo", GOOD | change)


def test_what_chance_explains_passes():
    """60% with an interval to 70% is not below 69%, and lists without beams have nothing to agree with."""
    Gate(min_agreement=0.69).check("dpo", GOOD)
    without_beams = {name: GOOD[name] for name in ("degenerate", "zero_weight", "chosen_log_prob")}
    Gate(min_agreement=1.0, min_changed=1.0).check("dpo", without_beams)
