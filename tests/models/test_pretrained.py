"""Checkpoints in the format of their authors, grown by the tokens of SIDs and markers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from onesearch.models.generator import PretrainedGenerator
from onesearch.models.pretrained import start_token

OWN_HEAD = ("t5-1.1", "mt5", "umt5")


@pytest.fixture
def checkpoint(bare_backbone, tmp_path):
    """A folder with a model of 20 tokens, and its weights; a head of its own is named as in google/mt5-base."""
    torch.manual_seed(0)
    name, build = bare_backbone
    build(20).save_pretrained(tmp_path)
    if name in OWN_HEAD:
        config = json.loads((tmp_path / "config.json").read_text("utf-8")) | {"tie_word_embeddings": False}
        config.pop("scale_decoder_outputs", None)
        (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    return tmp_path, load_file(tmp_path / "model.safetensors")


def test_text_tokens_and_layers_are_kept(checkpoint):
    """Embeddings and head keep the rows of the 20 tokens, whether they are one tensor or two; all else is untouched."""
    folder, saved = checkpoint
    model = PretrainedGenerator(str(folder)).build(40, 20)
    state = model.state_dict()
    kept = {
        name: state[name][:20] if len(state[name]) == 40 and len(saved[name]) == 20 else state[name] for name in saved
    }
    for name, weight in saved.items():
        if name != "final_logits_bias":
            assert torch.equal(kept[name], weight), name
    tables = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert [len(table) for table in tables] == [40, 40]
    assert (tables[0] is tables[1]) == ("lm_head.weight" not in saved)


@torch.no_grad()
def test_text_is_answered_as_before(checkpoint):
    """The logits of the 20 tokens do not change, and a second start from the grown model gives them once more."""
    folder, _ = checkpoint
    question = {"input_ids": torch.tensor([[5, 6, 7, 1]]), "decoder_input_ids": torch.tensor([[2, 9, 11]])}
    want = AutoModelForSeq2SeqLM.from_pretrained(folder)(**question).logits
    grown = PretrainedGenerator(str(folder)).build(40, 20).eval()
    torch.testing.assert_close(grown(**question).logits[..., :20], want)
    grown.save_pretrained(folder / "grown")
    again = AutoModelForSeq2SeqLM.from_pretrained(folder / "grown")
    assert torch.equal(again(**question).logits, grown(**question).logits)


@torch.no_grad()
def test_added_tokens_are_drawn_at_the_spread_of_the_known_ones(checkpoint):
    """The text's embeddings are four times as wide as the head's: so are the 2,000 rows that are added."""
    folder, saved = checkpoint
    name = "shared.weight" if "shared.weight" in saved else "model.shared.weight"
    saved[name] *= 4 / saved[name].std()
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    model = PretrainedGenerator(str(folder)).build(2020, 20)
    for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        assert table[20:].std().item() == pytest.approx(table[:20].std().item(), rel=0.03)


def test_spare_rows_are_not_what_the_first_sids_start_from(checkpoint):
    """The tokenizer has 16 tokens, the checkpoint 20 rows; the four beyond are far off, as those of T5 may be."""
    folder, saved = checkpoint
    for name in saved:
        if name.endswith(("shared.weight", "lm_head.weight")):
            saved[name][16:] = 1000.0
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    model = PretrainedGenerator(str(folder)).build(2016, 16)
    for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        assert table[16:].abs().max().item() < 100
        assert table[16:].std().item() == pytest.approx(table[:16].std().item(), rel=0.03)


def test_what_the_decoder_starts_with_where_the_checkpoint_does_not_say(bare_backbone):
    """Padding, 0, for T5 and its kin, whose config may have no such field; the end token, 2, for (m)BART."""
    name, build = bare_backbone
    model, start = build(20), {"bart": 2, "bart-scaled": 2, "mbart": 2}.get(name, 0)
    if hasattr(model.config, "decoder_start_token_id"):
        del model.config.decoder_start_token_id
    model.generation_config.decoder_start_token_id = None
    assert start_token(model) == start
    assert model.config.decoder_start_token_id == model.generation_config.decoder_start_token_id == start


def test_weights_are_float32_and_dropout_is_on(checkpoint):
    """A bfloat16 checkpoint would lose small steps; and transformers hands models out in evaluation mode."""
    folder, saved = checkpoint
    halves = {name: weight.bfloat16() for name, weight in saved.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8")) | {"dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    assert AutoModelForSeq2SeqLM.from_pretrained(folder).dtype == torch.bfloat16
    model = PretrainedGenerator(str(folder)).build(40, 20)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert all(module.training for module in model.modules())
