"""A decoder alone against one pass of transformers' own model over prompt and answer, row by row, without a cache."""

import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from onesearch.models.architecture import architecture
from onesearch.models.copier import Copier
from onesearch.models.generator import FreshDecoder, FreshGenerator, Generator, PretrainedGenerator
from onesearch.models.generator_folder import load_generator, save_generator
from onesearch.models.history_adapter import HistoryAdapter
from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.tasks.prompt import MARKERS, NUM_PLACES
from onesearch.types import UserError

TEXT, LONGER = [5, 6, 2], [7, 8, 9, 10, 11, 2]
CODES = torch.tensor([[[3, 2, 1, 0, 1], [0, 0, 0, 1, 1]], [[0, 1, 1, 2, 0], [3, 2, 1, 2, 1]]])
START = 0  # the decoders' bos


def one_pass(generator, prompt, answer):
    """Logits at each place of an answer, [T, V], of one prompt and the answer as one text."""
    text = torch.tensor([[*prompt, START, *answer[:-1]]])
    return generator.backbone(input_ids=text, use_cache=False).logits[0, len(prompt) :]


def reference(generator, prompt, sid):
    """log p of each code of a SID, [C]."""
    vocabulary = generator.vocabulary
    logits = one_pass(generator, prompt, vocabulary.sid_tokens(sid).tolist())
    slices = (logits[level, vocabulary.level_slice(level)].log_softmax(-1) for level in range(len(sid)))
    return torch.stack([logs[code] for logs, code in zip(slices, sid.tolist(), strict=True)])


def test_equals_one_pass_over_prompt_and_answer(decoder, make_prompt):
    """Whatever a batch is padded to; so do the gradients of every weight of the backbone. Heads answer in float32."""
    decoder = decoder.double()
    got = decoder.sid_log_probs(decoder.encode(make_prompt(TEXT, LONGER)), CODES)
    rows = [
        [reference(decoder, prompt, sid) for sid in sids] for prompt, sids in zip((TEXT, LONGER), CODES, strict=True)
    ]
    want = torch.stack([torch.stack(row) for row in rows])
    torch.testing.assert_close(got, want.float(), atol=1e-5, rtol=1e-5)
    weights = list(decoder.backbone.parameters())
    ours, theirs = (torch.autograd.grad(loss.sum(), weights, allow_unused=True) for loss in (got, want))
    compared = 0
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)
            compared += 1
    assert compared > 10


@torch.no_grad()
def test_probabilities_of_all_sids_sum_to_one(decoder, vocabulary, make_prompt):
    """Σ over the 144 SIDs of Π_l p(c_l | c_<l, x) = 1 for each prompt."""
    sids = torch.tensor(list(itertools.product(*map(range, vocabulary.spec.sizes)))).expand(2, -1, -1)
    logs = decoder.sid_log_probs(decoder.encode(make_prompt(TEXT, LONGER)), sids)
    assert torch.allclose(logs.sum(-1).exp().sum(-1), torch.ones(2), atol=1e-4)
    assert logs.exp().std() > 0.01


@torch.no_grad()
def test_prompts_can_be_answered_again(decoder, make_prompt):
    """What is appended to keys and values for one answer is gone for the next."""
    encoded = decoder.encode(make_prompt(TEXT, LONGER))
    first = decoder.sid_log_probs(encoded, CODES)
    decoder.text_losses(encoded, torch.tensor([[5, 6, 2], [7, 2, -100]]))
    assert torch.equal(decoder.sid_log_probs(encoded, CODES), first)
    assert encoded.memory.get_seq_length() == 6


