"""Levels and preference lists on searches written by hand.

Items 0–3 are of category 0, items 4–7 of category 1, items 8 and 9 of none.
"""

import numpy as np
import pytest

from onesearch.tasks.preference import (
    BOUGHT,
    CLICKED,
    OTHER,
    RECOMMENDED,
    SAME_CATEGORY,
    SHOWN,
    Levels,
    Preference,
    PreferenceList,
    logged_list,
    risen_list,
    soft_list,
)
from onesearch.types import UserError

CATEGORIES = np.array([0, 0, 0, 0, 1, 1, 1, 1, -1, -1])


@pytest.fixture
def levels():
    """The shopper u bought item 2 on day 6 in recommendation, item 3 on day 30, item 5 (another category) on day 6."""
    return Levels(CATEGORIES, {"u": [(2, 6), (3, 30), (5, 6)]})


@pytest.fixture
def search(make_search):
    """On day 5: items 0 1 4 8 were shown, 0 and 1 clicked, 0 bought."""
    return make_search(impressed=(0, 1, 4, 8), clicked=(0, 1), purchased=(0,))


def test_the_six_levels(levels, search):
    """L1 bought, L2 bought outside within a week and in the wanted category, L3 clicked, L4 shown, L5 same category."""
    items = [0, 2, 1, 4, 3, 5, 8, 9]
    want = (BOUGHT, RECOMMENDED, CLICKED, SHOWN, SAME_CATEGORY, OTHER, SHOWN, OTHER)
    assert levels.of(search, items) == want
    assert levels.positives(search) == [0, 2, 1]


def test_the_paper_numbers_the_levels_in_this_order():
    assert (BOUGHT, RECOMMENDED, CLICKED, SHOWN, SAME_CATEGORY, OTHER) == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(("day", "found"), [(4, set()), (5, {2}), (12, {2}), (13, set())])
def test_a_later_purchase_counts_for_a_week(make_search, day, found):
    """Bought on `day`, searched on day 5: from that day to seven days later, never before the search."""
    levels = Levels(CATEGORIES, {"u": [(2, day)]})
    assert levels.recommended(make_search(clicked=(0,))) == found
    assert levels.recommended(make_search(clicked=(0,), user_id="someone else")) == set()


def test_an_item_of_no_category_wants_none(levels, make_search):
    """A clicked item without category makes no other such item its kin."""
    search = make_search(clicked=(8,))
    assert levels.wanted(search) == set()
    assert levels.of(search, [8, 9]) == (CLICKED, OTHER)


def test_negatives_are_never_positive_and_differ(levels, search):
    rng = np.random.default_rng(0)
    for count in (2, 4, 6, 9):
        drawn = levels.negatives(search, count, rng)
        assert len(set(drawn)) == len(drawn) <= count
        assert not set(drawn) & {0, 1, 2}
        assert all(0 <= item < 10 for item in drawn)


def test_half_of_the_negatives_were_shown(levels, make_search):
    """Shown 4 5 6 7 8, of four negatives two are of these; without impressions the wanted category comes first."""
    rng = np.random.default_rng(0)
    shown = make_search(impressed=(0, 4, 5, 6, 7, 8), clicked=(0,))
    assert all(set(levels.negatives(shown, 4, rng)[:2]) <= {4, 5, 6, 7, 8} for _ in range(20))
    unknown = make_search(clicked=(0,), user_id="")
    assert all(levels.negatives(unknown, 4, rng)[0] in {1, 2, 3} for _ in range(20))


def test_hybrid_a_click_is_chosen_and_the_fallen_are_rejected(levels, make_search):
    """Beam 4 5 0 6; scores put it 0 4 6 5. Item 0, clicked, is chosen; 5 fell two places, 4 fell one, 6 rose one but is
    in the lower half: rejected in the order 5 4 6."""
    got = risen_list(make_search(clicked=(0,)), [4, 5, 0, 6], np.array([0.8, 0.1, 0.9, 0.5]), levels, 6)
    assert (got.chosen, got.rejected) == (0, (5, 4, 6))
    assert got.levels == (CLICKED, OTHER, OTHER, OTHER)


def test_hybrid_without_a_click_the_item_that_rose_most_is_chosen(levels, make_search):
    """Beam 4 5 6 7, scores reversed: 7 rises from last to first, at the level of a click; 4 fell most."""
    got = risen_list(make_search(), [4, 5, 6, 7], np.array([0.1, 0.2, 0.3, 0.4]), levels, 2)
    assert (got.chosen, got.rejected) == (7, (4, 5))
    assert got.levels[0] == CLICKED


def test_hybrid_a_bought_item_keeps_its_level(levels, make_search):
    got = risen_list(make_search(clicked=(0,), purchased=(0,)), [4, 0], np.array([0.1, 0.9]), levels, 6)
    assert (got.chosen, got.rejected, got.levels[0]) == (0, (4,), BOUGHT)


