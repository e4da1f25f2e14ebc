"""The mixture of tasks: promised counts, one kind a batch, a share for each process; the corpus; whole batches."""

import dataclasses
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import _set_sampler_epoch
from torch.utils.data import DataLoader

from onesearch.data.sft import MixtureBatches, SftData, build_corpus
from onesearch.khqe import Khqe
from onesearch.tasks.align import QueryToSid, SidToItem, SidToQuery
from onesearch.tasks.cooccur import QueryTextToItemText
from onesearch.tasks.personalize import SearchToItem, TitleToItem
from onesearch.tasks.task import Corpus

TASKS = [QueryToSid(weight=2.0), SidToQuery(weight=0.5), SidToItem(weight=1.25)]


@pytest.fixture
def corpus():
    """10 queries and 8 items: weights 2, .5 and 1.25 ask for 20 SIDs, and 5 + 10 texts."""
    return Corpus([f"q{n}" for n in range(10)], ["item"] * 8, [""] * 8, np.zeros((8, 5), int), [], [])


def test_weights_give_the_promised_counts(corpus):
    """Twice each query; five queries of ten once; every item once and two of the eight once more."""
    batches = MixtureBatches(TASKS, corpus, 4, seed=0)
    drawn = Counter((number, index) for batch in batches for _, number, _, index in batch)
    assert [drawn[0, index] for index in range(10)] == [2] * 10
    assert sorted(drawn[1, index] for index in range(10)) == [0] * 5 + [1] * 5
    assert sorted(drawn[2, index] for index in range(8)) == [1] * 6 + [2] * 2


def test_a_batch_holds_one_kind_of_answer(corpus):
    """Texts of several tasks may share a batch, SIDs and texts may not; ⌈20/4⌉ + ⌈15/4⌉ batches of at most 4."""
    batches = list(MixtureBatches(TASKS, corpus, 4, seed=0))
    assert len(batches) == len(MixtureBatches(TASKS, corpus, 4, seed=0)) == 5 + 4
    kinds = [{TASKS[number].writes for _, number, _, _ in batch} for batch in batches]
    assert all(len(kind) == 1 for kind in kinds)
    assert any(len({number for _, number, _, _ in batch}) == 2 for batch in batches)
    assert sorted(map(len, batches)) == [3] + [4] * 8


def test_kinds_come_in_random_order(corpus):
    """Not all SIDs first: over ten seeds the first batch is of either kind."""
    kinds = {TASKS[next(iter(MixtureBatches(TASKS, corpus, 4, seed)))[0][1]].writes for seed in range(10)}
    assert kinds == {"sid", "text"}


def test_two_processes_share_each_batch(corpus):
    """Each takes half of every global batch of 8, and both are at the same kind at the same step."""
    ranks = []
    for rank in range(2):
        batches = MixtureBatches(TASKS, corpus, 4, seed=3)
        batches.world, batches.rank = 2, rank
        ranks.append(list(batches))
        assert len(ranks[-1]) == len(batches) == 3 + 2
    whole = MixtureBatches(TASKS, corpus, 8, seed=3)
    for one, two, both in zip(*ranks, whole, strict=True):
        assert sorted(one + two) == sorted(both)
        assert len(one) - len(two) in (0, 1)


def test_a_process_without_a_share_still_steps(corpus):
    """A last global batch of one example for two processes: both get it, so that neither waits for the other."""
    single = Corpus(["q"], [], [], np.zeros((0, 5), int), [], [])
    for rank in range(2):
        batches = MixtureBatches([QueryToSid()], single, 4, seed=0)
        batches.world, batches.rank = 2, rank
        assert list(batches) == [[(0, 0, 0, 0)]]


def test_epochs_differ_and_seeds_repeat(corpus):
    """A fit that goes on in epoch 1, as Lightning tells the loader, draws what a fit without a break draws then."""
    batches = MixtureBatches(TASKS, corpus, 4, seed=0)
    first = list(batches)
    _set_sampler_epoch(DataLoader(range(99), batch_sampler=batches), 1)
    second = list(batches)
    assert [example[0] for batch in second for example in batch] == [1] * 35
    assert [[e[1:] for e in batch] for batch in first] != [[e[1:] for e in batch] for batch in second]
    assert list(MixtureBatches(TASKS, corpus, 4, seed=0)) == first


