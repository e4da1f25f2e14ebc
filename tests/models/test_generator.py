"""The generator against transformers' own logits, a distribution that sums to one, and its input embeddings by hand."""

import itertools

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from onesearch.models.generator import FreshGenerator
from onesearch.types import UserError

TEXT, LONGER = [5, 6, 2], [7, 8, 9, 10, 11, 2]


def all_sids(vocabulary):
    return torch.tensor(list(itertools.product(*map(range, vocabulary.spec.sizes))))


@torch.no_grad()
def test_probabilities_of_all_sids_sum_to_one(generator, vocabulary, make_prompt):
    """Σ over the 144 SIDs of Π_l p(c_l | c_<l, x) = 1 for each prompt: one normaliser a layer."""
    sids = all_sids(vocabulary).expand(2, -1, -1)
    logs = generator.sid_log_probs(generator.encode(make_prompt(TEXT, LONGER)), sids)
    assert logs.shape == (2, 144, 5)
    assert torch.allclose(logs.sum(-1).exp().sum(-1), torch.ones(2), atol=1e-4)
    assert logs.exp().std() > 0.01  # not simply uniform


@torch.no_grad()
def test_equals_the_sliced_logits_of_transformers(generator, vocabulary, make_prompt):
    """The whole model's own logits, cut to each layer's slice and normalised there."""
    prompt, codes = make_prompt(TEXT, LONGER), torch.tensor([[[3, 2, 1, 0, 1]], [[0, 1, 1, 2, 0]]])
    tokens = vocabulary.sid_tokens(codes)[:, 0]
    start = torch.full((2, 1), generator.backbone.config.decoder_start_token_id)
    logits = generator.backbone(
        input_ids=prompt.input_ids,
        attention_mask=prompt.attention_mask,
        decoder_input_ids=torch.cat([start, tokens[:, :-1]], 1),
    ).logits
    want = [
        logits[:, level, vocabulary.level_slice(level)].log_softmax(-1).gather(-1, codes[:, 0, level, None])
        for level in range(5)
    ]
    got = generator.sid_log_probs(generator.encode(prompt), codes)[:, 0]
    assert torch.allclose(got, torch.cat(want, 1), atol=1e-4)


@torch.no_grad()
def test_batch_mates_do_not_matter(generator, make_prompt):
    """A short prompt beside a long one is padded, and reads as it does alone."""
    codes = torch.tensor([[[1, 2, 0, 1, 1], [0, 0, 1, 2, 0]]])
    alone = generator.sid_log_probs(generator.encode(make_prompt(TEXT)), codes)
    batch = generator.encode(make_prompt(LONGER, TEXT))
    assert torch.allclose(generator.sid_log_probs(batch, codes.expand(2, -1, -1))[1:], alone, atol=1e-4)


@torch.no_grad()
def test_a_candidate_does_not_depend_on_the_others_of_its_list(build, make_prompt):
    generator = build()
    encoded = generator.encode(make_prompt(TEXT, LONGER))
    codes = torch.randint(0, 2, (2, 6, 5))
    whole = generator.sid_log_probs(encoded, codes)
    for place in range(6):
        assert torch.allclose(
            generator.sid_log_probs(encoded, codes[:, place : place + 1])[:, 0], whole[:, place], atol=1e-5
        )


def test_the_encoder_runs_once_a_list(build, make_prompt):
    """20 candidates of 2 prompts: one pass of the encoder, over 2 rows."""
    generator, seen = build(), []
    generator.backbone.get_encoder().register_forward_hook(
        lambda *call: seen.append(call[2].last_hidden_state.shape[0])
    )
    generator.sid_log_probs(generator.encode(make_prompt(TEXT, LONGER)), torch.zeros(2, 20, 5, dtype=torch.int64))
    assert seen == [2]


def encoder_input(generator, prompt):
    seen = {}

    def keep(_, args, kwargs):
        seen.update(kwargs)

    handle = generator.backbone.get_encoder().register_forward_pre_hook(keep, with_kwargs=True)
    generator.encode(prompt)
    handle.remove()
    return seen["inputs_embeds"]


