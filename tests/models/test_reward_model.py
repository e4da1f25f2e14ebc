"""The reward model: search units by hand, independence of candidates and padding, losses, score, save and load."""

import math

import pytest
import torch
from torch import tensor
from torch.nn.functional import normalize

from onesearch.models.reward import (
    RewardLabels,
    RewardModel,
    RewardOutput,
    RewardSize,
    ScoreWeights,
    load_reward,
    reward_losses,
)
from onesearch.models.reward_features import NUM_STATISTICS, RewardInput
from onesearch.models.reward_layers import Standardize

DIM, SIZES = 6, (4, 3)


def random_input(num_searches=3, num_candidates=4, length=5, seed=0):
    draw = torch.Generator().manual_seed(seed)

    def unit(*shape):
        return normalize(torch.randn(*shape, DIM, generator=draw), dim=-1)

    def whole(high, *shape):
        return torch.randint(0, high, shape, generator=draw)

    return RewardInput(
        query=unit(num_searches),
        user_codes=whole(3, num_searches, 4) - 1,
        profile=whole(5, num_searches, 4),
        short=unit(num_searches, 2),
        short_mask=torch.ones(num_searches, 2, dtype=torch.bool),
        long=unit(num_searches, length),
        long_mask=torch.ones(num_searches, length, dtype=torch.bool),
        long_category=whole(2, num_searches, length),
        long_gap=whole(13, num_searches, length),
        item=unit(num_searches, num_candidates),
        item_codes=whole(3, num_searches, num_candidates, 2),
        item_category=whole(2, num_searches, num_candidates),
        statistics=torch.randn(num_searches, num_candidates, NUM_STATISTICS, generator=draw),
        mask=torch.ones(num_searches, num_candidates, dtype=torch.bool),
    )


def model(**size):
    torch.manual_seed(0)
    return RewardModel(DIM, SIZES, RewardSize(hidden=8, heads=2, **size)).eval()