@torch.no_grad()
def test_text_losses(decoder, make_prompt):
    """Over the whole vocabulary, from the start token on; nothing where there is no answer any more."""
    got = decoder.text_losses(decoder.encode(make_prompt(TEXT, LONGER)), torch.tensor([[5, 6, 2], [7, 2, -100]]))
    for row, (prompt, answer) in enumerate(zip((TEXT, LONGER), ([5, 6, 2], [7, 2]), strict=True)):
        want = cross_entropy(one_pass(decoder, prompt, answer), torch.tensor(answer), reduction="none")
        torch.testing.assert_close(got[row, : len(answer)], want, atol=1e-5, rtol=1e-4)
    assert got[1, 2] == 0


@torch.no_grad()
def test_slots_and_listed_items_are_read(build, vocabulary, make_prompt):
    """Another history, another listed item: another answer."""
    generator = build("gpt2", copying=True)
    slot, item = vocabulary.marker("<slot>"), vocabulary.marker("<item>")
    row, codes = [5, item, slot, slot, 2], CODES[:1]

    def answer(history, sid):
        prompt = make_prompt(row, history=torch.full((1, 3, 4, 3), history), sids=torch.tensor([sid]))
        return generator.sid_log_probs(generator.encode(prompt), codes)

    first = answer(0, [3, 2, 1, 0, 1])
    assert torch.equal(answer(0, [3, 2, 1, 0, 1]), first)
    assert not torch.allclose(answer(1, [3, 2, 1, 0, 1]), first)
    assert not torch.allclose(answer(0, [1, 0, 0, 0, 1]), first)


@torch.no_grad()
def test_folder(decoder, vocabulary, make_prompt, tmp_path):
    """Loads to the same bits, and opens in plain transformers with the same logits."""
    tokenizer = train_tokenizer(["red boots"], 300)
    with pytest.warns(UserWarning, match="sid_tokenizer is not written"):  # 20 text tokens are not those 300
        save_generator(tmp_path, decoder, tokenizer, {"form": "search"})
    again, _, _ = load_generator(tmp_path, MARKERS)
    prompt = make_prompt(TEXT, LONGER)
    want = decoder.sid_log_probs(decoder.encode(prompt), CODES)
    assert torch.equal(again.sid_log_probs(again.encode(prompt), CODES), want)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[5, 6, 2, START, 21]])
    assert torch.equal(plain(input_ids=ids).logits, decoder.backbone(input_ids=ids).logits)


def test_a_checkpoint_keeps_its_text(build, tmp_path):
    """The rows of the 20 text tokens stay, float32 whatever was saved; the added ones are drawn; dropout is on."""
    for name in ("gpt2", "qwen2"):
        generator = build(name)
        folder = tmp_path / name
        generator.backbone.bfloat16().save_pretrained(folder)
        num_saved = generator.vocabulary.size
        grown = PretrainedGenerator(str(folder)).build(num_saved + 30, 20)
        assert grown.training
        assert {weight.dtype for weight in grown.parameters()} == {torch.float32}
        for table, saved in (
            (grown.get_input_embeddings().weight, generator.backbone.get_input_embeddings().weight),
            (grown.get_output_embeddings().weight, generator.backbone.get_output_embeddings().weight),
        ):
            assert len(table) == num_saved + 30
            assert torch.equal(table[:20], saved[:20].float())
            assert not torch.equal(table[20:num_saved], saved[20:].float())
        assert architecture(grown).start_token == START


def test_user_mistakes(build, make_prompt):
    decoder = build("gpt2")
    with pytest.raises(UserError, match="'gradient_checkpointing' drops the keys and values"):
        decoder.architecture.checkpoint_activations()
    assert decoder.max_length == 96 - 32
    decoder.encode(make_prompt([5] * 64))
    with pytest.raises(UserError, match="A prompt has 65 tokens, the backbone reads 64"):
        decoder.encode(make_prompt([5] * 65))
    with pytest.raises(UserError, match="sees no more than 32 positions"):
        fresh(FreshDecoder(hidden=16, layers=1, heads=2, max_length=0), build("gpt2").vocabulary)


