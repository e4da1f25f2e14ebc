"""The two graphs say what the generator says, and so do their exports."""

import itertools

import pytest
import torch

from onesearch.decoding.beam import beam_search
from onesearch.models.graphs import PromptGraph, StepGraph
from onesearch.models.scorer import GeneratorScorer
from onesearch.serve.onnx import OnnxGenerator, export_onnx
from onesearch.sid.trie import Trie
from onesearch.types import PromptBatch, UserError

KINDS = ["bart", "bart-scaled", "mbart", "t5", "t5-1.1", "mt5", "umt5"]


def filled(prompt, num_layers):
    """The graphs take every field."""
    shape = prompt.input_ids.shape
    empty = torch.full((len(prompt.input_ids), 3, 1, num_layers), -1), torch.full((*shape, num_layers), -1)
    history, listed = (
        mine if given is None else given for mine, given in zip(empty, (prompt.history, prompt.listed), strict=True)
    )
    places = torch.full(shape, -1) if prompt.places is None else prompt.places
    return PromptBatch(prompt.input_ids, prompt.attention_mask, history, listed, places)


@torch.no_grad()
@pytest.mark.parametrize("copying", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_code_by_code_they_say_what_whole_sids_say(build, vocabulary, listing, make_prompt, name, copying):
    """Two SIDs a prompt; outside of the next layer's codes everything is impossible."""
    generator = build(name, copying=copying)
    slot = vocabulary.marker("<slot>")
    prompts = listing if copying else make_prompt([5, slot, slot, 2], [6, 2], history=torch.randint(0, 2, (2, 3, 4, 3)))
    prompt = filled(prompts, vocabulary.spec.num_layers)
    codes = torch.tensor([[[1, 2, 1, 0, 1], [3, 0, 0, 2, 1]], [[0, 1, 1, 2, 0], [1, 2, 0, 1, 0]]])
    tokens = vocabulary.sid_tokens(codes)
    want = generator.sid_log_probs(generator.encode(prompt), codes)
    mask, *rest = PromptGraph(generator)(*prompt)
    graph = StepGraph(generator)
    num_parts = 2 * len(graph.step.blocks)
    pairs, keys = rest[:num_parts], rest[num_parts:]
    past = [torch.zeros(2, 2, 0, 16) for _ in pairs]
    written = torch.full((2, 2, 1), generator.architecture.start_token)
    begin = 0
    for level, size in enumerate(vocabulary.spec.sizes):
        logs, *past = graph(written, mask, pairs, past, prompt.listed, *keys)
        is_possible = torch.zeros(sum(vocabulary.spec.sizes), dtype=torch.bool)
        is_possible[begin : begin + size] = True
        assert torch.equal(torch.isfinite(logs), is_possible.expand_as(logs))
        assert torch.allclose(logs[..., begin : begin + size].exp().sum(-1), torch.ones(2, 2), atol=1e-5)
        found = logs.gather(-1, codes[..., level, None] + begin).squeeze(-1)
        assert torch.allclose(found, want[..., level], atol=1e-4)
        written = torch.cat([written, tokens[..., level, None]], -1)
        begin += size


@torch.no_grad()
def test_exported_they_search_alike(build, vocabulary, listing, make_prompt, tmp_path):
    """T5 that copies (BART: tests/serve): other numbers of prompts, tokens and beams than at the export."""
    generator = build("t5", copying=True)
    export_onnx(generator, tmp_path)
    exported = OnnxGenerator(tmp_path)
    every = torch.tensor(list(itertools.product(*map(range, vocabulary.spec.sizes))))[::3]
    trie = Trie(every.numpy(), vocabulary.spec.sizes)
    slot = vocabulary.marker("<slot>")
    history = torch.randint(0, 2, (3, 3, 9, vocabulary.spec.num_layers))
    three = make_prompt([5, slot, 2], [6, 7, slot, 8, 2], [slot, 2], history=history)
    for prompt in (listing, three, make_prompt([9, 8, 7, 6, 5, 4, 3, 2])):
        want = beam_search(GeneratorScorer(generator, generator.encode(prompt)), trie, 10)
        found = beam_search(exported.scorer(prompt), trie, 10)
        assert torch.equal(found.codes, want.codes)
        assert torch.allclose(found.scores, want.scores, atol=1e-4)


def test_a_decoder_alone_is_refused(decoder, tmp_path):
    with pytest.raises(UserError, match="cannot be exported"):
        export_onnx(decoder, tmp_path)
