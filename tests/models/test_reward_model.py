"""The reward model: search units by hand, independence of candidates and padding, losses, score, save and load."""

import math

import pytest
import torch
from torch import tensor
from torch.nn.functional import normalize

from onesearch.models.relevance import Ordinal
from onesearch.models.reward import (
    HistorySizes,
    RewardLabels,
    RewardModel,
    RewardOutput,
    ScoreWeights,
    load_reward,
    reward_losses,
)
from onesearch.models.reward_features import NUM_STATISTICS, RewardInput
from onesearch.models.reward_history import NUM_MATCHES
from onesearch.models.reward_items import NUM_ATTRIBUTES
from onesearch.models.reward_layers import CrossNet, Standardize
from onesearch.models.reward_search import NOTHING, best, latest, latest_of_category, nearest
from onesearch.models.reward_sharing import Shared, logit_of, product_logit
from onesearch.models.reward_towers import Logits, RewardSize

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
        item_values=whole(9, num_searches, num_candidates, NUM_ATTRIBUTES),
        position=torch.zeros(num_searches, num_candidates, dtype=torch.int64),
        statistics=torch.randn(num_searches, num_candidates, NUM_STATISTICS, generator=draw),
        matches=torch.randn(num_searches, num_candidates, 2, NUM_MATCHES, generator=draw),
        mask=torch.ones(num_searches, num_candidates, dtype=torch.bool),
    )


def model(**size):
    torch.manual_seed(0)
    return RewardModel(DIM, SIZES, RewardSize(hidden=8, heads=2, **size)).eval()


def found(picks):
    """The positions that were found for each candidate of one search, in the order of time."""
    scores, positions = picks
    rows = zip(scores[0], positions[0], strict=True)
    return [sorted(place for score, place in zip(*row, strict=True) if score > NOTHING) for row in rows]


def test_hard_search_picks_the_latest_of_the_category():
    """History categories 0 1 0 0 −1, one pick: candidate of category 0 → position 3, of 1 → 1, unknown → nothing."""
    inputs = random_input(1, 3)._replace(
        long_category=tensor([[0, 1, 0, 0, -1]]),
        item_category=tensor([[0, 1, -1]]),
        long_mask=tensor([[True] * 4 + [False]]),
    )
    assert found(latest_of_category(inputs, 1)) == [[3], [1], []]
    assert found(latest_of_category(inputs, 9)) == [[0, 2, 3], [1], []]


def test_soft_search_picks_the_nearest():
    """Cosines .1 .8 .5 .2 and .9 on padding: the nearest two are .8 and .5; asked for nine, all four that exist."""
    cosines = tensor([0.1, 0.8, 0.5, 0.2, 0.9])
    history = torch.zeros(1, 5, DIM)
    history[0, :, 0], history[0, :, 1] = cosines, (1 - cosines**2).sqrt()
    inputs = random_input(1, 1)._replace(
        item=torch.eye(DIM)[None, :1], long=history, long_mask=tensor([[True, True, True, True, False]])
    )
    scores, positions = nearest(inputs, 2)
    assert found((scores, positions)) == [[1, 2]]
    assert sorted(scores[0, 0].tolist()) == pytest.approx([0.5, 0.8])
    assert found(nearest(inputs, 9)) == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("length", "k"), [(5, 9), (300, 1), (321, 20), (1000, 20), (1000, 200)])
def test_the_best_are_those_of_a_sort(length, k):
    """Also by way of groups, whose last one is cut short where 8 does not divide the length."""
    scores = torch.randn(3, 4, length, generator=torch.Generator().manual_seed(0)).clamp(min=NOTHING)
    values, positions = best(scores, k)
    want = scores.sort(descending=True).values[..., : min(k, length)]
    assert torch.equal(values.sort(descending=True).values, want)
    assert torch.equal(scores.gather(-1, positions), values)
    assert all(len(set(row.tolist())) == min(k, length) for row in positions.flatten(0, 1))


def test_without_a_search_the_latest_are_read():
    """Histories of 4 and 1 of 5 places, two read: places 2 and 3; place 0 and nothing."""
    mask = tensor([[True] * 4 + [False], [True] + [False] * 4])
    scores, positions = latest(mask, 2)
    assert positions.tolist() == [[[2, 3]], [[0, 0]]]
    assert (scores > NOTHING).tolist() == [[[True, True]], [[False, True]]]


