"""Whole batches of the SFT stages, the validation beside them, and the tokenizer that prompts are written with."""

import dataclasses
import shutil

import pytest
import torch

from onesearch.data.mixture import Example
from onesearch.data.sft import SftData
from onesearch.models.text_tokenizer import load_tokenizer, train_tokenizer
from onesearch.tasks.align import QueryToCategory, QueryToSid
from onesearch.tasks.cooccur import QueryTextToItemText
from onesearch.tasks.personalize import SearchToItem, TitleToItem
from onesearch.tasks.task import task_names
from onesearch.types import UserError


def test_what_is_drawn_twice_is_written_twice(make_data):
    """24 draws of one title in an epoch: most of its eight fragments come, not one of them 24 times."""
    data = make_data([TitleToItem(weight=24.0)])
    batches = data.train_dataloader().sampler
    rows = [row for batch in batches.mixture.batches(0) for row in batch.tolist()]
    draws = [Example(0, *row) for row in rows if row[2] == 0]
    assert len(draws) == 24
    texts = {tuple(batches.write(example).sample.prompt.tokens) for example in draws}
    assert len(texts) > 4
    assert batches.write(draws[0]) == batches.write(draws[0])


@pytest.fixture
def make_data(tiny_run):
    def make(tasks, **options):
        data = SftData(tiny_run, tasks, **{"batch_size": 16, "vocab_size": 400, "num_typos": 2} | options)
        data.prepare_data()
        data.setup("fit")
        return data

    return make


def test_batches_of_sids_and_of_texts(make_data, tiny_khqe):
    """Either codes or labels; codes lie in their layers, a text ends with </s> before its padding of -100."""
    data = make_data([SearchToItem(), QueryTextToItemText()])
    batches = list(data.train_dataloader())
    kinds = {batch.codes is None for batch in batches}
    assert kinds == {True, False}
    for batch in batches:
        assert (batch.codes is None) != (batch.labels is None)
        assert batch.prompt.input_ids.shape == batch.prompt.attention_mask.shape
        if batch.codes is not None:
            assert (batch.codes < torch.tensor(tiny_khqe.spec.sizes)).all()
        else:
            for row in batch.labels:
                assert row[row >= 0][-1] == data.writer().end
    assert sum(len(batch.prompt.input_ids) for batch in batches) == len(data.corpus.searches) + len(data.corpus.pairs)


def test_an_example_is_the_same_whenever_it_is_asked_for(make_data):
    """(seed, epoch, task, draw, number) fixes it; another epoch draws another one."""
    data = make_data([QueryToSid(typo_rate=0.9)])
    write = data.train_dataloader().sampler.write
    assert write(Example(0, 0, 3, 3)) == write(Example(0, 0, 3, 3))
    assert len({str(write(Example(epoch, 0, 3, 3))) for epoch in range(20)}) > 1


def test_validation_holds_answered_searches_of_its_split(make_data, tiny_log):
    data = make_data([QueryToSid()], num_validation=5)
    contexts = [context for batch in data.val_dataloader()[0] for context in batch]
    allowed = {c.search_id for c in tiny_log.contexts("validation") if c.clicked}
    assert len(contexts) == 5
    assert {context.search_id for context in contexts} <= allowed


def test_learning_from_more_splits(make_data, tiny_log):
    data = make_data([QueryToSid()], fit_splits=("train", "validation"))
    want = {c.search_id for c in tiny_log.contexts("train", "validation") if c.clicked}
    assert {context.search_id for context in data.corpus.searches} == want


def test_every_text_of_a_prompt_is_encoded_beforehand(make_data, monkeypatch):
    """Writing batches runs no encoder: workers would each run their own."""
    data = make_data([SearchToItem(typo_rate=0.5), QueryToSid(typo_rate=0.5)])
    monkeypatch.setattr(data.khqe.encoder, "embed", lambda texts: pytest.fail(f"encoded {texts}"))
    assert len(list(data.train_dataloader())) > 2


def test_a_pool_of_no_batch_is_refused(tiny_run):
    with pytest.raises(UserError, match="SftData has pool 0: give the batches that"):
        SftData(tiny_run, [QueryToSid()], pool=0)


