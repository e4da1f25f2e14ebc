"""Weak labels of the tiny log, what is hidden from training, and the batches read back as spans."""

import pytest
import torch

from onesearch.data.tagging import TaggingData
from onesearch.models.bio import NO_TEXT, spans_of
from onesearch.models.tagger import tokenize_with_offsets
from onesearch.types import Span, UserError


@pytest.fixture
def make_data(tiny_log, tmp_path):
    (tmp_path / "log").symlink_to(tiny_log.folder)

    def make(**options):
        torch.manual_seed(0)
        data = TaggingData(tmp_path, **{"batch_size": 8, "vocab_size": 400, "lower_rate": 0.0} | options)
        data.prepare_data()
        data.setup("fit")
        return data

    return make


def told(example):
    return {(span.type, example.text[span.start : span.end]) for span in example.spans}


def test_titles_and_queries_are_labelled_as_the_shop_means_them(make_data, tiny_log):
    """'Red boots by Acme' has three values; a query holds a kind, and a colour or none."""
    data = make_data(held_out=0.25)
    for example in data.fit_texts + data.validation_texts:
        words = example.text.split()
        if example.is_query:
            want = {("Entity", words[-1]), *(("Color", word) for word in words[:-1])}
        else:
            want = {("Color", words[0]), ("Entity", words[1]), ("Brand", words[3])}
        assert told(example) == want
    titles = [example.text for example in data.fit_texts + data.validation_texts if not example.is_query]
    assert sorted(titles) == sorted(tiny_log.items["title"].to_pylist())


def test_held_out_items_are_hidden_whole(make_data, tiny_log):
    """A quarter of 36 titles; no query is labelled by what they are: with all items hidden there is none to learn."""
    data = make_data(held_out=0.25)
    held = [example for example in data.validation_texts if not example.is_query]
    assert len(held) == 9
    assert not {e.text for e in held} & {e.text for e in data.fit_texts}
    rows = {tiny_log.items["title"].to_pylist().index(example.text) for example in held}
    answered = {c.query for c in tiny_log.contexts("train") if set(c.clicked) - rows}
    assert {e.text for e in data.fit_texts if e.is_query} == answered
    assert make_data(held_out=0.99).fit_texts == []  # 36 titles, rounded


@pytest.mark.parametrize("share", [-0.1, 1.0, 10])
def test_a_share_that_leaves_nothing_to_learn_is_refused(tmp_path, share):
    with pytest.raises(UserError, match=f"held_out is {share}: give a share"):
        TaggingData(tmp_path, held_out=share)


def test_validation_queries_are_not_learnt_from(make_data, tiny_log):
    data = make_data()
    asked = {e.text for e in data.fit_texts if e.is_query}
    new = {e.text for e in data.validation_texts if e.is_query}
    assert new == {c.query for c in tiny_log.contexts("validation") if c.clicked} - asked
    both = make_data(fit_splits=("train", "validation"), held_out=0.0)
    assert [e for e in both.validation_texts if e.is_query] == []


def test_copies_of_a_held_out_title_are_held_out_too(make_data, tiny_log, monkeypatch):
    """All titles read alike, up to case: who draws one draws all."""
    titles = ["Red Boots", "red boots!"] * 18
    items = tiny_log.items
    copied = items.set_column(items.column_names.index("title"), "title", [titles])
    monkeypatch.setattr("onesearch.log.prepared.Log.items", copied)
    data = make_data(held_out=0.1)
    assert [e for e in data.fit_texts if not e.is_query] == []


def test_unmarked_texts_are_a_minority(make_data, tiny_log, monkeypatch):
    """Only titles from "Black" to "Blue" have a label, a third: of the others some are kept, or none."""
    monkeypatch.setattr(
        "onesearch.data.tagging.label_title", lambda title, _: [Span("Color", 0, 3)] if title < "G" else []
    )
    few, none = make_data(unmarked=0.2, held_out=0.0), make_data(unmarked=0.0, held_out=0.0)
    marked = sum(bool(e.spans) for e in few.fit_texts)
    assert sum(not e.spans for e in few.fit_texts) == int(0.2 * marked) > 0
    assert all(e.spans for e in none.fit_texts)
    assert len(none.fit_texts) == marked


def test_a_batch_means_its_spans(make_data):
    """Tags of every text, read back by the offsets of its tokens, are the labels; padding and `</s>` have no tag."""
    data = make_data()
    seen = []
    for loader in (data.train_dataloader(), data.val_dataloader()):
        tokenizer = loader.collate_fn.tokenizer
        for batch in loader:
            _, offsets = tokenize_with_offsets(tokenizer, batch.texts, 64)
            assert [spans_of(*row) for row in zip(batch.tags.tolist(), offsets, strict=True)] == batch.spans
            assert (batch.tags[batch.tokens.attention_mask == 0] == NO_TEXT).all()
            assert batch.tags.shape == batch.tokens.input_ids.shape
            seen += batch.texts
    assert sorted(seen) == sorted(e.text for e in data.fit_texts + data.validation_texts)


def test_bpe_dropout_moves_tokens_and_no_span(make_data):
    """Every cut between letters: the spans are still those of the words."""
    data = make_data(bpe_dropout=1.0)
    batch = next(iter(data.train_dataloader()))
    assert batch.tokens.input_ids.shape[1] > max(len(text.split()) for text in batch.texts) + 1
    marked = (batch.tags > 0).sum(1).tolist()
    letters = [sum(span.end - span.start for span in spans) for spans in batch.spans]
    assert all(count >= number for count, number in zip(marked, letters, strict=True))


def test_titles_are_lowered_in_training_only(make_data):
    data = make_data(lower_rate=1.0)
    for batch in data.train_dataloader():
        assert all(text == text.lower() for text in batch.texts)
    titles = [t for b in data.val_dataloader() for t, query in zip(b.texts, b.is_query, strict=True) if not query]
    assert all(title != title.lower() for title in titles)


def test_a_letter_that_grows_in_lower_case_keeps_its_title(make_data):
    """'İ'.lower() is two characters: the spans behind it would move."""
    data = make_data(lower_rate=1.0)
    data.fit_texts = [data.fit_texts[0]._replace(text="İstanbul Lamp", spans=[Span("Entity", 9, 13)], is_query=False)]
    assert next(iter(data.train_dataloader())).texts == ["İstanbul Lamp"]


def test_the_seed_chooses_what_is_held_out(make_data):
    def held(seed):
        return [e.text for e in make_data(seed=seed).validation_texts if not e.is_query]

    assert held(0) == held(0) != held(1)