def test_exact_search_equals_attention_by_definition():
    """Projected key by key, head by head: softmax(q·k/√d) over the picks; the learned vector where there are none."""
    unit, inputs = model().body.interest, random_input()
    draw = torch.Generator().manual_seed(1)
    positions = torch.stack([torch.randperm(5, generator=draw)[:3] for _ in range(12)]).view(3, 4, 3)
    exists = torch.rand(3, 4, 3, generator=draw) < 0.6
    exists[0, 1] = False
    torch.nn.init.constant_(unit.nothing, 7.0)
    got = unit(inputs, positions, exists)
    gaps = torch.nn.functional.one_hot(inputs.long_gap, 14)
    for b, x, head in ((b, x, head) for b in range(3) for x in range(4) for head in range(2)):
        at, kept = slice(4 * head, 4 * head + 4), positions[b, x][exists[b, x]]
        if len(kept):
            behaviors = torch.cat([inputs.long[b, kept], gaps[b, kept].float()], -1)
            key, value = unit.key(behaviors)[:, at], unit.value(behaviors)[:, at]
            weight = (key @ unit.candidate(inputs.item[b, x])[at] / math.sqrt(4)).softmax(0)
            torch.testing.assert_close(got[b, x, at], weight @ value)
    assert (got[0, 1] == 7).all()
    assert not (got[0, 0] == 7).all()


LEARNING = [{"search": "hard"}, {"search": "soft"}, {"architecture": "din"}, {"architecture": "dnn"}]
LEARNING += [{"architecture": "dcnv2"}, {"sharing": "mmoe"}, {"sharing": "none", "ctcvr": "product"}]


@pytest.mark.parametrize("options", LEARNING, ids=str)
def test_candidates_do_not_see_each_other_nor_padding(options):
    """A candidate's output is the same alone and in a list, and longer padded histories change nothing."""
    reward, inputs = model(**options), random_input()
    whole = reward(inputs)
    items = ("item", "item_codes", "item_category", "item_values", "position", "statistics", "matches", "mask")
    alone = reward(inputs._replace(**{name: getattr(inputs, name)[:, 2:3] for name in items}))
    torch.testing.assert_close(alone.ctcvr[:, 0], whole.ctcvr[:, 2])
    padding = random_input(length=3, seed=9)
    longer = {name: torch.cat([getattr(inputs, name), getattr(padding, name)], 1) for name in ("long", "long_gap")}
    longer["long_mask"] = torch.cat([inputs.long_mask, torch.zeros(3, 3, dtype=torch.bool)], 1)
    longer["long_category"] = torch.cat([inputs.long_category, torch.full((3, 3), -1)], 1)
    torch.testing.assert_close(reward(inputs._replace(**longer)).ctr, whole.ctr)


READ = ("query", "user_codes", "profile", "short", "long", "long_gap", "item", "item_codes", "item_values")


@pytest.mark.parametrize("options", LEARNING, ids=str)
def test_history_query_user_and_statistics_all_count(options):
    """Changing any one input changes the click logit; time gaps only where behaviours are attended to."""
    reward, inputs = model(**options), random_input()
    before = reward(inputs).ctr
    other = random_input(seed=5)
    for name in (*READ, "statistics", "matches"):
        after = reward(inputs._replace(**{name: getattr(other, name)})).ctr
        attends = options.get("architecture", "sim") in ("sim", "din")
        assert torch.allclose(after, before) is (name == "long_gap" and not attends), name


def test_only_sim_reads_beyond_the_latest_clicks():
    """Of 30 behaviours the first five change SIM's output alone, as do matches over the whole history."""
    inputs, other = random_input(length=30), random_input(length=30, seed=5)
    long = torch.cat([other.long[:, :5], inputs.long[:, 5:]], 1)
    whole = torch.cat([other.matches[:, :, :1], inputs.matches[:, :, 1:]], 2)
    for name in ("sim", "din", "dnn", "dcnv2"):
        reward = model(architecture=name, picks=30)
        before = reward(inputs).ctr
        for changed in (inputs._replace(long=long), inputs._replace(matches=whole)):
            assert torch.allclose(reward(changed).ctr, before) is (name != "sim"), name


def test_the_place_on_the_page_is_added_to_what_is_shown():
    """Bias 1.5 and .5 of place 3 move CTR and CTCVR by as much, and CVR not at all; an unknown place adds its own."""
    reward, inputs = model(), random_input()
    with torch.no_grad():
        reward.body.places.weight[3] = tensor([1.5, 0.5])
    unknown, third = reward(inputs), reward(inputs._replace(position=torch.full((3, 4), 3)))
    torch.testing.assert_close(third.ctr, unknown.ctr + 1.5)
    torch.testing.assert_close(third.ctcvr, unknown.ctcvr + 0.5)
    assert torch.equal(third.cvr, unknown.cvr)


def test_cross_layers_by_hand():
    """x = (2, 3), W = ((0, 1), (1, 0)), b = (1, 0): x ⊙ (Wx + b) + x = (2·4 + 2, 3·2 + 3) = (10, 9)."""
    cross = CrossNet(2, 1)
    with torch.no_grad():
        cross.layers[0].weight.copy_(tensor([[0.0, 1], [1, 0]]))
        cross.layers[0].bias.copy_(tensor([1.0, 0]))
    assert cross(tensor([2.0, 3])).tolist() == [10, 9]


