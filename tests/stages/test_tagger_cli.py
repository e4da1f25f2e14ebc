"""`onesearch fit` of the tagger, on titles of two words; and the quantizer that mines keywords with it."""

import re
import shutil

import pyarrow as pa
import pytest
import torch
from transformers import BertConfig, BertModel

from handful import (
    COLORS,
    CONFIGS,
    ENCODER,
    FIT_SPLITS,
    THINGS,
    backbone,
    facts,
    fingerprint,
    launch,
    logged,
    overlay,
    overlays,
    refusal,
)
from onesearch.artifacts import verify
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.models.tagger import Tagger
from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.types import Span


def test_marks_titles_that_it_has_not_seen(tagger_run):
    """A quarter of the 16 titles is held out, two spans each; every colour and thing stands in the rest."""
    assert logged(tagger_run, "tagger", "val/items/f1") == [1.0]
    for name in ("precision", "recall", "f1", "f1/Color", "f1/Entity"):
        assert logged(tagger_run, "tagger", f"val/{name}") == [1.0]
    assert Tagger.load(tagger_run / "tagger").spans(["white kettle", "lamp"]) == [
        [Span("Color", 0, 5), Span("Entity", 6, 12)],
        [Span("Entity", 0, 4)],
    ]


def test_hands_on_an_artefact_that_says_what_it_learnt_from(tagger_run):
    """12 titles have a colour and a thing, 4 queries a thing: 12 and 16 spans an epoch, and none of another type."""
    found = verify(tagger_run / "tagger", "tagger", [tagger_run / "log"]).facts
    assert {type_: number for type_, number in found["num_spans"].items() if number} == {"Color": 12, "Entity": 16}
    assert found["f1"]["items"] == {"Color": 1.0, "Entity": 1.0}
    assert found["val"]["items"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert found["f1"]["queries"] == {}  # every query of the validation day was asked before


def test_validate_measures_the_last_checkpoint(tagger_run, capsys):
    """The same figure as at the end of the fit."""
    launch(tagger_run, "validate", "tagger", overlays()["tagger"], "--ckpt_path", "last")
    assert "val/items/f1" in capsys.readouterr().out


def test_validate_measures_what_was_handed_on(tagger_run, tmp_path, capsys):
    """Without a checkpoint, under the shipped sizes, which are others; the tokenizer stays."""
    for folder in ("log", "tokenizer", "tagger"):
        shutil.copytree(tagger_run / folder, tmp_path / folder)
    before = fingerprint(tmp_path, "tokenizer")
    launch(tmp_path, "validate", "tagger", overlay(1, data={"held_out": 0.25, "fit_splits": FIT_SPLITS}))
    assert re.search(r"val/items/f1\W+1\.0\W", capsys.readouterr().out)
    assert fingerprint(tmp_path, "tokenizer") == before


def test_validate_without_a_tagger_says_what_to_run(tagger_run, tmp_path, capsys):
    for folder in ("log", "tokenizer"):
        shutil.copytree(tagger_run / folder, tmp_path / folder)
    options = ("--run", str(tmp_path), "--trainer.accelerator", "cpu")
    sentence = refusal(capsys, "validate", "-c", str(CONFIGS / "tagger.yaml"), *options)
    assert sentence.startswith(f"{tmp_path}/tagger holds no finished artefact")


def test_a_sanity_check_is_no_validation(shop_run, tmp_path):
    """An epoch before the first validation: the facts have no figures."""
    shutil.copytree(shop_run / "log", tmp_path / "log")
    model = {"backbone": backbone("text_encoder.FreshEncoder", ENCODER)}
    config = overlay(1, model, {"vocab_size": 300, "held_out": 0.25}, num_sanity_val_steps=2, check_val_every_n_epoch=2)
    launch(tmp_path, "fit", "tagger", config)
    assert facts(tmp_path, "tagger")["f1"] == {"items": {}, "queries": {}}


def test_starts_from_a_pretrained_encoder_and_its_tokenizer(shop_run, tmp_path):
    """A BERT of 10 wide, with a tokenizer of its own: at a rate near 0 its weights are handed on, and it is trained
    with its own dropout on. The run trains no tokenizer.
    """
    bert = tmp_path / "bert"
    tokenizer = train_tokenizer(THINGS, 270)
    tokenizer.save_pretrained(bert)
    sizes = {"hidden_size": 10, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
    pretrained = BertModel(BertConfig(vocab_size=270, **sizes))
    pretrained.save_pretrained(bert)
    shutil.copytree(shop_run / "log", tmp_path / "run" / "log")
    model = {"backbone": backbone("text_encoder.PretrainedEncoder", {"name": str(bert)}), "dropout": 0.0}
    model["optimization"] = {"lr": 1e-7}
    launch(tmp_path / "run", "fit", "tagger", overlay(2, model, {"tokenizer": str(bert), "batch_size": 32}))
    tagger = Tagger.load(tmp_path / "run" / "tagger")
    assert not (tmp_path / "run" / "tokenizer").exists()
    assert tagger.tokenizer.get_vocab() == tokenizer.get_vocab()
    want = pretrained.state_dict()
    assert all(
        torch.allclose(weight, want[name], atol=1e-5) for name, weight in tagger.transformer.state_dict().items()
    )
    first, second = logged(tmp_path / "run", "tagger", "train/loss")
    assert first != pytest.approx(second, abs=1e-4)  # the same texts and weights, other states dropped


@pytest.fixture
def bare_run(encoder_run, tagger_run, tmp_path, monkeypatch):
    """log, encoder, tagger; no item has a recorded attribute any more."""
    for folder in ("log", "encoder", "tagger"):
        shutil.copytree(encoder_run / folder, tmp_path / folder)
    items = Log.open(tmp_path / "log").items
    place = items.column_names.index("attributes")
    bare = items.set_column(place, "attributes", pa.nulls(len(items), items.schema.field(place).type))
    monkeypatch.setattr(Log, "items", bare)
    return tmp_path


def test_the_quantizer_finds_the_tagged_keywords_without_attributes(bare_run):
    """With min_pv 1 all colours and things are core keywords though no attribute names them; the tagger is a parent."""
    config = overlays()["quantizer"]
    launch(bare_run, "fit", "quantizer", config)
    assert Khqe.open(bare_run).encoder.matcher.values == []
    config["model"]["init_args"]["tagger"] = True
    launch(bare_run, "fit", "quantizer", config)
    verify(bare_run / "quantizer", "quantizer", [bare_run / name for name in ("log", "encoder", "tagger")])
    khqe = Khqe.open(bare_run)
    assert set(khqe.encoder.matcher.values) == {*COLORS, *THINGS}
    types = {keyword.value: keyword.type for keyword in khqe.encoder.lexicon.keywords}
    assert types == dict.fromkeys(COLORS, "Color") | dict.fromkeys(THINGS, "Entity")


def test_without_a_tagger_the_quantizer_says_what_to_run(encoder_run, tmp_path, capsys):
    for folder in ("log", "encoder"):
        shutil.copytree(encoder_run / folder, tmp_path / folder)
    options = ("--run", str(tmp_path), "--model.init_args.tagger", "true", "--trainer.accelerator", "cpu")
    sentence = refusal(capsys, "fit", "-c", str(CONFIGS / "quantizer.yaml"), *options)
    assert sentence.startswith(f"{tmp_path}/tagger holds no finished artefact")


def test_facts_are_those_of_an_epoch(tagger_run):
    """16 texts in batches of 4, 30 epochs."""
    assert facts(tagger_run, "tagger")["num_steps"] == 4 * 30
