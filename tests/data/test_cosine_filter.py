"""The cosine filter on vectors set by hand, and with a small checkpoint read through the DataModule."""

import pytest
import torch
from transformers import BertConfig, BertModel

from onesearch.artifacts import read_manifest
from onesearch.data.alignment import AlignmentData
from onesearch.data.cosine_filter import CosineFilter, alike, kept
from onesearch.data.hard_negatives import HardNegatives
from onesearch.data.relations import Relations
from onesearch.models.text_tokenizer import train_tokenizer

VECTORS = {"q": [1.0, 0.0], "r": [0.6, 0.8], "item 0": [0.8, 0.6], "item 1": [0.0, 1.0]}


@pytest.fixture(scope="module")
def checkpoint(tiny_log, tmp_path_factory):
    """A BERT of one layer with its tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = train_tokenizer(tiny_log.items["title"].to_pylist() * 3, 330)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_by_hand():
    """Cosines: q–0 .8, q–1 0, r–0 .96; q–r .6, which is not above .6; 0–1 .6. Each text is embedded once."""
    asked = []

    def embed(texts):
        asked.extend(texts)
        return torch.tensor([VECTORS[text] for text in texts], dtype=torch.float64)

    given = Relations([("q", 0), ("q", 1), ("r", 0)], [("q", "r")], [(0, 1)], [("q", None, 0, 1)], [("q", 1, 0)])
    masks = alike(given, ["item 0", "item 1"], embed, 0.6)
    got = kept(given, masks)
    assert (got.q2i, got.q2q) == ([("q", 0), ("r", 0)], [])
    assert (got.ranked, got.judged) == (given.ranked, given.judged)
    assert sorted(asked) == sorted(VECTORS)
    assert kept(given, alike(given, ["item 0", "item 1"], embed, 0.5)).i2i == [(0, 1)]


def test_nothing_mined_nothing_kept():
    masks = alike(Relations([], [], [], [], []), [], lambda texts: torch.zeros(len(texts), 2), 0.6)
    assert kept(Relations([], [], [], [], []), masks) == Relations([], [], [], [], [])


def test_the_data_learns_from_what_the_checkpoint_keeps(checkpoint, tiny_run_copy):
    """The middle cosine as threshold keeps half of the pairs; all kept ones are above it, all dropped ones are not."""
    every = AlignmentData(tiny_run_copy)
    every.setup("fit")
    pairs = [(query, every.item_texts[item]) for query, item in every.fit_relations.q2i]
    chosen = CosineFilter(checkpoint, 0.0, "mean")
    left, right = (chosen.embed([pair[side] for pair in pairs]) for side in (0, 1))
    cosines = (left * right).sum(1)
    middle = cosines.median().item() + 1e-6

    data = AlignmentData(tiny_run_copy, vocab_size=400, cosine_filter=CosineFilter(checkpoint, middle, "mean"))
    data.prepare_data()
    data.setup("fit")
    want = [pair for pair, cosine in zip(every.fit_relations.q2i, cosines.tolist(), strict=True) if cosine > middle]
    assert data.fit_relations.q2i == want
    assert 0 < len(want) < len(pairs)
    facts = read_manifest(tiny_run_copy / "encoder_pairs").facts
    assert facts["q2i"] == {"mined": len(pairs), "kept": len(want)}
    assert len(data.validation_relations.q2i) == len(every.validation_relations.q2i)  # what is measured stays whole


def test_a_dropped_click_is_no_hard_negative(checkpoint, tiny_run_copy):
    """A cosine above 2 keeps no pair; still no query is given an item that was clicked for it."""
    hard = HardNegatives(1, first_rank=0, last_rank=36, first_epoch=0)
    nothing = CosineFilter(checkpoint, 2.0, "mean")
    data = AlignmentData(tiny_run_copy, vocab_size=400, cosine_filter=nothing, hard=hard)
    data.prepare_data()
    data.setup("fit")
    data.collate = data._collate(data.fit_relations)
    data.mine(0, nothing.embed)
    clicked = {(c.query, item) for c in data.log_tables.contexts("train") for item in c.clicked + c.purchased}
    near = data.collate.near
    negatives = {(query, item) for query, place in near.place.items() for item in near.rows[place].tolist()}
    assert data.fit_relations.q2i == []
    assert set(near.place) == {query for query, _ in clicked}
    assert not clicked & negatives
    assert any(item >= 0 for _, item in negatives)


def test_filtered_once_until_something_changes(checkpoint, tiny_run_copy, monkeypatch):
    """A second start reads what is there; another threshold or other splits embed again."""
    calls = []
    embed = CosineFilter.embed
    monkeypatch.setattr(CosineFilter, "embed", lambda self, texts: calls.append(len(texts)) or embed(self, texts))
    for threshold, splits, want in ((0.1, ("train",), 1), (0.1, ("train",), 1), (0.2, ("train",), 2)):
        chosen = CosineFilter(checkpoint, threshold, "mean")
        AlignmentData(tiny_run_copy, vocab_size=400, fit_splits=splits, cosine_filter=chosen).prepare_data()
        assert len(calls) == want
    both = ("train", "validation")
    AlignmentData(tiny_run_copy, vocab_size=400, fit_splits=both, cosine_filter=chosen).prepare_data()
    assert len(calls) == 3
