"""What is saved is what was trained, for us and for plain transformers."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from onesearch.models.generator_folder import load_generator, load_settings, save_generator
from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.sid.spec import SidSpec
from onesearch.sid.vocabulary import Vocabulary
from onesearch.tasks.prompt import MARKERS
from onesearch.types import UserError

# The generators here have 20 text tokens, the tokenizer 300: only where it matters they are made to fit.
pytestmark = pytest.mark.filterwarnings("ignore:.*sid_tokenizer is not written")

CODES = torch.tensor([[[3, 2, 1, 0, 1], [0, 1, 1, 2, 0]]])


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["red boots", "blue kettle"], 300)


@torch.no_grad()
def test_loads_to_the_same_probabilities(generator, vocabulary, make_prompt, tokenizer, tmp_path):
    """Text, slots and history give bit-equal log-probabilities, tokenizer and settings too, for each backbone."""
    save_generator(tmp_path, generator, tokenizer, {"form": "search", "views": {"num_popular": 3}})
    again, text, settings = load_generator(tmp_path, MARKERS)
    slot = vocabulary.marker("<slot>")
    prompt = make_prompt([5, slot, slot, 2], history=torch.randint(0, 2, (1, 3, 4, 3)))
    want = generator.sid_log_probs(generator.encode(prompt), CODES)
    assert torch.equal(again.sid_log_probs(again.encode(prompt), CODES), want)
    assert not again.training
    assert again.vocabulary == vocabulary
    assert text("red kettle")["input_ids"] == tokenizer("red kettle")["input_ids"]
    assert settings == load_settings(tmp_path) == {"form": "search", "views": {"num_popular": 3}}


@torch.no_grad()
def test_opens_in_plain_transformers(generator, make_prompt, tokenizer, tmp_path):
    """No class of ours is needed to read the backbone: same logits."""
    save_generator(tmp_path, generator, tokenizer, {})
    prompt = make_prompt([5, 6, 2], [7, 8, 9, 2])._asdict() | {"decoder_input_ids": torch.tensor([[2, 21], [2, 22]])}
    prompt.pop("history")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert torch.equal(model(**prompt).logits, generator.backbone(**prompt).logits)
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token_id == tokenizer.eos_token_id


def test_plain_transformers_reads_and_writes_sids(build, tokenizer, tmp_path):
    """All 14 SID tokens and the markers, at the ids of the arithmetic; for our own prompts "<a_3>" is text."""
    vocabulary = Vocabulary(len(tokenizer), SidSpec((4, 3, 2), (3, 2)), MARKERS)
    generator = build()
    generator.vocabulary = vocabulary
    save_generator(tmp_path, generator, tokenizer, {})
    plain, own = AutoTokenizer.from_pretrained(tmp_path / "sid_tokenizer"), load_generator(tmp_path, MARKERS)[1]
    codes = torch.tensor([[3, 2, 1, 2, 1], [0, 0, 0, 0, 0]])
    for sid, want in zip(codes.tolist(), vocabulary.sid_tokens(codes).tolist(), strict=True):
        text = vocabulary.spec.render(sid)
        assert plain(text, add_special_tokens=False)["input_ids"] == want
        assert plain.decode(want).replace(" ", "") == text
        assert max(own(text)["input_ids"]) < len(tokenizer)
    assert [plain.convert_tokens_to_ids(name) for name in MARKERS] == [vocabulary.marker(name) for name in MARKERS]
    assert (
        plain("red <a_1> boots")["input_ids"]
        == [*own("red", add_special_tokens=False)["input_ids"], len(own) + 1] + (own("boots")["input_ids"])
    )
    assert (len(plain), plain.eos_token_id) == (vocabulary.size, tokenizer.eos_token_id)


@pytest.mark.parametrize("name", ["<query>", "<a_0>"])
def test_a_tokenizer_with_a_token_of_that_name_gets_no_sids(build, name, tmp_path):
    """All ids behind it would be one too low; the generator is kept, the folder left out with a warning."""
    knowing = train_tokenizer(["red boots"], 300)
    knowing.add_tokens([name])
    generator = build()
    generator.vocabulary = Vocabulary(len(knowing), SidSpec((4, 3, 2), (3, 2)), MARKERS)
    with pytest.warns(UserWarning, match="sid_tokenizer is not written: the tokenizer has tokens of its own"):
        save_generator(tmp_path, generator, knowing, {})
    assert not (tmp_path / "sid_tokenizer").exists()
    assert load_generator(tmp_path, MARKERS)[0].vocabulary == generator.vocabulary


def test_a_bfloat16_export_is_loaded_as_float32(build, tokenizer, tmp_path):
    """As a stage leaves it that was trained in bfloat16 alone; the next one adds small steps to it."""
    generator = build()
    generator.backbone.to(torch.bfloat16)
    save_generator(tmp_path, generator, tokenizer, {})
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert {weight.dtype for weight in load_generator(tmp_path, MARKERS)[0].parameters()} == {torch.float32}


@torch.no_grad()
def test_the_copier_is_kept(build, listing, tokenizer, tmp_path):
    """What was learnt to be repeated is repeated after loading; a generator without a copier stays without."""
    generator = build(copying=True)
    generator.copier.query.weight.normal_()
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    save_generator(tmp_path / "with", generator, tokenizer, {})
    save_generator(tmp_path / "without", build(), tokenizer, {})
    again, codes = load_generator(tmp_path / "with", MARKERS)[0], CODES.expand(2, -1, -1)
    want = generator.sid_log_probs(generator.encode(listing), codes)
    assert torch.equal(again.sid_log_probs(again.encode(listing), codes), want)
    assert load_generator(tmp_path / "without", MARKERS)[0].copier is None


def test_other_markers_are_refused(build, tokenizer, tmp_path):
    """A version that knows one more marker would read past the end of these weights, or mistake one for another."""
    save_generator(tmp_path, build(), tokenizer, {})
    with pytest.raises(UserError, match=f"{tmp_path} was trained by another version .*: train '{tmp_path.name}' again"):
        load_generator(tmp_path, (*MARKERS, "<new>"))


def test_the_shape_of_the_adapter_is_kept(build, tokenizer, tmp_path):
    save_generator(tmp_path, build(num_queries=5), tokenizer, {})
    adapter = load_generator(tmp_path, MARKERS)[0].adapter
    assert (adapter.num_queries, adapter.num_heads, adapter.num_levels) == (5, 2, 3)
