"""What the reward model learns from, and what is made of its towers: losses, down-sampling, products, the score."""

import math

import pytest
import torch
from reward_inputs import model, random_input
from torch import tensor

from onesearch.models.reward import RewardLabels, RewardOutput, ScoreWeights, reward_losses
from onesearch.models.reward_sharing import logit_of, product_logit
from onesearch.models.reward_towers import Logits


def test_a_product_of_probabilities_in_logits():
    """Against float64 arithmetic on probabilities; at logits of ±60 it neither overflows nor loses its sign."""
    a, b = torch.linspace(-9, 9, 19, dtype=torch.float64), torch.linspace(7, -8, 19, dtype=torch.float64)
    torch.testing.assert_close(product_logit(a, b), torch.logit(a.sigmoid() * b.sigmoid()))
    torch.testing.assert_close(logit_of(a.sigmoid().log()), a)
    far = product_logit(tensor([60.0, 60, -60]), tensor([60.0, -60, -60]))
    assert far.tolist() == pytest.approx([60 - math.log(2), -60, -120])


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