def test_a_window_of_attention_never_slides(build, make_prompt):
    """It would count padding: prompts end before it could, and answers are those of one pass, whatever the batch."""
    generator = build("mistral")
    assert generator.max_length == 40 - 32
    got = generator.sid_log_probs(generator.encode(make_prompt(TEXT, [7] * 8)), CODES)[0, 0]
    torch.testing.assert_close(got, reference(generator, TEXT, CODES[0, 0]), atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match="A prompt has 9 tokens, the backbone reads 8"):
        generator.encode(make_prompt([7] * 9))


def test_scaled_logits_are_those_of_the_whole_model(build, make_prompt):
    """Granite divides its logits by 8: so do the slices of its head. A model that bends them is refused."""
    generator = build("granite")
    got = generator.sid_log_probs(generator.encode(make_prompt(TEXT)), CODES[:1])[0, 0]
    torch.testing.assert_close(got, reference(generator, TEXT, CODES[0, 0]), atol=1e-5, rtol=1e-4)
    generator.backbone.config.final_logit_softcapping = 30.0
    with pytest.raises(UserError, match=r"\(granite\) bends its logits"):
        architecture(generator.backbone)


def fresh(backbone, vocabulary, copying=False):
    model = backbone.build(vocabulary.size, vocabulary.num_text_tokens)
    width = backbone.hidden
    adapter = HistoryAdapter([torch.randn(size, 5) for size in vocabulary.spec.rq_sizes], width, 2)
    return Generator(model, vocabulary, adapter, Copier(width, NUM_PLACES) if copying else None)


def test_a_longest_prompt_and_its_answer_have_positions(vocabulary, make_prompt):
    """16 tokens and the five of a SID, or 24 and an end."""
    generator = fresh(FreshDecoder(hidden=16, layers=1, heads=2, max_length=16), vocabulary)
    encoded = generator.encode(make_prompt([5] * 16))
    assert generator.sid_log_probs(encoded, CODES[:1]).shape == (1, 2, 5)
    assert generator.text_losses(encoded, torch.full((1, 25), 5)).shape == (1, 25)


def weights(generator):
    """Of the layers: without embeddings and positions."""
    matrices = (p for name, p in generator.backbone.named_parameters() if "layers" in name or ".h." in name)
    return sum(matrix.numel() for matrix in matrices)


def flops(generator, make_prompt, item):
    """Of a step over 4 prompts of 60 tokens, forward and backward."""
    prompt = make_prompt(*[[5] * 40 + [item] * 20] * 4, sids=torch.ones(80, 5, dtype=torch.int64))
    with FlopCounterMode(display=False) as counter:
        generator.sid_log_probs(generator.encode(prompt), torch.ones(4, 1, 5, dtype=torch.int64)).sum().backward()
    return counter.get_total_flops()


def test_the_study_compares_what_it_says(vocabulary, make_prompt):
    """configs/ablation/architecture: five layers have the weights of 2 + 2, two wider ones the FLOPs.

    Without a copier nothing reads the prompt's last layer, whose backward pass falls away: a fifth less.
    """
    item = vocabulary.marker("<item>")
    wide = {"hidden": 128, "dropout": 0.0}
    both = FreshGenerator(encoder_layers=2, decoder_layers=2, feed_forward=2, **wide)
    equal_weights = FreshDecoder(layers=5, feed_forward=2, **wide)
    equal_flops = FreshDecoder(layers=2, feed_forward=3, **wide)
    paper, deep, shallow = (
        fresh(backbone, vocabulary, copying=True) for backbone in (both, equal_weights, equal_flops)
    )
    assert weights(deep) / weights(paper) == pytest.approx(1, abs=0.02)
    assert weights(shallow) / weights(paper) == pytest.approx(0.5, abs=0.02)
    per_step = [flops(generator, make_prompt, item) for generator in (paper, deep, shallow)]
    assert per_step[2] / per_step[0] == pytest.approx(1, abs=0.05)
    assert per_step[1] / per_step[0] == pytest.approx(2, abs=0.1)