def test_hybrid_another_click_is_never_rejected(levels, make_search):
    """Items 0 and 1 are clicked; 1 fell from first to last and still is no negative."""
    got = risen_list(make_search(clicked=(0, 1)), [1, 0, 4, 5], np.array([0.1, 0.9, 0.5, 0.4]), levels, 6)
    assert got.chosen == 0
    assert 1 not in got.rejected


@pytest.mark.parametrize(
    ("items", "scores", "is_changed"),
    [
        ([0, 4, 5], [0.9, 0.5, 0.1], False),
        ([0, 4, 5], [0.5, 0.5, 0.5], False),
        ([4], [0.5], False),
        ([0, 4, 5], [0.1, 0.5, 0.9], True),
    ],
)
def test_hybrid_what_does_not_change_teaches_nothing(levels, make_search, items, scores, is_changed):
    """The same order, ties (kept in the beam's order), a single item, or a click that falls below everything."""
    got = risen_list(make_search(clicked=(0,)), items, np.array(scores), levels, 6)
    assert (got.rejected, len(got.levels)) == ((), 1)
    assert got.judgement.is_changed == is_changed


def test_hybrid_an_empty_beam_is_no_list(levels, make_search):
    assert risen_list(make_search(clicked=(0,)), [], np.array([]), levels, 6) is None


def test_hybrid_says_how_the_reward_model_did(levels, make_search):
    """Beam 4 0 5 with 0 clicked: scores put it 0 5 4, so it rose, above both others where it was above one."""
    got = risen_list(make_search(clicked=(0,)), [4, 0, 5], np.array([0.1, 0.9, 0.5]), levels, 6).judgement
    assert (got.is_changed, got.risen, got.fallen, got.agreement, got.of_generator) == (True, 1, 0, 1.0, 0.5)


def test_one_sid_is_one_candidate(levels, search):
    """Of the rejected 1 2 3 5, item 1 has the chosen one's SID and 3 that of 2: 2 and 5 stay, with their levels."""
    codes = np.array([[0, 0], [0, 0], [1, 0], [1, 0], [0, 2], [2, 2]])
    got = PreferenceList(search, 0, (1, 2, 3, 5), (0, 1, 2, 3, 4)).of_distinct_sids(codes)
    assert (got.chosen, got.rejected, got.levels) == (0, (2, 5), (0, 2, 4))
    alone = PreferenceList(search, 0, (1,), (0, 3)).of_distinct_sids(codes)
    assert (alone.rejected, alone.levels) == ((), (0,))


@pytest.mark.parametrize("seed", range(30))
def test_risen_lists_agree_with_the_reward_model(levels, make_search, seed):
    """Whatever the scores: the rejected stand below the chosen one, and none of them is positive."""
    rng = np.random.default_rng(seed)
    items, scores = rng.permutation(10)[:7].tolist(), rng.random(7)
    got = risen_list(make_search(clicked=(0,), user_id=""), items, scores, levels, 4)
    if got.rejected:
        score = dict(zip(items, scores, strict=True))
        assert 1 <= len(got.rejected) <= 4
        assert all(score[item] < score[got.chosen] for item in got.rejected)
        assert 0 not in got.rejected
        assert got.chosen == 0 or 0 not in items


def test_soft_shares_are_luces_choice(levels, make_search):
    """Rewards 1, 3, 0 squared: 1 and 9 of 10; what has no reward keeps a chance that is not nothing."""
    found = soft_list(make_search(clicked=(4,)), [0, 4, 8], np.array([1.0, 3.0, 0.0]), levels, sharpness=2)
    assert (found.chosen, found.rejected) == (4, (0, 8))
    assert found.shares == pytest.approx((0.9, 0.1, 1e-13), rel=1e-6)
    assert found.levels[0] == CLICKED
    assert found.judgement.agreement == 1
    assert soft_list(make_search(), [], np.array([]), levels, 1) is None


def test_soft_what_stands_first_may_stay_there(levels, make_search):
    """Other than risen lists: the reward model agrees with the generator, and says so."""
    found = soft_list(make_search(), [5, 6], np.array([2.0, 1.0]), levels, sharpness=1)
    assert found.chosen == 5 and found.shares == pytest.approx((2 / 3, 1 / 3))


def test_soft_items_of_one_sid_share_its_chance(levels, make_search):
    """Items 0 and 2 have one SID, and so have 1 and 3."""
    codes = np.array([[7, 1], [7, 2], [7, 1], [7, 2]])
    found = soft_list(make_search(), [0, 1, 2, 3], np.array([4.0, 1.0, 2.0, 3.0]), levels, 1).of_distinct_sids(codes)
    assert (found.chosen, found.rejected) == (0, (1,))
    assert found.shares == pytest.approx((0.6, 0.4))
    assert len(found.levels) == 2


