"""Answers packed into one sequence against each answer in a sequence of its own: log-probabilities and gradients."""

import pytest
import torch

from onesearch.models import architecture
from onesearch.models.generator import Generator
from onesearch.types import PromptBatch

KINDS = ("bart", "bart-scaled", "mbart", "t5", "t5-1.1", "mt5", "umt5", "gpt2", "llama", "qwen2", "mistral", "granite")
TEXT, LONGER = [5, 6, 2], [7, 8, 9, 10, 11, 2]


def sids(num_candidates: int) -> torch.Tensor:
    """Of two prompts, [2, X, 5]; some share their first codes."""
    sizes = torch.tensor([4, 3, 2, 3, 2])
    return torch.randint(0, 1000, (2, num_candidates, 5), generator=torch.Generator().manual_seed(3)) % sizes


def one_by_one(generator: Generator, prompt: PromptBatch, codes: torch.Tensor) -> torch.Tensor:
    """Each candidate alone: nothing is packed."""
    encoded = generator.encode(prompt)
    return torch.cat([generator.sid_log_probs(encoded, one) for one in codes.split(1, 1)], 1)


def gradients(generator: Generator, logs: torch.Tensor) -> dict[str, torch.Tensor]:
    generator.zero_grad()
    weights = torch.randn(logs.shape, generator=torch.Generator().manual_seed(4))
    (logs * weights).sum().backward()
    return {name: weight.grad.clone() for name, weight in generator.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("copying", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_packed_is_one_by_one(build, make_prompt, listing, name, copying):
    """Log-probabilities and the gradient of every weight, prompts of two lengths, in float64 but for the heads."""
    generator = build(name, copying=copying).double()
    assert generator.architecture.can_pack
    prompt, codes = listing if copying else make_prompt(TEXT, LONGER), sids(7)
    packed = generator.sid_log_probs(generator.encode(prompt), codes)
    alone = one_by_one(generator, prompt, codes)
    torch.testing.assert_close(packed, alone, atol=1e-6, rtol=1e-6)
    got, want = gradients(generator, packed), gradients(generator, alone)
    assert got.keys() == want.keys()
    for weight, gradient in want.items():
        torch.testing.assert_close(got[weight], gradient, atol=1e-5, rtol=1e-4, msg=weight)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["bart", "t5", "gpt2"])
def test_to_rounding_in_float32_whatever_the_attention(build, make_prompt, name, attention):
    generator, codes = build(name), sids(7)
    generator.backbone.set_attn_implementation(attention)
    prompt = make_prompt(TEXT, LONGER)
    packed = generator.sid_log_probs(generator.encode(prompt), codes)
    torch.testing.assert_close(packed, one_by_one(generator, prompt, codes), atol=2e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["bart", "t5", "gpt2"])
def test_a_long_list_is_cut(build, make_prompt, monkeypatch, name):
    """14 candidates of 5 tokens, 20 tokens a sequence: four sequences, and the same figures."""
    monkeypatch.setattr(architecture, "MOST_PACKED", 20)
    generator, codes, rows = build(name), sids(14), []
    prompt = make_prompt(TEXT, LONGER)
    encoded = generator.encode(prompt)
    decoder = generator.backbone.get_decoder() if name != "gpt2" else generator.backbone.base_model
    hook = decoder.register_forward_pre_hook(
        lambda _, __, given: rows.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    packed = generator.sid_log_probs(encoded, codes)
    hook.remove()
    assert rows == [(2, 20)] * 3 + [(2, 10)]
    torch.testing.assert_close(packed, one_by_one(generator, prompt, codes), atol=2e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("name", "rows"), [("bart", [60, 60]), ("mistral", [120]), ("t5", [120])])
def test_learnt_positions_bound_a_sequence(build, make_prompt, name, rows):
    """24 candidates are 120 tokens: BART's 64 positions hold twelve of them; a decoder alone is told positions, also
    beyond its window of 40, and distances have no end."""
    generator, codes, found = build(name), sids(24), []
    decoder = generator.backbone.base_model if name == "mistral" else generator.backbone.get_decoder()
    encoded = generator.encode(make_prompt(TEXT, LONGER))
    want = one_by_one(generator, make_prompt(TEXT, LONGER), codes)
    decoder.register_forward_pre_hook(lambda _, __, given: found.append(given["input_ids"].shape[1]), with_kwargs=True)
    torch.testing.assert_close(generator.sid_log_probs(encoded, codes), want, atol=2e-5, rtol=1e-5)
    assert found == rows


@torch.no_grad()
def test_what_is_not_known_to_pack_is_written_apart(build, make_prompt, monkeypatch):
    """Another kind of encoder-decoder: 14 rows of 5 tokens."""
    generator, codes, rows = build("bart"), sids(7), []
    want = generator.sid_log_probs(generator.encode(make_prompt(TEXT, LONGER)), codes)
    monkeypatch.setattr(architecture, "KNOWN", ())
    generator.backbone.get_decoder().register_forward_pre_hook(
        lambda _, __, given: rows.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    apart = generator.sid_log_probs(generator.encode(make_prompt(TEXT, LONGER)), codes)
    assert rows == [(14, 5)]
    torch.testing.assert_close(apart, want, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_the_prompt_becomes_keys_and_values_once(build, make_prompt):
    """7 candidates of 2 prompts of 6 tokens: a layer's cross-attention projects [2, 6, H], not [14, 6, H]."""
    generator, shapes = build("bart"), []
    layer = generator.backbone.get_decoder().layers[0]
    layer.encoder_attn.k_proj.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    generator.sid_log_probs(generator.encode(make_prompt(TEXT, LONGER)), sids(7))
    assert shapes == [(2, 6, 16)]


@torch.no_grad()
def test_positions_are_learnt_ones_again_afterwards(build, make_prompt):
    """A text as long as a packed list reads its own positions: nothing of the packing stays."""
    generator, labels = build("bart"), torch.arange(5, 20)[None]
    encoded = generator.encode(make_prompt(TEXT))
    before = generator.text_losses(encoded, labels)
    generator.sid_log_probs(encoded, sids(3)[:1])
    assert torch.equal(generator.text_losses(encoded, labels), before)
