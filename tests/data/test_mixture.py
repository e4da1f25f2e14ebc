"""The mixture of tasks: promised counts, one kind a batch, a share for each process, held-out examples."""

import dataclasses
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from onesearch.data.mixture import HELD_OUT, Mixture, held_out
from onesearch.tasks.align import QueryToSid, SidToItem, SidToQuery
from onesearch.tasks.personalize import SearchToItem
from onesearch.tasks.task import Corpus

TASKS = [QueryToSid(weight=2.0), SidToQuery(weight=0.5), SidToItem(weight=1.25)]


@pytest.fixture
def corpus():
    """10 queries and 8 items: weights 2, .5 and 1.25 ask for 20 SIDs, and 5 + 10 texts."""
    return Corpus([f"q{n}" for n in range(10)], ["item"] * 8, [""] * 8, np.zeros((8, 5), int), [], [])


def drawn(mixture, epoch=0):
    """An epoch's batches as lists of (task, draw, number)."""
    return [[tuple(row) for row in batch.tolist()] for batch in mixture.batches(epoch)]


def test_weights_give_the_promised_counts(corpus):
    """Twice each query; five queries of ten once; every item once and two of the eight once more."""
    rows = [row for batch in drawn(Mixture(TASKS, corpus, 4, seed=0)) for row in batch]
    times = Counter((task, number) for task, _, number in rows)
    assert [times[0, number] for number in range(10)] == [2] * 10
    assert sorted(times[1, number] for number in range(10)) == [0] * 5 + [1] * 5
    assert sorted(times[2, number] for number in range(8)) == [1] * 6 + [2] * 2
    for task, count in enumerate((20, 5, 10)):
        assert sorted(draw for other, draw, _ in rows if other == task) == list(range(count))


def test_a_batch_holds_one_kind_of_answer(corpus):
    """Texts of several tasks may share a batch, SIDs and texts may not; ⌈20/4⌉ + ⌈15/4⌉ batches of at most 4."""
    batches = drawn(Mixture(TASKS, corpus, 4, seed=0))
    assert len(batches) == len(Mixture(TASKS, corpus, 4, seed=0)) == 5 + 4
    kinds = [{TASKS[task].writes for task, _, _ in batch} for batch in batches]
    assert all(len(kind) == 1 for kind in kinds)
    assert any(len({task for task, _, _ in batch}) == 2 for batch in batches)
    assert sorted(map(len, batches)) == [3] + [4] * 8


def test_kinds_come_in_random_order(corpus):
    """Not all SIDs first: over ten seeds the first batch is of either kind."""
    kinds = {TASKS[drawn(Mixture(TASKS, corpus, 4, seed))[0][0][0]].writes for seed in range(10)}
    assert kinds == {"sid", "text"}


def test_two_processes_share_each_batch(corpus):
    """Each takes half of every global batch of 8, and both are at the same kind at the same step."""
    ranks = []
    for rank in range(2):
        mixture = Mixture(TASKS, corpus, 4, seed=3)
        mixture.world, mixture.rank = 2, rank
        ranks.append(drawn(mixture))
        assert len(ranks[-1]) == len(mixture) == 3 + 2
    whole = drawn(Mixture(TASKS, corpus, 8, seed=3))
    for one, two, both in zip(*ranks, whole, strict=True):
        assert sorted(one + two) == sorted(both)
        assert len(one) - len(two) in (0, 1)


def test_a_process_without_a_share_still_steps(corpus):
    """A last global batch of one example for two processes: both get it, so that neither waits for the other."""
    single = Corpus(["q"], [], [], np.zeros((0, 5), int), [], [])
    for rank in range(2):
        mixture = Mixture([QueryToSid()], single, 4, seed=0)
        mixture.world, mixture.rank = 2, rank
        assert drawn(mixture) == [[(0, 0, 0)]]


def test_epochs_differ_and_seeds_repeat(corpus):
    mixture = Mixture(TASKS, corpus, 4, seed=0)
    assert drawn(mixture, 0) != drawn(mixture, 1)
    assert drawn(Mixture(TASKS, corpus, 4, seed=0), 1) == drawn(mixture, 1)
    assert drawn(Mixture(TASKS, corpus, 4, seed=1), 1) != drawn(mixture, 1)


def test_a_task_of_weight_zero_is_left_out(corpus):
    batches = drawn(Mixture([QueryToSid(), SidToQuery(weight=0.0)], corpus, 4, seed=0))
    assert {task for batch in batches for task, _, _ in batch} == {0}


def test_recent_searches_come_more_often(corpus):
    """Half-life 2 days: ages 0, 2 and 4 in proportion 4 : 2 : 1, over all as many as without. 2·(4, 2, 1)·3/7 each."""
    searches = [SimpleNamespace(day=day) for day in (16, 18, 20)]
    recent = dataclasses.replace(corpus, searches=searches)
    task = SearchToItem(weight=2.0, half_life=2.0)
    np.testing.assert_allclose(task.repeats(recent), [6 / 7, 12 / 7, 24 / 7])
    mixture = Mixture([task], recent, 2, seed=0)
    times = Counter()
    for epoch in range(700):
        of_epoch = Counter(number for batch in drawn(mixture, epoch) for _, _, number in batch)
        assert sum(of_epoch.values()) == 6
        assert of_epoch[0] in (0, 1)
        assert of_epoch[1] in (1, 2)
        assert of_epoch[2] in (3, 4)
        times += of_epoch
    assert [times[number] / 700 for number in range(3)] == pytest.approx([6 / 7, 12 / 7, 24 / 7], abs=0.06)
    assert SearchToItem(weight=2.0).repeats(recent).tolist() == [2.0] * 3


def test_held_out_examples_are_the_same_each_time_whatever_the_weights(corpus):
    """At most six of each task: 6 SIDs in one batch of 6; 6 + 6 texts in batches of 6, task after task."""
    batches = held_out(TASKS, corpus, batch_size=6, largest=6, seed=0)
    assert [[example.task for example in batch] for batch in batches] == [[0] * 6, [1] * 6, [2] * 6]
    assert all(len({example.number for example in batch}) == 6 for batch in batches)
    assert {example.epoch for batch in batches for example in batch} == {HELD_OUT}
    assert held_out(TASKS, corpus, 6, 6, seed=0) == batches
    assert [len(batch) for batch in held_out(TASKS, corpus, 6, 99, seed=0)] == [6, 4, 6, 6, 6]
