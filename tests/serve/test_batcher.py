"""The queue: who waits together is answered together, and nobody waits in vain."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from onesearch.serve.batcher import Batcher, QueueFullError
from onesearch.serve.settings import Batching
from onesearch.types import UserError


class Doubler:
    """Answers twice the number; notes its batches; the first batch waits to be let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.told: list[int] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, asks):
        self.batches.append(list(asks))
        self.begun.set()
        assert self.go.wait(10)
        if 13 in asks:
            raise ValueError("unlucky")
        return [2 * ask for ask in asks]

    def batch_done(self, size, seconds, waited):
        self.told.append(size)
        assert len(waited) == size
        assert min(waited) >= 0 <= seconds


@pytest.fixture
def doubler():
    return Doubler()


@pytest.fixture
def make(doubler):
    """A batcher whose worker is busy with a first ask, 0, and the future of that."""
    made = []

    def make(key=lambda ask: None, **settings):
        made.append(Batcher(doubler, key, Batching(**settings), doubler))
        first = made[-1].submit(0)
        assert doubler.begun.wait(10)
        return made[-1], first

    yield make
    doubler.go.set()
    for batcher in made:
        batcher.close()


def test_who_waits_together_is_answered_together(make, doubler):
    """Five wait while 0 is computed: they are one batch of four and one of one."""
    batcher, first = make(max_batch=4, max_wait_ms=0)
    futures = [batcher.submit(number) for number in range(1, 6)]
    assert len(batcher) == 5
    doubler.go.set()
    assert [future.result(10) for future in (first, *futures)] == [0, 2, 4, 6, 8, 10]
    assert doubler.batches == [[0], [1, 2, 3, 4], [5]]
    assert doubler.told == [1, 4, 1]


def test_only_asks_of_one_key_are_computed_together(make, doubler):
    batcher, _ = make(key=lambda ask: ask % 2, max_batch=8)
    futures = [batcher.submit(number) for number in (1, 2, 3, 4)]
    doubler.go.set()
    assert [future.result(10) for future in futures] == [2, 4, 6, 8]
    assert doubler.batches[1:] == [[1, 3], [2, 4]]


def test_a_full_queue_says_so_at_once(make):
    batcher, _ = make(max_queue=2)
    batcher.submit(1)
    batcher.submit(2)
    with pytest.raises(QueueFullError):
        batcher.submit(3)


def test_one_that_fails_takes_nobody_along(make, doubler):
    """The batch with 13 fails; alone 12 and 14 have their answers, 13 its error, and the worker goes on."""
    batcher, _ = make(max_batch=8)
    futures = [batcher.submit(number) for number in (12, 13, 14)]
    doubler.go.set()
    assert (futures[0].result(10), futures[2].result(10)) == (24, 28)
    with pytest.raises(ValueError, match="unlucky"):
        futures[1].result(10)
    assert batcher.submit(5).result(10) == 10
    assert batcher.is_alive


def test_who_went_away_is_not_computed(make, doubler):
    batcher, _ = make()
    gone, stays = batcher.submit(1), batcher.submit(2)
    assert gone.cancel()
    doubler.go.set()
    assert stays.result(10) == 4
    assert doubler.batches == [[0], [2]]
    with pytest.raises(CancelledError):
        gone.result(0)


def test_who_goes_away_leaves_its_place(make):
    """The queue of two is full; one leaves while 0 is still computed, and another one has the place."""
    batcher, _ = make(max_queue=2)
    gone = batcher.submit(1)
    batcher.submit(2)
    assert gone.cancel()
    assert len(batcher) == 1
    batcher.submit(3)
    with pytest.raises(QueueFullError):
        batcher.submit(4)


def test_it_closes_after_the_batch_that_it_computes(make, doubler):
    """That one is answered; whoever waits is refused at once, and so is whoever comes afterwards."""
    batcher, first = make(max_batch=2)
    futures = [batcher.submit(number) for number in range(1, 6)]
    batcher.close(0.01)  # the batch takes longer than that
    for future in futures:
        with pytest.raises(QueueFullError):
            future.result(0)
    assert batcher.is_alive
    doubler.go.set()
    assert first.result(10) == 0
    batcher.close()
    assert not batcher.is_alive
    assert doubler.batches == [[0]]
    with pytest.raises(QueueFullError):
        batcher.submit(1)
    batcher.close()


def test_a_first_ask_waits_a_moment_for_others(make, doubler):
    """With a wait of 400 ms, two that come 50 ms apart are one batch."""
    batcher, first = make(max_batch=2, max_wait_ms=400)
    doubler.go.set()
    first.result(10)
    one = batcher.submit(1)
    time.sleep(0.05)
    other = batcher.submit(2)
    assert (one.result(10), other.result(10)) == (2, 4)
    assert doubler.batches[-1] == [1, 2]


@pytest.mark.parametrize(("field", "value"), [("max_batch", 0), ("max_queue", -1), ("timeout", 0)])
def test_settings_that_make_no_sense_are_named(field, value):
    with pytest.raises(UserError, match=f"batching.{field} is {value}"):
        Batching(**{field: value})