def test_a_task_of_weight_zero_is_left_out(corpus):
    batches = list(MixtureBatches([QueryToSid(), SidToQuery(weight=0.0)], corpus, 4, seed=0))
    assert {number for batch in batches for _, number, _, _ in batch} == {0}


def test_recent_searches_come_more_often(corpus):
    """Half-life 2 days: ages 0, 2 and 4 in proportion 4 : 2 : 1, over all as many as without. 2·(4, 2, 1)·3/7 each."""
    searches = [SimpleNamespace(day=day) for day in (16, 18, 20)]
    recent = dataclasses.replace(corpus, searches=searches)
    task = SearchToItem(weight=2.0, half_life=2.0)
    np.testing.assert_allclose(task.repeats(recent), [6 / 7, 12 / 7, 24 / 7])
    batches = MixtureBatches([task], recent, 2, seed=0)
    drawn = Counter()
    for epoch in range(700):
        batches.set_epoch(epoch)
        of_epoch = Counter(index for batch in batches for _, _, _, index in batch)
        assert sum(of_epoch.values()) == 6
        assert of_epoch[0] in (0, 1)
        assert of_epoch[1] in (1, 2)
        assert of_epoch[2] in (3, 4)
        drawn += of_epoch
    assert [drawn[index] / 700 for index in range(3)] == pytest.approx([6 / 7, 12 / 7, 24 / 7], abs=0.06)
    assert SearchToItem(weight=2.0).repeats(recent).tolist() == [2.0] * 3


@pytest.fixture(scope="module")
def tiny_corpus(tiny_log, tiny_run):
    searches = [context for context in tiny_log.contexts("train") if context.clicked]
    return build_corpus(tiny_log, Khqe.open(tiny_run), searches, num_typos=3, num_fragments=2, seed=0)


def test_the_corpus_is_that_of_the_training_searches(tiny_log, tiny_corpus):
    searches = [context for context in tiny_log.contexts("train") if context.clicked]
    assert tiny_corpus.queries == sorted({context.query for context in searches})
    assert Counter(tiny_corpus.pairs) == Counter((c.query, item) for c in searches for item in c.clicked)
    assert set(tiny_corpus.clicked) == set(tiny_corpus.queries)
    assert tiny_corpus.categories[:7:6] == ["Shoes > Boots", "Shoes > Sandals"]
    assert all(len(typos) == 3 for typos in tiny_corpus.typos.values())
    assert all(len(texts) == 2 for texts in tiny_corpus.fragments)
    assert set(" ".join(tiny_corpus.fragments[0]).split()) <= {"red", "boots", "by", "acme"}


def test_the_corpus_repeats_with_the_seed(tiny_log, tiny_khqe, tiny_corpus):
    again = build_corpus(tiny_log, tiny_khqe, tiny_corpus.searches, 3, 2, seed=0)
    assert (again.typos, again.fragments) == (tiny_corpus.typos, tiny_corpus.fragments)
    assert again.babble == tiny_corpus.babble
    assert tiny_corpus.babble
    assert not set(tiny_corpus.babble) & {"", *tiny_corpus.queries}
    other = build_corpus(tiny_log, tiny_khqe, tiny_corpus.searches, 3, 2, seed=1)
    assert other.typos != again.typos


def test_what_is_drawn_twice_is_written_twice(make_data):
    """24 draws of one title in an epoch: most of its eight fragments come, not one of them 24 times."""
    data = make_data([TitleToItem(weight=24.0)])
    loader = data.train_dataloader()
    examples = loader.dataset
    draws = [example for batch in loader.batch_sampler for example in batch if example[3] == 0]
    assert len(draws) == 24
    texts = {tuple(examples[example][1].prompt.tokens) for example in draws}
    assert len(texts) > 4
    assert examples[draws[0]] == examples[draws[0]]


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
    """(seed, epoch, task, draw, index) fixes it; another epoch draws another one."""
    data = make_data([QueryToSid(typo_rate=0.9)])
    examples = data.train_dataloader().dataset
    assert examples[0, 0, 3, 3] == examples[0, 0, 3, 3]
    assert len({str(examples[epoch, 0, 3, 3]) for epoch in range(20)}) > 1


def test_validation_holds_answered_searches_of_its_split(make_data, tiny_log):
    data = make_data([QueryToSid()], num_validation=5)
    contexts = [context for batch in data.val_dataloader() for context in batch]
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


def test_tasks_are_frozen():
    """A configuration cannot be changed behind a run's back."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        QueryToSid().weight = 3.0
