"""Step by step with a cache, the scorer says what one pass over whole SIDs says."""

import itertools

import pytest
import torch

from onesearch.decoding.beam import beam_search
from onesearch.models.scorer import GeneratorScorer
from onesearch.models.writing import Encoded
from onesearch.sid.trie import Trie

PROMPTS = [5, 6, 2], [7, 8, 9, 10, 11, 2]


@torch.no_grad()
def step_by_step(generator, encoded, choices):
    """Follow beams: `choices` holds (parents, codes) of each level. Returns the SIDs and their log-probabilities."""
    scorer = GeneratorScorer(generator, encoded)
    logs, beams, scores = scorer.start().unsqueeze(1), None, None
    for level, (parents, codes) in enumerate(choices, start=1):
        batch = torch.arange(len(codes)).unsqueeze(1)
        gained = logs[batch, parents].gather(-1, codes.unsqueeze(-1))
        beams = codes.unsqueeze(-1) if level == 1 else torch.cat([beams[batch, parents], codes.unsqueeze(-1)], -1)
        scores = gained if level == 1 else torch.cat([scores[batch, parents], gained], -1)
        if level < len(choices):
            logs = scorer.advance(parents, codes, level)
    return beams, scores


@torch.no_grad()
@pytest.mark.parametrize("name", ["bart", "mbart", "t5", "mt5", "umt5", "pegasus", "gpt2", "llama", "qwen2"])
def test_beams_that_cross_and_fork(build, make_prompt, name):
    """Three beams swap places, die and fork at each level, differently in the two searches."""
    root = torch.zeros(2, 3, dtype=torch.int64)
    choices = [
        (root, torch.tensor([[0, 2, 3], [1, 2, 3]])),
        (torch.tensor([[2, 0, 0], [1, 1, 1]]), torch.tensor([[1, 0, 2], [2, 0, 1]])),
        (torch.tensor([[1, 2, 0], [0, 2, 2]]), torch.tensor([[1, 1, 0], [0, 1, 0]])),
        (torch.tensor([[0, 0, 2], [2, 1, 0]]), torch.tensor([[2, 0, 1], [1, 1, 2]])),
        (torch.tensor([[2, 1, 1], [0, 1, 2]]), torch.tensor([[1, 0, 1], [0, 0, 1]])),
    ]
    generator = build(name)
    encoded = generator.encode(make_prompt(*PROMPTS))
    sids, scores = step_by_step(generator, encoded, choices)
    assert torch.allclose(scores, generator.sid_log_probs(encoded, sids), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["bart", "t5", "pegasus", "gpt2", "llama"])
@pytest.mark.parametrize("beams_later", [1, 4])
def test_the_number_of_beams_may_change(build, make_prompt, name, beams_later):
    """From two beams to one or four at the second level: keys over the prompt move along."""
    generator, encoded = build(name), build(name).encode(make_prompt(*PROMPTS))
    parents = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0]])[:, :beams_later]
    choices = [(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([[0, 3], [2, 1]]))]
    choices += [(parents, torch.randint(0, 3, parents.shape))]
    choices += [(torch.arange(beams_later).expand(2, -1), torch.ones_like(parents)) for _ in range(3)]
    sids, scores = step_by_step(generator, encoded, choices)
    assert torch.allclose(scores, generator.sid_log_probs(encoded, sids), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["bart", "gpt2"])
def test_beams_repeat_listed_items(build, listing, name):
    """A beam knows its codes so far, also when beams swap places: items are repeated under their own prefix alone."""
    generator = build(name, copying=True)
    encoded = generator.encode(listing)
    parents = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0]])
    choices = [(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([[3, 1], [1, 3]]))]
    choices += [(parents, torch.tensor([[0, 2, 1, 2], [2, 0, 2, 1]]))]
    choices += [(torch.tensor([[3, 0, 1, 1], [0, 1, 2, 3]]), torch.tensor([[0, 0, 1, 0], [1, 0, 0, 0]]))]
    choices += [(parents, torch.tensor([[1, 2, 0, 1], [0, 2, 1, 1]]))] * 2
    choices[-1] = (parents, torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]]))
    sids, scores = step_by_step(generator, encoded, choices)
    assert torch.allclose(scores, generator.sid_log_probs(encoded, sids), atol=1e-4)
    generator.copier = None
    assert not torch.allclose(scores[0], generator.sid_log_probs(encoded, sids)[0], atol=1e-2)


@torch.no_grad()
def test_wide_beams_are_the_sorted_list_of_all_sids(generator, vocabulary, make_prompt):
    """As many beams as SIDs: nothing is pruned, so the search is exact."""
    every = torch.tensor(list(itertools.product(*map(range, vocabulary.spec.sizes))))[::3]
    encoded = generator.encode(make_prompt(*PROMPTS))
    beams = beam_search(GeneratorScorer(generator, encoded), Trie(every.numpy(), vocabulary.spec.sizes), len(every))
    want, order = generator.sid_log_probs(encoded, every.expand(2, -1, -1)).sum(-1).sort(dim=-1, descending=True)
    assert torch.allclose(beams.scores, want, atol=1e-4)
    assert torch.equal(beams.codes[:, 0], every[order[:, 0]])