@torch.no_grad()
def test_slots_become_the_adapters_embeddings(generator, vocabulary, make_prompt):
    """Row 0 has no slot, row 1 has two: they, and only they, are what the adapter makes of row 1's history."""
    slot, history = vocabulary.marker("<slot>"), torch.randint(0, 2, (2, 3, 4, 3))
    prompt = make_prompt([5, 6, 7, 2], [5, slot, slot, 2], history=history)
    got = encoder_input(generator, prompt)
    embedded = generator.backbone.get_input_embeddings()(prompt.input_ids)
    assert torch.allclose(got[1, 1:3], generator.adapter(history[1:])[0], atol=1e-6)
    assert torch.equal(got[0], embedded[0])
    assert torch.equal(got[1, [0, 3]], embedded[1, [0, 3]])
    assert not torch.allclose(got[1, 1:3], embedded[1, 1:3])


def test_listed_items_become_the_sum_of_their_codes(generator, vocabulary, make_prompt):
    """Row 0 holds one item, row 1 two: the encoder reads the sum of five embeddings in each place, in order."""
    item = vocabulary.marker("<item>")
    sids = torch.tensor([[0, 1, 0, 1, 0], [1, 1, 0, 0, 1], [1, 0, 1, 0, 0]])
    prompt = make_prompt([5, item, 6, 2], [item, 7, item, 2], sids=sids)
    got = encoder_input(generator, prompt)
    table = generator.backbone.get_input_embeddings()
    want = torch.stack([sum(table(token) for token in vocabulary.sid_tokens(sid)) for sid in sids])
    torch.testing.assert_close(got[[0, 1, 1], [1, 0, 2]], want)
    torch.testing.assert_close(got[0, 0], table(torch.tensor(5)))


@torch.no_grad()
def test_history_is_read_only_through_slots(build, vocabulary, make_prompt):
    """Another history changes the answer of a prompt with slots, and none of a prompt without."""
    generator, codes = build(), torch.tensor([[[1, 1, 1, 1, 1]]]).expand(2, -1, -1)
    rows = [5, 6, 7, 2], [5, *[vocabulary.marker("<slot>")] * 2, 2]
    histories = torch.zeros(2, 3, 4, 3, dtype=torch.int64), torch.ones(2, 3, 4, 3, dtype=torch.int64)
    one, two = (generator.sid_log_probs(generator.encode(make_prompt(*rows, history=h)), codes) for h in histories)
    assert torch.equal(one[0], two[0])
    assert not torch.allclose(one[1], two[1])


def test_the_adapter_learns_through_the_slots(build, vocabulary, make_prompt):
    generator = build()
    prompt = make_prompt([*[vocabulary.marker("<slot>")] * 2, 2], history=torch.ones(1, 3, 4, 3, dtype=torch.int64))
    generator.sid_log_probs(generator.encode(prompt), torch.ones(1, 1, 5, dtype=torch.int64)).sum().backward()
    assert generator.adapter.queries.grad.abs().max() > 0
    assert generator.adapter.project.weight.grad.abs().max() > 0


@torch.no_grad()
def test_text_loss_is_the_mean_cross_entropy(generator, make_prompt):
    """Over the whole vocabulary, from the start token on; -100 does not count: 3 + 2 tokens here."""
    prompt = make_prompt(TEXT, LONGER)
    labels = torch.tensor([[5, 6, 2], [7, 2, -100]])
    start = generator.backbone.config.decoder_start_token_id
    shifted = torch.tensor([[start, 5, 6], [start, 7, 2]])
    logits = generator.backbone(
        input_ids=prompt.input_ids, attention_mask=prompt.attention_mask, decoder_input_ids=shifted
    ).logits
    want = cross_entropy(logits[labels >= 0], labels[labels >= 0])
    assert generator.text_loss(generator.encode(prompt), labels).item() == pytest.approx(want.item(), abs=1e-5)


