"""The text encoder: its formula by hand, and what an embedding must not depend on."""

import pytest
import torch
from transformers import BertConfig, BertModel

from onesearch.models.text_encoder import SETTINGS, FreshEncoder, PretrainedEncoder, TextEncoder, tokenize
from onesearch.models.text_tokenizer import train_tokenizer

TEXTS = ["red boots", "a much longer blue kettle with 1.5 litres", "rug", "red boots", "白色 台灯"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS * 3, 330)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    return TextEncoder(FreshEncoder(hidden=16, layers=2, heads=2).build(tokenizer), tokenizer, dim=6).eval()


@torch.no_grad()
def test_formula_by_hand(encoder, tokenizer):
    """normalize(W · mean of the token states), in float64, one text at a time without padding."""
    for text, got in zip(TEXTS, encoder.embed(TEXTS), strict=True):
        states = encoder.transformer(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0].double()
        want = encoder.projection.weight.double() @ states.mean(0)
        assert torch.allclose(got.double(), want / want.norm(), atol=1e-5)


def test_unit_length_and_order(encoder):
    """Rows follow the texts though batches are sorted by length; equal texts get equal rows."""
    embeddings = encoder.embed(TEXTS)
    assert embeddings.shape == (5, 6)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(embeddings[0], embeddings[3], atol=1e-6)
    assert not torch.allclose(embeddings[0], embeddings[1], atol=1e-2)


def test_batch_size_does_not_matter(encoder):
    assert torch.allclose(encoder.embed(TEXTS, batch_size=1), encoder.embed(TEXTS, batch_size=5), atol=1e-5)


def test_nothing_to_embed(encoder):
    assert encoder.embed([]).shape == (0, 6)
    assert torch.isfinite(encoder.embed([""])).all()


def test_embedding_leaves_the_mode_as_it_was(encoder):
    """In training dropout is on, but `embed` switches it off for itself."""
    want = encoder.embed(TEXTS)
    encoder.train()
    assert torch.equal(encoder.embed(TEXTS), want)
    assert encoder.training
    encoder.eval()


def test_long_texts_are_cut(encoder, tokenizer):
    """Only the first max_length tokens are read."""
    short = TextEncoder(encoder.transformer, tokenizer, dim=6, max_length=4)
    short.projection = encoder.projection
    words = "red boots red boots red boots"
    assert torch.allclose(short.embed([words])[0], short.embed([words + " kettle"])[0], atol=1e-6)
    assert tokenize(tokenizer, [words, "rug"], 4).input_ids.shape == (2, 4)


def test_saved_and_loaded_it_is_the_same(encoder, tmp_path):
    encoder.save(tmp_path)
    again = TextEncoder.load(tmp_path)
    assert torch.equal(again.embed(TEXTS), encoder.embed(TEXTS))
    assert again.dim == 6
    assert not again.training


def test_a_pretrained_encoder_is_read_with_its_weights(tokenizer, tmp_path):
    """A BERT written by transformers, all but its pooler; D is projected to, whatever its width."""
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    bert = BertModel(BertConfig(vocab_size=len(tokenizer), **sizes))
    bert.save_pretrained(tmp_path)
    model = PretrainedEncoder(str(tmp_path)).build(tokenizer)
    want = {name: weight for name, weight in bert.named_parameters() if not name.startswith("pooler")}
    got = dict(model.named_parameters())
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)
    assert TextEncoder(model, tokenizer, dim=7).embed(TEXTS).shape == (5, 7)


@pytest.fixture
def by_first_token(encoder, tokenizer):
    """The same transformer, pooled by its first token, without a projection."""
    return TextEncoder(encoder.transformer, tokenizer, dim=None, max_length=50, pooling="cls").eval()


@torch.no_grad()
def test_cls_is_the_first_token_and_no_projection_keeps_the_width(by_first_token, tokenizer):
    """normalize(state of token 0), in float64, one text at a time without padding."""
    got = by_first_token.embed(TEXTS)
    assert got.shape == (5, 16)
    for text, vector in zip(TEXTS, got, strict=True):
        states = by_first_token.transformer(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0].double()
        assert torch.allclose(vector.double(), states[0] / states[0].norm(), atol=1e-5)


def test_pooling_width_and_length_are_kept_with_the_encoder(by_first_token, tmp_path):
    by_first_token.save(tmp_path)
    again = TextEncoder.load(tmp_path)
    assert (again.pooling, again.dim, again.max_length) == ("cls", 16, 50)
    assert torch.equal(again.embed(TEXTS), by_first_token.embed(TEXTS))


def test_a_folder_that_says_nothing_has_mean_pooling(encoder, tmp_path):
    """As encoders were saved before there was a choice."""
    encoder.save(tmp_path)
    (tmp_path / SETTINGS).unlink()
    assert torch.equal(TextEncoder.load(tmp_path).embed(TEXTS), encoder.embed(TEXTS))