def test_a_pool_wastes_less_and_shows_the_same(make_data):
    """Searches, 20 to 130 tokens, beside queries of 4: the same prompts, in batches that are hardly padded."""
    padding, prompts = [], []
    for pool in (1, 50):
        batches = list(make_data([SearchToItem(), QueryToSid(weight=4)], pool=pool).train_dataloader())
        masks = [batch.prompt.attention_mask for batch in batches]
        padding.append(1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks))
        rows = [
            row for batch in batches for row in zip(batch.prompt.input_ids, batch.prompt.attention_mask, strict=True)
        ]
        prompts.append(sorted(ids[mask.bool()].tolist() for ids, mask in rows))
    assert prompts[0] == prompts[1]
    assert padding[1] < 0.15 < 0.4 < padding[0]


def test_tasks_are_frozen():
    """A configuration cannot be changed behind a run's back."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        QueryToSid().weight = 3.0


def test_each_row_says_whose_it_is(make_data):
    """Answers of QueryTextToItemText are texts, and only they; both SID tasks come, under their own numbers."""
    data = make_data([SearchToItem(), QueryTextToItemText(), QueryToSid()])
    seen = set()
    for batch in data.train_dataloader():
        assert batch.task_names == ("SearchToItem", "QueryTextToItemText", "QueryToSid")
        assert batch.tasks.shape == batch.prompt.input_ids.shape[:1]
        assert (batch.tasks == 1).all() == (batch.codes is None)
        seen |= set(batch.tasks.tolist())
    assert seen == {0, 1, 2}


def test_two_tasks_of_one_class_are_told_apart():
    assert task_names([QueryToSid(), TitleToItem(), QueryToSid(2.0)]) == ("QueryToSid", "TitleToItem", "QueryToSid-2")


def test_validation_holds_each_tasks_examples_of_its_split(make_data, tiny_log):
    """At most 3 examples a task, without typos or BPE dropout, and the same ones each time."""
    data = make_data([QueryToSid(typo_rate=1.0), QueryToCategory()], num_validation=3, bpe_dropout=0.5)
    first, again = list(data.val_dataloader()[1]), list(data.val_dataloader()[1])
    assert [batch.tasks.tolist() for batch in first] == [[0] * 3, [1] * 3]
    assert all(torch.equal(a.prompt.input_ids, b.prompt.input_ids) for a, b in zip(first, again, strict=True))
    validation = {context.query for context in data.validation}
    prompt = first[0].prompt
    texts = [row[mask.bool()][2:-1] for row, mask in zip(prompt.input_ids, prompt.attention_mask, strict=True)]
    shown = {data.tokenizer.decode(text).strip() for text in texts}
    assert shown <= validation


def test_a_later_stage_writes_with_the_tokenizer_of_the_one_before(make_data, tiny_run_copy):
    """Nothing is said of the tokenizer, the run's own one is gone: prompts are those of the generator."""
    shutil.rmtree(tiny_run_copy / "tokenizer")
    data = SftData(tiny_run_copy, [QueryToSid()], vocab_size=9999, init_from="sft_align")
    data.prepare_data()
    data.setup("fit")
    before = load_tokenizer(tiny_run_copy / "sft_align")
    assert data.writer().tokenizer.get_vocab() == data.tokenizer.get_vocab() == before.get_vocab()
    assert not (tiny_run_copy / "tokenizer").exists()


def test_another_tokenizer_for_a_later_stage_is_refused(tiny_run, tmp_path):
    train_tokenizer(["a red boot"], 280).save_pretrained(tmp_path / "other")
    data = SftData(tiny_run, [QueryToSid()], tokenizer=str(tmp_path / "other"), init_from="sft_align")
    with pytest.raises(UserError, match=r"other' has other tokens than the one that 'sft_align' was trained with"):
        data.setup("fit")
    SftData(tiny_run, [QueryToSid()], tokenizer=str(tiny_run / "tokenizer"), init_from="sft_align").setup("fit")