def test_near_codes_start_near(build, vocabulary):
    """Codes 0 1 share a centroid direction, 2 3 the opposite one: half centroid, half chance makes cosines of ±½.

    In 16 dimensions one draw strays by a fifth, so the mean of many is asked; all at the scale of the text tokens.
    """
    generator = build()
    weight = generator.backbone.get_input_embeddings().weight
    near, far, spread = [], [], []
    for seed in range(40):
        torch.manual_seed(seed)
        weight.data.normal_(0, 0.02)
        text, markers = weight[:20].clone(), weight[34:].clone()
        direction = torch.randn(1, 32)
        tables = [torch.randn(size, 32) for size in vocabulary.spec.sizes]
        tables[0] = torch.cat([direction, direction, -direction, -direction])
        generator.init_sid_embeddings(tables, seed)
        rows = weight[vocabulary.level_slice(0)].detach()
        near.append(cosine_similarity(rows[0], rows[1], dim=0))
        far.append(cosine_similarity(rows[0], rows[2], dim=0))
        spread.append(rows.std())
        assert not torch.equal(rows[0], rows[1])
        assert torch.equal(weight[:20], text)
        assert torch.equal(weight[34:], markers)
    assert torch.stack(near).mean() > 0.3
    assert torch.stack(far).mean() < -0.3
    assert torch.stack(spread).mean().item() == pytest.approx(0.02, rel=0.3)


def test_a_head_of_its_own_starts_near_too(build, vocabulary):
    """mT5's head gets the same projected centroids as its embeddings, at the spread of its own text tokens."""
    generator = build("mt5")
    embeddings, head = (table.weight for table in (generator.backbone.shared, generator.backbone.lm_head))
    with torch.no_grad():
        embeddings.zero_()[:20].normal_(0, 8)
        head.zero_()[:20].normal_(0, 0.5)
    text = [table[:20].clone() for table in (embeddings, head)]
    generator.init_sid_embeddings([torch.randn(size, 8) for size in vocabulary.spec.sizes])
    sids = slice(20, 20 + vocabulary.spec.num_tokens)
    assert torch.equal(embeddings[:20], text[0])
    assert torch.equal(head[:20], text[1])
    torch.testing.assert_close(head[sids] / text[1].std(), embeddings[sids] / text[0].std())
    # Half centroid, half a draw that is zero here.
    assert head[sids].std().item() == pytest.approx(text[1].std().item() / 2**0.5, rel=0.15)


def test_the_start_repeats_with_the_seed(build, vocabulary):
    tables = [torch.randn(size, 8) for size in vocabulary.spec.sizes]

    def start(seed):
        generator = build()
        generator.init_sid_embeddings(tables, seed)
        return generator.backbone.get_input_embeddings().weight

    assert torch.equal(start(0), start(0))
    assert not torch.equal(start(0), start(1))


def test_fresh_generator_has_the_size_it_was_given():
    model = FreshGenerator(hidden=16, encoder_layers=3, decoder_layers=1, heads=2, max_length=40).build(50, 20)
    assert model.get_input_embeddings().weight.shape == (50, 16)
    assert (len(model.get_encoder().layers), len(model.get_decoder().layers)) == (3, 1)
    special = model.config
    assert (special.bos_token_id, special.pad_token_id, special.eos_token_id) == (0, 1, 2)


@pytest.mark.parametrize("name", ["bart", "mbart"])
def test_a_prompt_beyond_the_backbones_positions_is_refused(build, make_prompt, name):
    """64 positions are learnt: 64 tokens are read, 65 are none."""
    generator = build(name)
    assert generator.encode(make_prompt([5] * 64)).hidden.shape == (1, 64, 16)
    with pytest.raises(UserError, match=r"A prompt has 65 tokens, the backbone reads 64: show less in the 'views'"):
        generator.encode(make_prompt([5] * 65))