def test_hard_search_picks_the_latest_of_the_category():
    """History categories 0 1 0 0 −1, one pick: candidate of category 0 → position 3, of 1 → 1, unknown → nothing."""
    inputs = random_input(1, 3)._replace(
        long_category=tensor([[0, 1, 0, 0, -1]]),
        item_category=tensor([[0, 1, -1]]),
        long_mask=tensor([[True] * 4 + [False]]),
    )
    picked = model(search="hard", picks=1).general_search(inputs, torch.zeros(1, 3, 5))
    assert picked[0].int().tolist() == [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_soft_search_picks_the_nearest():
    """The .9 lies on padding, so the nearest two are .8 and .5."""
    inputs = random_input(1, 1)._replace(long_mask=tensor([[True, True, True, True, False]]))
    picked = model(picks=2).general_search(inputs, tensor([[[0.1, 0.8, 0.5, 0.2, 0.9]]]))
    assert picked[0, 0].tolist() == [False, True, True, False, False]


def test_exact_search_equals_attention_by_definition():
    """Head by head in a loop: softmax(q·k/√d) over the picked behaviours; the learned vector where none was picked."""
    unit, inputs = model().exact_search, random_input()
    picked = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    picked[..., 0] = True
    picked[0, 1] = False
    unit.nothing.data.fill_(7)
    got = unit(inputs, picked)
    behaviors = unit.behavior(inputs.long) + unit.gap(inputs.long_gap)
    for b, x, head in [(0, 0, 0), (1, 3, 1), (2, 2, 0)]:
        at = slice(4 * head, 4 * head + 4)
        kept = behaviors[b][picked[b, x]]
        key, value = kept[:, :8][:, at], kept[:, 8:][:, at]
        weight = (key @ unit.candidate(inputs.item[b, x])[at] / math.sqrt(4)).softmax(0)
        torch.testing.assert_close(got[b, x, at], weight @ value)
    assert (got[0, 1] == 7).all()


@pytest.mark.parametrize("search", ["hard", "soft"])
def test_candidates_do_not_see_each_other_nor_padding(search):
    """A candidate's output is the same alone and in a list, and longer padded histories change nothing."""
    reward, inputs = model(search=search), random_input()
    whole = reward(inputs)
    items = ("item", "item_codes", "item_category", "statistics", "mask")
    alone = reward(inputs._replace(**{name: getattr(inputs, name)[:, 2:3] for name in items}))
    torch.testing.assert_close(alone.ctcvr[:, 0], whole.ctcvr[:, 2])
    padding = random_input(length=3, seed=9)
    longer = {name: torch.cat([getattr(inputs, name), getattr(padding, name)], 1) for name in ("long", "long_gap")}
    longer["long_mask"] = torch.cat([inputs.long_mask, torch.zeros(3, 3, dtype=torch.bool)], 1)
    longer["long_category"] = torch.cat([inputs.long_category, torch.full((3, 3), -1)], 1)
    torch.testing.assert_close(reward(inputs._replace(**longer)).ctr, whole.ctr)


def test_history_query_user_and_statistics_all_count():
    """Changing any one input changes the click logit."""
    reward, inputs = model(), random_input()
    before = reward(inputs).ctr
    other = random_input(seed=5)
    for name in ("query", "user_codes", "profile", "short", "long", "long_gap", "item", "item_codes", "statistics"):
        after = reward(inputs._replace(**{name: getattr(other, name)})).ctr
        assert not torch.allclose(after, before), name


def test_standardize_by_hand():
    """Seen 1, 3 (7 is padding), then 5, 7: mean 4, deviation √5; a constant feature comes out as 0, not as NaN."""
    standardize = Standardize(2)
    standardize(tensor([[[1.0, 2], [3, 2], [7, 9]]]), tensor([[True, True, False]]))
    standardize(tensor([[[5.0, 2], [7, 2]]]), tensor([[True, True]]))
    got = standardize.eval()(tensor([[[4.0, 2], [4 + 5**0.5, 2], [100, 2]]]), tensor([[True] * 3]))
    torch.testing.assert_close(got, tensor([[[0.0, 0], [1, 0], [8, 0]]]))


def test_no_history_at_all_is_finite():
    nothing = torch.zeros(3, 5, dtype=torch.bool)
    inputs = random_input()._replace(long_mask=nothing, short_mask=nothing[:, :2])
    output = model()(inputs)
    assert all(tensor.isfinite().all() for tensor in output)


def test_relevance_is_the_cosine_in_0_1():
    """Cosines 1, −1 and 0 with the query become 1, 0 and ½."""
    query = torch.eye(DIM)[:1]
    inputs = random_input(1, 3)._replace(query=query, item=torch.stack([query[0], -query[0], torch.eye(DIM)[1]])[None])
    assert model()(inputs).relevance[0].tolist() == pytest.approx([1, 0, 0.5])


def labels(clicked, purchased, orders_known=True):
    clicked, purchased = tensor([clicked]).float(), tensor([purchased]).float()
    return RewardLabels(clicked, purchased, tensor([orders_known]), tensor([False]))


def test_losses_by_hand():
    """Logits 0 cost log 2 each; logit 2 with label 1 costs log(1 + e⁻²). CVR reads candidates 0 and 1 only."""
    output = RewardOutput(
        tensor([[0.0, 0, 0, 9]]), tensor([[2.0, 0, 7, 9]]), tensor([[2.0, 0, 0, 9]]), torch.zeros(1, 4)
    )
    mask = tensor([[True, True, True, False]])
    losses = reward_losses(output, labels([1, 1, 0, 0], [1, 0, 0, 0]), mask)
    two = math.log(1 + math.exp(-2))
    assert losses["ctr"].item() == pytest.approx(math.log(2))
    assert losses["cvr"].item() == pytest.approx((two + math.log(2)) / 2)
    assert losses["ctcvr"].item() == pytest.approx((two + 2 * math.log(2)) / 3)


def test_unknown_orders_teach_nothing():
    """A log without orders leaves CVR and CTCVR at loss 0 with gradient 0."""
    logits = torch.zeros(1, 2, requires_grad=True)
    output = RewardOutput(torch.zeros(1, 2), logits, logits, torch.zeros(1, 2))
    losses = reward_losses(output, labels([1, 0], [0, 0], orders_known=False), torch.ones(1, 2).bool())
    (losses["cvr"] + losses["ctcvr"]).backward()
    assert losses["cvr"].item() == losses["ctcvr"].item() == 0
    assert torch.equal(logits.grad, torch.zeros(1, 2))


def test_score_by_hand():
    """All logits 0 and relevance .8: 2·½ + 10·.1·.8 = 1.8 without orders, + 3·½ + 4·½ = 5.3 with them."""
    reward = model()
    reward.weights = ScoreWeights(ctr=2, cvr=3, ctcvr=4, relevance=0.1)
    zero = torch.zeros(1, 1)
    output = RewardOutput(zero, zero, zero, tensor([[0.8]]))
    assert reward.score(output).item() == pytest.approx(1.8)
    reward.orders_known.fill_(True)
    assert reward.score(output).item() == pytest.approx(5.3)


def test_save_and_load_give_the_same_numbers(tmp_path):
    reward, inputs = model(search="hard", picks=3), random_input()
    reward.orders_known.fill_(True)
    reward.save(tmp_path)
    again = load_reward(tmp_path)
    assert (again.size, again.weights) == (reward.size, reward.weights)
    assert torch.equal(again.score(again(inputs)), reward.score(reward(inputs)))
    assert load_reward(tmp_path, ScoreWeights(cvr=0)).weights == ScoreWeights(cvr=0)
