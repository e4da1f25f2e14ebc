"""Micro-batching: searches that wait are answered together, by the one thread that touches the models.

The first search of a batch waits a few milliseconds for others; while a batch is computed the next one gathers by
itself. The queue is bounded: who comes when it is full is told so at once, instead of waiting for an answer too late.
"""

import queue
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, Protocol, TypeVar

from onesearch.serve.settings import Batching

Q = TypeVar("Q")
A = TypeVar("A")


class QueueFullError(Exception):
    """Too many searches wait already."""


class Observer(Protocol):
    """Is told of what the batcher does."""

    def batch_done(self, size: int, seconds: float, waited: Sequence[float]) -> None:
        """A batch was computed.

        Args:
            size: searches of it.
            seconds: how long it took.
            waited: seconds that each of them waited before.
        """


class _Waiting(NamedTuple, Generic[Q, A]):
    ask: Q
    future: "Future[A]"
    since: float


class Batcher(Generic[Q, A]):
    """A bounded queue and its worker.

    Args:
        answer: computes a batch, in its order.
        key: asks of one key can be computed together.
        settings: sizes and times.
        observer: is told of each batch.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Q]], Sequence[A]],
        key: Callable[[Q], Hashable],
        settings: Batching,
        observer: Observer,
    ) -> None:
        self._answer = answer
        self._key = key
        self._settings = settings
        self._observer = observer
        self._queue: queue.Queue[_Waiting[Q, A] | None] = queue.Queue()  # bounded in `submit`, so that None always fits
        self._open = True
        self._lock = threading.Lock()
        self._worker = threading.Thread(target=self._run, name="search-worker", daemon=True)
        self._worker.start()

    def __len__(self) -> int:
        return self._queue.qsize()

    @property
    def is_alive(self) -> bool:
        """Whether the worker runs."""
        return self._worker.is_alive()

    def submit(self, ask: Q) -> "Future[A]":
        """Let an ask wait for its answer; to cancel the future takes it out of the queue.

        Raises:
            QueueFullError: too many wait, or the batcher is closed.
        """
        future: Future[A] = Future()
        with self._lock:
            if not self._open or self._queue.qsize() >= self._settings.max_queue:
                raise QueueFullError
            self._queue.put(_Waiting(ask, future, time.perf_counter()))
        return future

    def close(self) -> None:
        """Answer those who wait, then end."""
        with self._lock:
            if self._open:
                self._open = False
                self._queue.put(None)
        self._worker.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ended = self._gather(first)
            groups: dict[Hashable, list[_Waiting[Q, A]]] = {}
            for one in batch:
                if one.future.set_running_or_notify_cancel():  # who went away is not computed
                    groups.setdefault(self._key(one.ask), []).append(one)
            for group in groups.values():
                self._compute(group)
            if ended:
                return

    def _gather(self, first: _Waiting[Q, A]) -> tuple[list[_Waiting[Q, A]], bool]:
        """A batch that begins with `first`; and whether the end was met."""
        batch = [first]
        until = time.perf_counter() + self._settings.max_wait_ms / 1000
        while len(batch) < self._settings.max_batch:
            try:
                following = self._queue.get(timeout=max(until - time.perf_counter(), 0))
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _compute(self, group: Sequence[_Waiting[Q, A]]) -> None:
        start = time.perf_counter()
        try:
            answers = self._answer([one.ask for one in group])
        except Exception as error:
            if len(group) > 1:  # one of them may be to blame: the others need not suffer
                for one in group:
                    self._compute([one])
            else:
                group[0].future.set_exception(error)
            return
        # Before the answers go out: who has one finds it counted.
        self._observer.batch_done(len(group), time.perf_counter() - start, [start - one.since for one in group])
        for one, answer in zip(group, answers, strict=True):
            one.future.set_result(answer)