def test_relative_positions_have_no_end(build, make_prompt):
    generator = build("t5")
    assert generator.max_length is None
    assert generator.encode(make_prompt([5] * 300)).hidden.shape == (1, 300, 16)


def gradients(generator, prompt, codes, labels):
    """Of SID and text answers, in training mode with dropout that repeats."""
    torch.manual_seed(1)
    generator.zero_grad()
    loss = -generator.sid_log_probs(generator.encode(prompt), codes).mean()
    (loss + generator.text_loss(generator.encode(prompt), labels)).backward()
    return {name: weight.grad for name, weight in generator.named_parameters() if weight.grad is not None}


def test_checkpointing_gives_the_same_gradients(generator, vocabulary, make_prompt):
    """History and listed items included; with it, the encoder's attention runs once more for the gradient."""
    slot, item = vocabulary.marker("<slot>"), vocabulary.marker("<item>")
    history, sids = torch.randint(0, 2, (2, 3, 4, 5)), torch.tensor([[0, 1, 0, 1, 0]])
    prompt = make_prompt([5, slot, slot, 2], [5, item, 6, 2], history=history, sids=sids)
    task = prompt, torch.tensor([[[3, 2, 1, 0, 1]], [[0, 1, 1, 2, 0]]]), torch.tensor([[5, 6, 2], [7, 2, -100]])
    want, runs = gradients(generator.train(), *task), []
    encoder = generator.backbone.get_encoder()
    attention = encoder.block[0].layer[0] if hasattr(encoder, "block") else encoder.layers[0].self_attn
    attention.register_forward_pre_hook(lambda *_: runs.append(None))
    generator.architecture.checkpoint_activations()
    got = gradients(generator, *task)
    assert len(runs) == 4  # the encoder reads the prompts twice
    assert got.keys() == want.keys()
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, want[name], atol=1e-6, rtol=1e-4)
    with torch.inference_mode():  # as a validation between two epochs
        assert generator.eval().encode(prompt).hidden.isfinite().all()
    assert len(runs) == 5
    assert got["adapter.queries"].abs().max() > 0


@pytest.mark.parametrize("name", ["bart", "mt5"])
def test_each_part_of_the_tables_has_one_gradient(build, vocabulary, make_prompt, name):
    """A gradient of the table's size for the tokens read, listed SIDs, codes written and the head; none a SID layer."""
    generator, item = build(name), vocabulary.marker("<item>")
    prompt = make_prompt([5, item, 6, item, 2], sids=torch.tensor([[0, 1, 0, 1, 0], [1, 1, 0, 0, 1]]))
    loss = generator.sid_log_probs(generator.encode(prompt), torch.tensor([[[3, 2, 1, 0, 1]]])).mean()
    made = []

    class Made(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if "backward" in func.__name__ and getattr(result, "shape", None) == (vocabulary.size, 16):
                made.append(func.__name__)
            return result

    with Made():
        loss.backward()
    assert len(made) == 4


@torch.no_grad()
def test_one_graph_whatever_the_prompts_hold(build, vocabulary, make_prompt):
    """Nothing waits for a value: slots and listed items are traced without a break, and fit other prompts as well."""
    generator, slot, item = build(), vocabulary.marker("<slot>"), vocabulary.marker("<item>")
    history, codes = torch.randint(0, 2, (2, 3, 4, 5)), torch.tensor([[[3, 2, 1, 0, 1]], [[0, 1, 1, 2, 0]]])
    sids = torch.tensor([[0, 1, 0, 1, 0]])

    def answer(prompt, codes):
        return generator.sid_log_probs(generator.encode(prompt), codes)

    traced = torch.compile(answer, backend="eager", fullgraph=True, dynamic=False)
    for rows in ([5, slot, slot, 2], [5, item, 6, 2]), ([5, item, slot, 2], [7, 8, 9, 2]):
        prompt = make_prompt(*rows, history=history, sids=sids)
        torch.testing.assert_close(traced(prompt, codes), answer(prompt, codes))