@torch.no_grad()
def test_the_encoder_is_not_run_again(build, vocabulary, make_prompt):
    generator = build()
    encoded, calls = generator.encode(make_prompt(*PROMPTS)), []
    generator.backbone.get_encoder().register_forward_hook(lambda *call: calls.append(call))
    codes = torch.zeros(2, 3, dtype=torch.int64)
    step_by_step(generator, encoded, [(codes, codes)] * vocabulary.spec.num_layers)
    assert calls == []


@torch.no_grad()
def test_a_decoder_reads_a_prompt_once_and_then_one_token_a_beam(decoder, vocabulary, make_prompt):
    """Prompts of 3 and 6 tokens in one pass, the start in one, four codes of three beams each in four."""
    seen = []

    def keep(_, args, kwargs):
        given = kwargs.get("input_ids")
        seen.append(tuple(kwargs["inputs_embeds"].shape[:2] if given is None else given.shape))

    decoder.backbone.base_model.register_forward_pre_hook(keep, with_kwargs=True)
    codes = torch.zeros(2, 3, dtype=torch.int64)
    encoded = decoder.encode(make_prompt(*PROMPTS))
    step_by_step(decoder, encoded, [(codes, codes)] * vocabulary.spec.num_layers)
    assert seen == [(2, 6), (2, 1), *[(6, 1)] * 4]


class FullHead(GeneratorScorer):
    """Normalised over the whole vocabulary, as `generate` does it, instead of the layer's slice."""

    def _step(self, tokens):
        decoded = self.writing.step(tokens)[:, -1].unflatten(0, (-1, self.num_beams)) * self.scale
        slice_ = self.generator.vocabulary.level_slice(self.prefix.shape[-1])
        return self.generator.backbone.get_output_embeddings()(decoded).log_softmax(-1)[..., slice_]

    @property
    def scale(self):
        return self.generator.architecture.output_scale


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [1, 3, 8])
@pytest.mark.parametrize("name", ["bart", "t5"])
def test_the_same_lists_as_hugging_face(build, vocabulary, make_prompt, name, num_beams):
    """`generate` with a prefix function over the same SIDs: the same lists, the same scores."""
    generator, prompt = build(name), make_prompt(*PROMPTS)
    every = torch.tensor(list(itertools.product(*map(range, vocabulary.spec.sizes))))[::5]
    following = {}
    for sid in vocabulary.sid_tokens(every).tolist():
        for level, token in enumerate(sid):
            following.setdefault(tuple(sid[:level]), set()).add(token)
    num_layers = vocabulary.spec.num_layers
    found = generator.backbone.generate(
        input_ids=prompt.input_ids,
        attention_mask=prompt.attention_mask,
        prefix_allowed_tokens_fn=lambda _, written: list(following[tuple(written[1:].tolist())]),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        min_new_tokens=num_layers,
        max_new_tokens=num_layers,
        length_penalty=0.0,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    trie = Trie(every.numpy(), vocabulary.spec.sizes)
    beams = beam_search(FullHead(generator, generator.encode(prompt)), trie, num_beams)
    assert torch.equal(vocabulary.sid_tokens(beams.codes).flatten(0, 1), found.sequences[:, 1:])
    if num_beams > 1:  # a greedy search has no scores of whole sequences
        assert torch.allclose(beams.scores.flatten(), found.sequences_scores, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["bart", "t5"])
def test_a_whole_search_is_one_graph(build, vocabulary, make_prompt, name):
    """Nothing in it looks at values: it is captured whole, and serves other prompts of the same shape as it is."""
    generator = build(name)
    every = torch.tensor(list(itertools.product(*map(range, vocabulary.spec.sizes))))[::3]
    trie = Trie(every.numpy(), vocabulary.spec.sizes)

    def search(hidden, attention_mask):
        return beam_search(GeneratorScorer(generator, Encoded(hidden, attention_mask)), trie, 4)

    prompts = [generator.encode(make_prompt(*tokens))[:2] for tokens in (PROMPTS, ([9, 8, 7, 2], [3, 4, 5, 6, 7, 2]))]
    compiled = torch.compile(search, backend="aot_eager", fullgraph=True, dynamic=False)
    try:
        found = [compiled(*prompts[0])]
        with torch._dynamo.config.patch(error_on_recompile=True):
            found.append(compiled(*prompts[1]))
    finally:
        torch._dynamo.reset()
    for one, prompt in zip(found, prompts, strict=True):
        want = search(*prompt)
        assert torch.equal(one.codes, want.codes)
        assert torch.allclose(one.scores, want.scores)