def test_experts_are_mixed_by_each_towers_gate():
    """Σ_e softmax(G_t x)_e·f_e(x) in a loop; without gates towers share one stack, or have one each."""
    torch.manual_seed(0)
    shared, x = Shared("mmoe", 5, 4, 0.0, 3, 2), torch.randn(7, 5)
    for gate, got in zip(shared.gates, shared(x), strict=True):
        weight = gate(x).softmax(-1)
        torch.testing.assert_close(got, sum(weight[:, e : e + 1] * shared.stacks[e](x) for e in range(2)))
    bottom = Shared("bottom", 5, 4, 0.0, 3, 2)
    assert len(bottom.stacks) == 1 and len({id(part) for part in bottom(x)}) == 1
    alone = Shared("none", 5, 4, 0.0, 3, 2)
    assert len(alone.stacks) == 3 and not torch.allclose(alone(x)[0], alone(x)[1])


def test_a_product_of_probabilities_in_logits():
    """Against float64 arithmetic on probabilities; at logits of ±60 it neither overflows nor loses its sign."""
    a, b = torch.linspace(-9, 9, 19, dtype=torch.float64), torch.linspace(7, -8, 19, dtype=torch.float64)
    torch.testing.assert_close(product_logit(a, b), torch.logit(a.sigmoid() * b.sigmoid()))
    torch.testing.assert_close(logit_of(a.sigmoid().log()), a)
    far = product_logit(tensor([60.0, 60, -60]), tensor([60.0, -60, -60]))
    assert far.tolist() == pytest.approx([60 - math.log(2), -60, -120])


def test_popularity_by_hand():
    """30 exposures, 8 clicks, 2 orders of 1,000, 50 and 5 in all, each with its half: (8 + 20·51/1002)/(30 + 20)."""
    reward, inputs = model(architecture="popularity"), random_input(1, 1)
    reward.body.observe(tensor([1000.0, 50, 5]))
    inputs.statistics[0, 0, :3] = tensor([30.0, 8, 2]).log1p()
    ctr, cvr = (8 + 20 * 51 / 1002) / 50, (2 + 20 * 5.5 / 51) / 28
    output = reward(inputs)
    got = [getattr(output, name).sigmoid().item() for name in ("ctr", "cvr", "ctcvr")]
    assert got == pytest.approx([ctr, cvr, ctr * cvr])
    assert not list(reward.parameters())


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
    return RewardLabels(clicked, purchased, tensor([orders_known]), tensor([False]), torch.ones(1))


@pytest.mark.parametrize("ctcvr", ["tower", "product"])
def test_down_sampling_is_put_right(ctcvr):
    """c = .04, o|c = .3 and a fifth of the unclicked kept: of the sample .04/(.04 + .2·.96) are clicks, and so on.

    The model that knows the sample's rates exactly gives back those of all exposures; in training it does not.
    """
    reward = model(ctcvr=ctcvr)
    reward.kept.fill_(0.2)
    click, order, share = 0.04, 0.3, 0.04 + 0.2 * 0.96
    sampled = [click / share, order, click * order / share]
    logits = Logits(*(tensor([[rate]], dtype=torch.float64).logit() for rate in sampled))
    got = [part.sigmoid().item() for part in reward.double().calibrated(logits)]
    assert got == pytest.approx([click, order, click * order])
    inputs = random_input()
    reward = model(ctcvr=ctcvr)
    before = reward(inputs)
    reward.kept.fill_(0.2)
    torch.testing.assert_close(reward(inputs).ctr, before.ctr + math.log(0.2))
    assert torch.equal(reward(inputs).cvr, before.cvr)
    torch.manual_seed(1)
    trained = reward.train()(inputs)
    torch.manual_seed(1)
    assert torch.equal(trained.ctr, reward.body(inputs).ctr)


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


def test_of_a_product_cvr_learns_from_all_exposures():
    """No loss of its own; the gradient of CTCVR reaches its logit also where nothing was clicked."""
    cvr = torch.zeros(1, 2, requires_grad=True)
    output = RewardOutput(torch.zeros(1, 2), cvr, product_logit(torch.zeros(1, 2), cvr), torch.zeros(1, 2))
    losses = reward_losses(output, labels([1, 0], [1, 0]), torch.ones(1, 2).bool(), product=True)
    assert set(losses) == {"ctr", "ctcvr"}
    losses["ctcvr"].backward()
    assert (cvr.grad != 0).all()


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
    reward.kept.fill_(0.5)
    reward.history = HistorySizes(3, 40)
    reward.relevance.take(Ordinal(5.0, (1.0, 2.0, 3.0)))
    reward.save(tmp_path)
    again = load_reward(tmp_path)
    assert (again.size, again.weights, again.history) == (reward.size, reward.weights, HistorySizes(3, 40))
    assert torch.equal(again.score(again(inputs)), reward.score(reward(inputs)))
    assert load_reward(tmp_path, ScoreWeights(cvr=0)).weights == ScoreWeights(cvr=0)
