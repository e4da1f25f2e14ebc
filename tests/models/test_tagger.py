"""The tagger: marks what its linear layer says, and the same whatever else stands in the batch."""

import pytest
import torch
from transformers import BertConfig, BertModel

from onesearch.models.bio import TAGS
from onesearch.models.tagger import Tagger, tokenize_with_offsets
from onesearch.models.text_encoder import FreshEncoder, PretrainedEncoder
from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.types import Span, TextBatch, UserError

TEXTS = ["red boots", "a much longer blue kettle with 1.5 litres", "rug", "", "Red Boots", "白色 台灯"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS * 3, 330)


@pytest.fixture(scope="module")
def tagger(tokenizer):
    torch.manual_seed(0)
    tagger = Tagger(FreshEncoder(hidden=16, layers=2, heads=2).build(tokenizer), tokenizer).eval()
    tagger.head.weight.data.mul_(10)  # no tag is sure of itself in a fresh one
    return tagger


def test_logits_by_hand(tagger, tokenizer):
    """W·h + b for each token, in float64, without padding."""
    tokens, _ = tokenize_with_offsets(tokenizer, TEXTS[:2], 64)
    with torch.no_grad():
        got = tagger(tokens)
        state = tagger.transformer(tokens.input_ids[:1, : tokens.attention_mask[0].sum()]).last_hidden_state[0].double()
    want = state @ tagger.head.weight.double().T + tagger.head.bias.double()
    assert got.shape[::2] == (2, len(TAGS))
    assert torch.allclose(got[0, : len(want)].double(), want, atol=1e-4)


def test_a_tagger_that_knows_two_tokens(tokenizer):
    """States that are the token's own number, and a linear layer that reads "red" as Color and "boots" as Entity."""

    class Numbers(torch.nn.Module):
        config = BertConfig(hidden_size=len(tokenizer))

        def forward(self, input_ids, attention_mask):
            states = torch.nn.functional.one_hot(input_ids, len(tokenizer)).float()
            return type("Output", (), {"last_hidden_state": states})

    tagger = Tagger(Numbers(), tokenizer)
    tagger.head.weight.data.zero_()
    tagger.head.bias.data.zero_()[0] = 1
    for word, tag in (("red", "B-Color"), ("boots", "B-Entity")):
        number, *inner, _ = tokenizer(word)["input_ids"]
        assert not inner
        tagger.head.weight.data[TAGS.index(tag), number] = 2
    found = tagger.spans(["boots, red ones", "", "none", "red boots"])
    red, boots = Span("Color", 0, 3), Span("Entity", 4, 9)
    assert found == [[Span("Entity", 0, 5), Span("Color", 7, 10)], [], [], [red, boots]]


def test_spans_do_not_depend_on_the_batch(tagger):
    together = tagger.spans(TEXTS, batch_size=6)
    assert together == tagger.spans(TEXTS, batch_size=1) == [tagger.spans([text])[0] for text in TEXTS]
    assert sum(map(len, together)) > 3
    assert together[3] == []
    assert tagger.spans([]) == tagger.spans(["", " "])[:0] == []


def test_marking_leaves_the_mode_as_it_was(tagger):
    """In training dropout is on, but `spans` switches it off for itself."""
    want = tagger.spans(TEXTS)
    tagger.train()
    assert tagger.spans(TEXTS) == want
    assert tagger.training
    tagger.eval()


def test_dropout_works_in_training(tagger, tokenizer):
    tokens, _ = tokenize_with_offsets(tokenizer, TEXTS[:1], 64)
    tagger.head.train(), tagger.dropout.train()
    one, two = tagger(tokens), tagger(tokens)
    tagger.eval()
    assert not torch.equal(one, two)
    assert torch.equal(tagger(tokens), tagger(TextBatch(*tokens)))


def test_saved_and_loaded_it_is_the_same(tagger, tmp_path):
    tagger.save(tmp_path)
    again = Tagger.load(tmp_path)
    assert again.spans(TEXTS) == tagger.spans(TEXTS)
    assert torch.equal(again.head.bias, tagger.head.bias)
    assert not again.training


def test_a_pretrained_encoder_is_read_with_its_weights(tokenizer, tmp_path):
    """A BERT written by transformers: its states under the linear layer."""
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    bert = BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).eval()
    bert.save_pretrained(tmp_path)
    tagger = Tagger(PretrainedEncoder(str(tmp_path)).build(tokenizer), tokenizer).eval()
    tokens, _ = tokenize_with_offsets(tokenizer, TEXTS, 64)
    with torch.no_grad():
        want = tagger.head(bert(*tokens).last_hidden_state)
        assert torch.allclose(tagger(tokens), want, atol=1e-6)
    assert len(tagger.spans(TEXTS)) == len(TEXTS)


def test_what_lies_behind_the_length_is_not_marked(tagger, tokenizer, tmp_path):
    short = Tagger(tagger.transformer, tokenizer, max_length=3).eval()
    short.head = tagger.head
    (spans,) = short.spans(["red boots red boots red boots"])
    assert all(span.end <= 9 for span in spans)
    short.save(tmp_path)
    assert Tagger.load(tmp_path).max_length == 3


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False
        name_or_path = "some/model"

    with pytest.raises(UserError, match="some/model is a slow one"):
        tokenize_with_offsets(Slow(), ["x"], 8)
