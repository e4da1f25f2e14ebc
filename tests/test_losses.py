"""Losses against hand-worked values and float64 references written independently."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from onesearch.losses import (
    LEVEL_WEIGHTS,
    adaptive_reward,
    info_nce,
    list_kl,
    listwise_preference,
    log_mass,
    rank_hinge,
    relevance_mse,
    reward_gap_weight,
    soft_preference,
)


def reference_info_nce(left, right, temperature, forbidden):
    """The definition, pair by pair in float64; `forbidden` holds the off-diagonal (i, j) that are no negatives."""
    left = left / np.linalg.norm(left, axis=1, keepdims=True)
    right = right / np.linalg.norm(right, axis=1, keepdims=True)
    count, total = len(left), 0.0
    for i in range(count):
        for rows, columns, banned in ((left, right, (lambda a, b: (a, b))), (right, left, (lambda a, b: (b, a)))):
            kept = [j for j in range(count) if banned(i, j) not in forbidden]
            scores = {j: rows[i] @ columns[j] / temperature for j in kept}
            total += math.log(sum(math.exp(score) for score in scores.values())) - scores[i]
    return total / (2 * count)


def test_info_nce_is_its_definition():
    """No text occurs twice: nothing is masked."""
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 5, 4))
    loss = info_nce(tensor(left), tensor(right), 0.05, torch.arange(5), torch.arange(5, 10))
    assert loss.item() == pytest.approx(reference_info_nce(left, right, 0.05, set()), rel=1e-12)


def test_info_nce_masks_every_kind_of_duplicate():
    """Rows 0 and 2 share the right text 11, rows 1 and 3 the left text 2, and row 0's left is row 4's right."""
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(2, 5, 4))
    left_ids, right_ids = tensor([1, 2, 3, 2, 5]), tensor([11, 12, 11, 14, 1])
    forbidden = {(0, 2), (2, 0), (1, 3), (3, 1), (0, 4)}
    loss = info_nce(tensor(left), tensor(right), 0.1, left_ids, right_ids)
    assert loss.item() == pytest.approx(reference_info_nce(left, right, 0.1, forbidden), rel=1e-12)


def test_hard_negatives_join_the_denominator_of_their_query_alone():
    """Against the definition: row 0 gains two terms, row 1 one, row 2 none; right → left gains nothing."""
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(2, 3, 4))
    hard, mask = rng.normal(size=(3, 2, 4)), tensor([[True, True], [False, True], [False, False]])
    ids = torch.arange(3), torch.arange(3, 6)
    loss = info_nce(tensor(left), tensor(right), 1.0, *ids, tensor(hard), mask)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    gained = 0.0
    for row in range(3):
        scores = [cosine(left[row], right[other]) for other in range(3)]
        extra = [cosine(left[row], hard[row, x]) for x in range(2) if mask[row, x]]
        gained += np.logaddexp.reduce(scores + extra) - np.logaddexp.reduce(scores)
    assert loss.item() == pytest.approx(reference_info_nce(left, right, 1.0, set()) + gained / 6, rel=1e-12)
    assert gained > 0.1


def test_no_hard_negative_in_a_batch_changes_nothing():
    left, right, hard = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4), torch.randn(3, 2, 4)
    ids = torch.arange(3), torch.arange(3, 6)
    loss = info_nce(left, right, 0.1, *ids, hard, torch.zeros(3, 2, dtype=torch.bool))
    loss.backward()
    assert torch.equal(loss, info_nce(left, right, 0.1, *ids))
    assert left.grad is not None
    assert left.grad.isfinite().all()


def test_info_nce_of_one_text_is_zero_with_zero_gradient():
    """Each row is a duplicate of each other: only the diagonal is left, log softmax of a single logit is 0."""
    left = torch.randn(3, 4, requires_grad=True)
    loss = info_nce(left, torch.randn(3, 4), 0.05, torch.zeros(3).long(), torch.zeros(3).long())
    loss.backward()
    assert loss.item() == 0
    assert left.grad is not None
    assert torch.equal(left.grad, torch.zeros(3, 4))


def test_rank_hinge_by_hand():
    """Row 0: .1 − .5 + .6 = .2, .05 − .6 + .58 = .03, .15 − .5 + .58 = .23; row 1 holds all margins: 6 pairs, .46/6."""
    loss = rank_hinge(tensor([0.5, 0.9]), tensor([0.6, 0.7]), tensor([0.58, 0.1]))
    assert loss.item() == pytest.approx(0.46 / 6, rel=1e-5)


def test_rank_hinge_skips_what_a_search_lacks():
    """No click: only order over shown is left, .15 − .5 + .6 = .25; all missing: 0. Gradients stay finite."""
    nan = float("nan")
    order = tensor([0.5], requires_grad=True)
    loss = rank_hinge(order, tensor([nan]), tensor([0.6]))
    loss.backward()
    assert loss.item() == pytest.approx(0.25, rel=1e-5)
    assert order.grad is not None and order.grad.item() == -1
    assert rank_hinge(tensor([nan]), tensor([0.3]), tensor([nan])).item() == 0


def test_relevance_mse_by_hand():
    """Grades 3 and 0 want cosines 1 and 0: ((.5)² + (.5)²)/2 = .25."""
    assert relevance_mse(tensor([0.5, 0.5]), tensor([3, 0])).item() == pytest.approx(0.25)


def test_reward_without_data_is_half_the_level_weight():
    """Ctr = log 10/(3·log 10) = 1/3, Cvr = 1, so 2λ·(1/3)/(4/3) = λ/2; a well-exposed unclicked item gets less."""
    weight, zero = tensor(LEVEL_WEIGHTS, dtype=torch.float64), torch.zeros(6)
    torch.testing.assert_close(adaptive_reward(weight, zero, zero, zero), weight / 2, check_dtype=False)
    exposed = adaptive_reward(tensor(0.5), tensor(1000.0), tensor(0.0), tensor(0.0))
    assert exposed.item() < 0.25


def test_reward_by_hand():
    """n = 90, 10, 0 with λ = 2: logs of 100, 20, 10; T = log 20000, Ctr = log 20/T, Cvr = log 10/log 20."""
    ctr, cvr = math.log(20) / math.log(20_000), math.log(10) / math.log(20)
    reward = adaptive_reward(tensor(2.0), tensor(90), tensor(10), tensor(0))
    assert reward.item() == pytest.approx(4 * ctr * cvr / (ctr + cvr), rel=1e-6)


def test_gap_weight_is_guarded():
    """Gaps .5, .01, 0, −.3 with w_max 10: 2, 100 → 10, the limit 10, 0; the gradient is finite everywhere."""
    positive = tensor([1.0, 1.0, 1.0, 0.7], requires_grad=True)
    weight = reward_gap_weight(positive, tensor([0.5, 0.99, 1.0, 1.0]), 10.0)
    weight.sum().backward()
    assert weight.tolist() == pytest.approx([2, 10, 10, 0])
    assert positive.grad is not None and positive.grad.isfinite().all()


def lists(seed, count=4, num_rejected=3):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((count,), (count, num_rejected), (count,), (count, num_rejected))
    return [-5 * torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def test_listwise_preference_is_its_formula():
    """Float64, list by list, with weights, δ and a padded negative in list 0."""
    chosen, rejected, ref_chosen, ref_rejected = lists(0)
    weights = torch.rand(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[0, 2] = False
    beta, delta = 0.3, 0.2
    want = []
    for b in range(4):
        up = beta * (chosen[b] - ref_chosen[b]).item()
        downs = [beta * (rejected[b, l] - ref_rejected[b, l]).item() for l in range(3) if mask[b, l]]  # noqa: E741
        inner = sum(math.exp(w * (down - up + delta)) for w, down in zip(weights[b].tolist(), downs, strict=False))
        want.append(math.log(1 + inner))
    loss = listwise_preference(chosen, rejected, ref_chosen, ref_rejected, weights, mask, beta, delta)
    assert loss.tolist() == pytest.approx(want, rel=1e-12)


def test_one_negative_is_dpo_and_starts_at_log_2():
    """At the reference −log σ(0) = log 2; elsewhere −log σ(β·((p_w − r_w) − (p_l − r_l)))."""
    chosen, rejected, ref_chosen, ref_rejected = lists(2, num_rejected=1)
    one, mask = torch.ones(4, 1), torch.ones(4, 1, dtype=torch.bool)
    start = listwise_preference(chosen, rejected, chosen, rejected, one, mask)
    assert start.tolist() == pytest.approx([math.log(2)] * 4, rel=1e-12)
    margin = 0.1 * ((chosen - ref_chosen) - (rejected - ref_rejected)[:, 0])
    loss = listwise_preference(chosen, rejected, ref_chosen, ref_rejected, one, mask, beta=0.1)
    assert loss.tolist() == pytest.approx((-margin.sigmoid().log()).tolist(), rel=1e-12)


def test_listwise_preference_gradient():
    """Analytic against numeric gradient in float64; a step pulls the chosen item up and the rejected down."""
    chosen, rejected, ref_chosen, ref_rejected = lists(3)
    weights, mask = torch.ones(4, 3, dtype=torch.float64), torch.ones(4, 3, dtype=torch.bool)
    chosen.requires_grad_()
    rejected.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda c, r: listwise_preference(c, r, ref_chosen, ref_rejected, weights, mask), (chosen, rejected)
    )
    listwise_preference(chosen, rejected, ref_chosen, ref_rejected, weights, mask).sum().backward()
    assert (chosen.grad < 0).all() and (rejected.grad > 0).all()


def test_listwise_preference_survives_extremes():
    """Log-ratios of ±10⁴ do not overflow, and a list whose negatives are all padding costs 0 with gradient 0."""
    chosen = tensor([-1e4, -1.0], requires_grad=True)
    rejected = tensor([[0.0], [-3.0]], requires_grad=True)
    mask = tensor([[True], [False]])
    loss = listwise_preference(chosen, rejected, tensor([0.0, -1.0]), tensor([[-1e4], [0.0]]), torch.ones(2, 1), mask)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([2000, 0])
    assert chosen.grad.tolist() == pytest.approx([-0.1, 0])
    assert rejected.grad.flatten().tolist() == pytest.approx([0.1, 0])


def test_weights_of_one_are_s_dpo():
    """−log σ(−log Σ_l exp(β·(log π/ref(l) − log π/ref(w)))) as arXiv 2406.09215 prints it, list by list in float64."""
    chosen, rejected, ref_chosen, ref_rejected = lists(5, 6, 4)
    ones, mask = torch.ones(6, 4, dtype=torch.float64), torch.ones(6, 4, dtype=torch.bool)
    want = []
    for b in range(6):
        ratio = [math.exp(rejected[b, x] - ref_rejected[b, x]) for x in range(4)]
        of_chosen = math.exp(chosen[b] - ref_chosen[b])
        inner = -math.log(sum((found / of_chosen) ** 0.5 for found in ratio))
        want.append(-math.log(1 / (1 + math.exp(-inner))))
    got = listwise_preference(chosen, rejected, ref_chosen, ref_rejected, ones, mask, beta=0.5)
    torch.testing.assert_close(got, tensor(want, dtype=torch.float64), rtol=1e-12, atol=0)


def test_gradient_with_weights_margin_padding_and_counts():
    """Against finite differences in float64; weights of 0 and padding get none."""
    chosen, rejected, ref_chosen, ref_rejected = lists(6)
    weights = tensor([[0.0, 1.5, 3.0], [0.0, 0.0, 0.0], [0.2, 1.0, 3.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[3] = False
    counts = tensor([[1.0, 0.5, 0.5], [1.0, 1.0, 1.0], [0.25, 1.0, 3.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    chosen.requires_grad_()
    rejected.requires_grad_()

    def loss(up, down):
        parts = (up, down, ref_chosen, ref_rejected, weights, mask)
        return listwise_preference(*parts, beta=0.7, delta=0.3, counts=counts).mean()

    assert torch.autograd.gradcheck(loss, (chosen, rejected))
    loss(chosen, rejected).backward()
    assert rejected.grad[0, 0] == 0
    assert torch.equal(rejected.grad[[1, 3]], torch.zeros(2, 3, dtype=torch.float64))
    assert chosen.grad[3].item() == 0


def test_a_list_of_the_chosen_item_alone():
    """No column of rejected items at all: the preference costs 0, with gradient 0."""
    chosen = tensor([-1.0, -1e4], requires_grad=True)
    empty = torch.zeros(2, 0)
    loss = listwise_preference(chosen, empty, tensor([-2.0, -3.0]), empty, empty, empty.bool())
    loss.sum().backward()
    assert loss.tolist() == chosen.grad.tolist() == [0, 0]


@pytest.mark.parametrize("copies", [1, 5, 40])
def test_how_many_share_a_place_changes_no_strength(copies):
    """Y negatives of one reward that count 1/Y each are one negative: the same loss and the same gradients."""
    chosen, rejected, ref_chosen, ref_rejected = lists(7)
    weights, mask = torch.full((4, 3), 1.5, dtype=torch.float64), torch.ones(4, 3, dtype=torch.bool)

    def many(part):  # the last negative, `copies` times
        return torch.cat([part[:, :2], part[:, 2:].expand(-1, copies)], 1)

    counts = tensor([1.0, 1.0, *[1 / copies] * copies], dtype=torch.float64).expand(4, -1)
    one, other = (rejected.clone().requires_grad_() for _ in range(2))
    want = listwise_preference(chosen, one, ref_chosen, ref_rejected, weights, mask, 0.3, 0.2)
    parts = (chosen, many(other), ref_chosen, *map(many, (ref_rejected, weights, mask)))
    got = listwise_preference(*parts, 0.3, 0.2, counts)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    want.sum().backward()
    got.sum().backward()
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-12, atol=0)


LOGS = st.one_of(st.floats(-30, 0), st.sampled_from([0.0, -1e-9, -1e4]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nothing_becomes_nan(data):
    """Whatever rewards (equal, inverted), probabilities (to e^-10000) and masks: loss and gradients are finite."""
    count, width = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))

    def draw(strategy, *shape):
        size = math.prod(shape)
        return tensor(data.draw(st.lists(strategy, min_size=size, max_size=size))).reshape(shape)

    chosen, rejected = draw(LOGS, count), draw(LOGS, count, width)
    some = st.sampled_from([0.0, 0.1, 0.5, 1.0])
    weights = reward_gap_weight(draw(some, count, 1), draw(some, count, width), 3.0)
    policy = [part.clone().requires_grad_() for part in (chosen, rejected)]
    reference, mask = (draw(LOGS, count), draw(LOGS, count, width)), draw(st.booleans(), count, width)
    loss = listwise_preference(*policy, *reference, weights, mask).mean()
    loss.backward()
    assert loss.isfinite()
    assert all(part.grad.isfinite().all() for part in policy)


def test_a_certain_soft_list_is_s_dpo():
    chosen, rejected, ref_chosen, ref_rejected = lists(8)
    policy, reference = (
        torch.cat([one[:, None], more], 1) for one, more in ((chosen, rejected), (ref_chosen, ref_rejected))
    )
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[0, 3] = False
    certain = torch.zeros(4, 4, dtype=torch.float64)
    certain[:, 0] = 1
    want = listwise_preference(
        chosen, rejected, ref_chosen, ref_rejected, torch.ones(4, 3, dtype=torch.float64), mask[:, 1:], beta=0.7
    )
    torch.testing.assert_close(soft_preference(policy, reference, certain, mask, 0.7), want, rtol=1e-12, atol=0)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_a_soft_list_is_learnt_where_the_reference_is_tilted_by_the_worth(beta):
    """At π = π_ref·s^(1/β), up to a factor a list, the gradient is nothing; elsewhere finite differences agree."""
    generator = torch.Generator().manual_seed(9)
    worth, reference = (torch.rand(3, 5, generator=generator, dtype=torch.float64) + 0.1 for _ in range(2))
    reference, shares, mask = reference.log(), worth / worth.sum(-1, keepdim=True), torch.ones(3, 5, dtype=torch.bool)
    policy = (reference + worth.log() / beta - 2).requires_grad_()
    soft_preference(policy, reference, shares, mask, beta).sum().backward()
    assert policy.grad.abs().max() < 1e-12
    elsewhere = reference.detach().flip(-1).requires_grad_()
    assert torch.autograd.gradcheck(lambda logs: soft_preference(logs, reference, shares, mask, beta), elsewhere)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_what_no_item_has_is_only_pushed_down(beta):
    """Candidates without a chance to be the best, list by list in float64: they stand in the denominator, no more.

    Their gradient is β·softmax > 0, whatever the reference says of them, and the items' take it up: the sum is 0.
    """
    generator = torch.Generator().manual_seed(10)
    policy, reference = (-5 * torch.rand(3, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    shares = torch.rand(3, 6, generator=generator, dtype=torch.float64)
    shares[:, 4:] = 0  # the last two are of no item
    shares /= shares.sum(-1, keepdim=True)
    policy.requires_grad_()
    loss = soft_preference(policy, reference, shares, torch.ones(3, 6, dtype=torch.bool), beta)
    loss.sum().backward()
    for row in range(3):
        tilts = [math.exp(beta * (policy[row, i] - reference[row, i]).item()) for i in range(6)]
        want = -sum(shares[row, i].item() * math.log(tilts[i] / sum(tilts)) for i in range(4))
        assert loss[row].item() == pytest.approx(want, rel=1e-12)
        assert policy.grad[row, 4:].tolist() == pytest.approx([beta * tilt / sum(tilts) for tilt in tilts[4:]])
        assert policy.grad[row].sum().item() == pytest.approx(0, abs=1e-12)


def test_soft_lists_survive_padding_and_extremes():
    policy = tensor([[-1e4, -1.0, 0.0], [-2.0, 0.0, 0.0]], requires_grad=True)
    mask = tensor([[True, True, False], [True, False, False]])
    shares = tensor([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    loss = soft_preference(policy, tensor([[0.0, -1e4, 0.0], [-2.0, 0.0, 0.0]]), shares, mask)
    (loss - log_mass(policy, mask)).sum().backward()
    assert loss.tolist() == pytest.approx([0.25 * 19999, 0])
    assert log_mass(policy, mask).tolist() == pytest.approx([-1, -2])
    assert policy.grad.isfinite().all() and (policy.grad[~mask] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_kl_of_lists(seed):
    """By hand over 6 SIDs, 3 of them in the list; never negative, nor above the KL over all; 0 where nothing moved."""
    generator = torch.Generator().manual_seed(seed)
    p, q = (torch.randn(6, generator=generator, dtype=torch.float64).softmax(0) for _ in range(2))
    mask = tensor([[True, True, True, False]])
    got = list_kl(p[:4].log()[None], q[:4].log()[None], mask)
    lumped_p, lumped_q = ([*part[:3].tolist(), part[3:].sum().item()] for part in (p, q))
    want = sum(a * math.log(a / b) for a, b in zip(lumped_p, lumped_q, strict=True))
    assert got.item() == pytest.approx(want, rel=1e-9)
    assert 0 <= got.item() <= (p * (p / q).log()).sum().item()
    assert list_kl(p[:4].log()[None], p[:4].log()[None], mask).item() == pytest.approx(0, abs=1e-12)


def test_kl_of_a_list_that_holds_everything():
    """Float32 probabilities that sum to a little more than one: finite, and the two-point KL."""
    p, q = tensor([[0.5, 0.5000001]]).log(), tensor([[0.25, 0.75]]).log()
    got = list_kl(p, q, torch.ones(1, 2, dtype=torch.bool))
    assert got.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-5)
