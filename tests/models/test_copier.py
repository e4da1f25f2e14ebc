"""The copier against the formula written out as loops, and as a distribution over whole SIDs."""

import itertools
import math

import pytest
import torch

from onesearch.models.copier import NO_ITEM, Copier

B, X, L, H, LEVEL, K, PLACES = 2, 3, 4, 8, 2, 5, 6


@pytest.fixture
def copier():
    torch.manual_seed(0)
    copier = Copier(H, PLACES)
    for parameter in copier.parameters():
        torch.nn.init.normal_(parameter)
    return copier


@pytest.fixture
def inputs():
    """Log-probabilities, states, prefixes, prompts and their items; prompt 1 has an item at one place only."""
    torch.manual_seed(1)
    items = torch.randint(0, 2, (B, L, LEVEL + 1))
    items[..., LEVEL] = torch.randint(0, K, (B, L))
    items[0, 2], items[1, :3] = NO_ITEM, NO_ITEM
    return {
        "log_probs": torch.randn(B, X, K).log_softmax(-1),
        "decoded": torch.randn(B, X, H),
        "prefix": torch.randint(0, 2, (B, X, LEVEL)),
        "hidden": torch.randn(B, L, H),
        "items": items,
        "places": torch.where(items[..., 0] == NO_ITEM, NO_ITEM, torch.randint(0, PLACES, (B, L))),
    }


def mixed(copier, log_probs, decoded, prefix, hidden, items, places):
    return copier(log_probs, decoded, prefix, copier.keys(hidden, places), items)


@torch.no_grad()
def mixture(copier, log_probs, decoded, prefix, hidden, items, places, b, x):
    """The formula of the docstring for one beam, in Python floats."""
    fitting = [j for j in range(L) if items[b, j, 0] >= 0 and items[b, j, :LEVEL].tolist() == prefix[b, x].tolist()]
    query = copier.query(decoded[b, x])
    keys = {j: copier.key(hidden[b, j]) + copier.place.weight[places[b, j]] for j in fitting}
    scores = {j: math.exp(float(query @ key) / math.sqrt(H)) for j, key in keys.items()}
    gate = 1 / (1 + math.exp(-float(copier.gate(decoded[b, x])))) if fitting else 0.0
    probabilities = []
    for code in range(K):
        copied = sum(score for j, score in scores.items() if items[b, j, LEVEL] == code)
        share = copied / sum(scores.values()) if fitting else 0.0
        probabilities.append((1 - gate) * math.exp(log_probs[b, x, code]) + gate * share)
    return probabilities


def test_is_the_mixture_of_writing_and_repeating(copier, inputs):
    got = mixed(copier, **inputs).exp()
    num_repeating = 0
    for b, x in itertools.product(range(B), range(X)):
        want = mixture(copier, **inputs, b=b, x=x)
        assert got[b, x].tolist() == pytest.approx(want, abs=1e-6)
        num_repeating += not torch.allclose(got[b, x], inputs["log_probs"][b, x].exp())
    assert 0 < num_repeating < B * X  # both cases were there


def test_without_an_item_of_the_prefix_nothing_changes(copier, inputs):
    inputs["prefix"] = torch.full((B, X, LEVEL), 9)
    assert torch.allclose(mixed(copier, **inputs), inputs["log_probs"], atol=1e-6)


def test_gradients_are_finite_where_nothing_can_be_repeated(copier, inputs):
    inputs["log_probs"].requires_grad_()
    inputs["items"][0, :2, :LEVEL], inputs["prefix"][0], inputs["prefix"][1] = 0, 0, 9
    mixed(copier, **inputs).sum().backward()
    for tensor in (inputs["log_probs"], *copier.parameters()):
        assert tensor.grad.isfinite().all()
    assert copier.key.weight.grad.abs().max() > 0


@torch.no_grad()
def test_probabilities_of_all_sids_still_sum_to_one(build, vocabulary, listing):
    generator = build(copying=True)
    sids = torch.tensor(list(itertools.product(*map(range, vocabulary.spec.sizes)))).expand(2, -1, -1)
    encoded = generator.encode(listing)
    probabilities = generator.sid_log_probs(encoded, sids).sum(-1).exp()
    assert torch.allclose(probabilities.sum(-1), torch.ones(2), atol=1e-4)
    plain = build()
    assert torch.allclose(probabilities[1], plain.sid_log_probs(encoded, sids)[1].sum(-1).exp(), atol=1e-6)


@torch.no_grad()
def test_a_closed_gate_writes_and_an_open_one_repeats(build, vocabulary, listing):
    """With g = 1 only the three listed SIDs have a probability, and together they have all of it."""
    generator = build(copying=True)
    sids = torch.tensor(list(itertools.product(*map(range, vocabulary.spec.sizes)))).expand(2, -1, -1)
    encoded = generator.encode(listing)
    generator.copier.gate.bias.fill_(60.0)
    probabilities = generator.sid_log_probs(encoded, sids)[0].sum(-1).exp()
    listed = (sids[0].unsqueeze(1) == listing.listed[0]).all(-1).any(-1)
    assert probabilities[listed].min() > 0
    assert probabilities[listed].sum().item() == pytest.approx(1, abs=1e-4)
    generator.copier.gate.bias.fill_(-60.0)
    closed = generator.sid_log_probs(encoded, sids)
    assert torch.allclose(closed, build().sid_log_probs(encoded, sids), atol=1e-5)


@torch.no_grad()
def test_half_precision_states_give_whole_probabilities(copier, inputs):
    """bf16 parameters and states, as under bf16-true: probabilities are float32 and sum to one."""
    half = {name: inputs[name].bfloat16() for name in ("decoded", "hidden")}
    got = mixed(copier.bfloat16(), **inputs | half)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.exp().sum(-1), torch.ones(B, X))
