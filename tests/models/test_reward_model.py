"""The reward model: independence of candidates and padding, what each architecture reads, its parts, save and load."""

import pytest
import torch
from reward_inputs import DIM, model, random_input
from torch import tensor

from onesearch.models.relevance import Ordinal
from onesearch.models.reward import HistorySizes, RewardLabels, ScoreWeights, load_reward
from onesearch.models.reward_layers import CrossNet, Standardize
from onesearch.models.reward_sharing import Shared

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


@pytest.mark.parametrize("options", [*LEARNING, {"architecture": "popularity"}], ids=str)
def test_nothing_asks_for_a_value(options):
    """Where tensors have no values, as on the meta device, every question would fail; on a GPU each is a wait.

    Nor does anything lie on a device of its own.
    """
    reward = model(**options).to("meta")
    inputs = random_input()
    inputs = type(inputs)(*(part.to("meta") for part in inputs))
    nothing = torch.zeros(3, 4, device="meta")
    labels = RewardLabels(nothing, nothing, torch.zeros(3, device="meta") > 0, nothing[:, 0] > 0, nothing[:, 0])
    for training in (True, False):
        reward.train(training)
        reward.observe(labels, inputs.mask)
        output = reward(inputs)
        assert reward.score(output).shape == (3, 4)


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
