"""Batches of like length: who meets whom changes, what an epoch shows does not."""

import random
from collections import Counter
from itertools import islice, pairwise

import numpy as np
import pytest
from lightning.fabric.utilities.data import _set_sampler_epoch

from onesearch.data.buckets import BucketedBatches, EpochLoader, rearranged
from onesearch.data.examples import Written
from onesearch.data.mixture import Mixture
from onesearch.tasks.align import QueryToSid, SidToQuery
from onesearch.tasks.prompt import Prompt
from onesearch.tasks.task import Corpus, Sample

TASKS = [QueryToSid(), SidToQuery(0.5)]
NUM_QUERIES = 300


def write(example):
    """A prompt of 4 to 100 tokens, as its example says."""
    length = 4 + random.Random(str(example)).randrange(97)
    return Written(example.task, Sample(Prompt([example.number] * length), [0]))


def make_batches(pool, batch_size=8, world=1, rank=0, seed=0):
    corpus = Corpus([f"q{n}" for n in range(NUM_QUERIES)], [], [], np.zeros((0, 5), int), [], [])
    mixture = Mixture(TASKS, corpus, batch_size, seed)
    mixture.world, mixture.rank = world, rank
    return BucketedBatches(mixture, write, pool)


def lengths(batches):
    return [[len(one.sample.prompt.tokens) for one in batch] for batch in batches]


def padding(batches):
    """1 − Σ lengths / Σ cells."""
    rows = lengths(batches)
    return 1 - sum(map(sum, rows)) / sum(max(row) * len(row) for row in rows)


def shown(batches):
    return Counter((one.task, tuple(one.sample.prompt.tokens)) for batch in batches for one in batch)


def kinds(batches):
    return [{one.task for one in batch} for batch in batches]


def test_sorted_by_the_prompt_alone():
    """Five prompts cut as the batches were, 2 + 2 + 1; the two of length 1 stay in their order, longer answer first."""
    batches = [[written(5, 1), written(2, 1)], [written(4, 1), written(1, 2)], [written(1, 1)]]
    found = rearranged(batches, random.Random(0))
    keys = sorted([(len(one.sample.prompt.tokens), len(one.sample.answer)) for one in batch] for batch in found)
    assert keys == [[(1, 2), (1, 1)], [(2, 1), (4, 1)], [(5, 1)]]


def written(prompt, answer):
    return Written(0, Sample(Prompt([0] * prompt), [0] * answer))


@pytest.mark.parametrize("pool", [2, 10, 1000])
def test_a_pool_shows_the_same_examples_at_the_same_kinds_of_steps(pool):
    """300 SIDs in 38 batches and 150 texts in 19, whatever the pool; the kinds come in the order that was drawn."""
    plain, pooled = list(make_batches(1)), list(make_batches(pool))
    assert len(pooled) == len(make_batches(pool)) == len(plain) == 38 + 19
    assert kinds(pooled) == kinds(plain)
    assert shown(pooled) == shown(plain)
    assert sorted(map(len, pooled)) == sorted(map(len, plain))


def test_padding_all_but_goes():
    """Uniform lengths up to 100: a batch of 8 is half padding; in pools of 50 batches, a few per cent."""
    assert padding(make_batches(1)) > 0.4
    assert padding(make_batches(50)) < 0.06


def test_short_and_long_come_in_random_order():
    """Sorted batches would rise from step to step; here a batch is as likely longer as shorter than the one before."""
    longest = [max(row) for row in lengths(make_batches(1000))]
    rises = sum(later > earlier for earlier, later in pairwise(longest))
    assert 0.3 < rises / len(longest) < 0.7


def test_epochs_differ_and_seeds_repeat():
    """A fit that goes on in epoch 1, as Lightning tells the loader, draws what a fit without a break draws then."""
    loader = EpochLoader(make_batches(10), collate=list, num_workers=0, pin_memory=False)
    assert len(loader) == 57
    first = list(loader)
    _set_sampler_epoch(loader, 1)
    second = list(loader)
    assert lengths(second) != lengths(first)
    resumed = EpochLoader(make_batches(10), collate=list, num_workers=0, pin_memory=False)
    _set_sampler_epoch(resumed, 1)
    assert list(resumed) == second
    assert lengths(make_batches(10, seed=1)) != lengths(first)


def test_processes_take_as_many_steps_of_the_same_kind_and_length():
    """Two processes share the examples of one; what is long on one is long on the other: none waits."""
    one, two = (list(make_batches(20, world=2, rank=rank)) for rank in range(2))
    assert len(one) == len(two) == 19 + 10
    assert kinds(one) == kinds(two)
    assert shown(one) + shown(two) == shown(make_batches(1))
    longest = np.array([[max(row) for row in lengths(batches)] for batches in (one, two)])
    assert np.corrcoef(longest)[0, 1] > 0.85


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_workers_share_the_pools(num_workers):
    """However many workers write, every batch comes at its own step: 57 in pools of 10, the last one of 7."""
    together = EpochLoader(make_batches(10), collate=list, num_workers=num_workers, pin_memory=False)
    assert list(together) == list(make_batches(10))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_epoch_counts_that_is_told_last(num_workers):
    """Lightning asks for an iterator before it tells of the epoch: it shows the one told of all the same."""
    loader = EpochLoader(make_batches(10), collate=list, num_workers=num_workers, pin_memory=False)
    iterator = iter(loader)
    _set_sampler_epoch(loader, 1)
    second = make_batches(10)
    second.set_epoch(1)
    assert list(iterator) == list(second)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("shown", [0, 1, 10, 34, 56])
def test_goes_on_inside_an_epoch(num_workers, shown):
    """Behind the batches that were shown; once: then the epoch is whole again."""
    whole = list(make_batches(10))
    stopped = EpochLoader(make_batches(10), collate=list, num_workers=0, pin_memory=False)
    assert list(islice(stopped, shown)) == whole[:shown]
    resumed = EpochLoader(make_batches(10), collate=list, num_workers=num_workers, pin_memory=False)
    resumed.load_state_dict(stopped.state_dict())
    assert list(resumed) == whole[shown:]
    assert list(resumed) == whole


def test_pools_that_were_shown_are_not_written():
    """From batch 34 on, pools of 10 from batch 30 on are written: of 57 batches 27."""
    batches, written = make_batches(10), []
    batches.write = lambda example: (written.append(example), write(example))[1]
    list(batches.since(34))
    assert len(written) == sum(len(batch) for batch in batches.mixture.batches(0)[30:])