def test_soft_the_likeliest_sid_is_chosen(levels, make_search):
    """Scores 3, 2, 2, the last two of one SID: its items together are the likelier, and their level comes along."""
    codes = np.array([[7, 1], [7, 2], [7, 2]])
    beam = soft_list(make_search(clicked=(1,)), [0, 1, 2], np.array([3.0, 2.0, 2.0]), levels, 1)
    found = beam.of_distinct_sids(codes)
    assert (beam.chosen, found.chosen, found.rejected) == (0, 1, (0,))
    assert found.shares == pytest.approx((4 / 7, 3 / 7))
    assert found.levels == (CLICKED, SAME_CATEGORY)


@pytest.mark.parametrize(
    ("sharpness", "scores", "want"),
    [
        (60, [0.0, 0.0], (0.5, 0.5)),
        (200, [0.02, 0.01], (1.0, 2.0**-200)),
        (200, [1e3, 1e3, 1e2], (0.5, 0.5, 0)),
        (0, [5.0, 0.0], (0.5, 0.5)),
    ],
)
def test_soft_shares_of_great_sharpness(levels, make_search, sharpness, scores, want):
    """Powers that no float holds: 1e-6^60 is nothing, 1e3^200 is infinite."""
    found = soft_list(make_search(), list(range(len(scores))), np.array(scores), levels, sharpness)
    assert found.shares == pytest.approx(want, rel=1e-9, abs=1e-70)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_refused(levels, make_search, score):
    search, scores = make_search(search_id="s9"), np.array([0.5, score])
    for make in (
        lambda: soft_list(search, [0, 1], scores, levels, 1),
        lambda: risen_list(search, [0, 1], scores, levels, 1),
    ):
        with pytest.raises(
            UserError, match=r"scores of search 's9' are not all finite: .* run the 'reward' stage again"
        ):
            make()


@pytest.mark.parametrize("sharpness", [-0.1, float("nan"), float("inf")])
def test_a_sharpness_that_turns_the_order_around_is_refused(sharpness):
    with pytest.raises(
        UserError, match=r"preference\.sharpness is (-0\.1|nan|inf): .* give 0 \(all items alike\) or more"
    ):
        Preference(sharpness=sharpness)
    assert Preference(sharpness=0).sharpness == 0


def test_beta_hangs_on_the_lists():
    """1 where a soft list's optimum is π_ref·s^γ, 0.1 of hard lists; what is set counts for both."""
    assert (Preference().beta_of(True), Preference().beta_of(False)) == (1.0, 0.1)
    assert Preference(beta=0.3).beta_of(True) == Preference(beta=0.3).beta_of(False) == 0.3
    for beta in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match=r"preference\.beta is .*: give more than 0"):
            Preference(beta=beta)


def test_hard_lists_reject_no_sid_of_what_was_clicked(levels, make_search):
    """0 is bought, 1 clicked; of the rejected 2 3 5, item 2 has the SID of 1, and 3 one of its own."""
    codes = np.array([[0, 0], [1, 0], [1, 0], [3, 0], [0, 2], [2, 2]])
    search = make_search(clicked=(0, 1), purchased=(0,))
    one = PreferenceList(search, 0, (2, 3, 5), (0, 3, 4, 5))
    got = one.of_distinct_sids(codes, levels.positives(search))
    assert (got.chosen, got.rejected, got.levels) == (0, (3, 5), (0, 4, 5))
    soft = one._replace(shares=(0.4, 0.3, 0.2, 0.1)).of_distinct_sids(codes, levels.positives(search))
    assert soft.rejected == (2, 3, 5)


def test_logged_the_best_level_is_chosen(levels, search):
    """Bought before clicked; the rejected are of levels L4 to L6, with the levels beside them."""
    got = logged_list(search, levels, 4, np.random.default_rng(0))
    assert (got.chosen, got.levels[0]) == (0, BOUGHT)
    assert len(got.rejected) == len(got.levels) - 1
    assert all(level >= SHOWN for level in got.levels[1:])
    assert levels.of(search, got.rejected) == got.levels[1:]


def test_logged_a_search_without_answer_gives_no_list(levels, make_search):
    assert logged_list(make_search(impressed=(0, 1)), levels, 4, np.random.default_rng(0)) is None
    alone = Levels(np.array([0]), {})
    assert logged_list(make_search(clicked=(0,)), alone, 4, np.random.default_rng(0)) is None


def test_logged_lists_repeat_with_the_seed(levels, search):
    one, two = (logged_list(search, levels, 4, np.random.default_rng(5)) for _ in range(2))
    assert one == two
