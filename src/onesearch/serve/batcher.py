"""Micro-batching: searches that wait are answered together, by the one thread that touches the models.

The first search of a batch waits a few milliseconds for others; while a batch is computed the next one gathers by
itself. The queue is bounded: who comes when it is full is told so at once, instead of waiting for an answer too late.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

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


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[Q, A]):
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
        self._waiting: deque[_Waiting[Q, A]] = deque()
        self._open = True
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._run, name="search-worker", daemon=True)
        self._worker.start()

    def __len__(self) -> int:
        return len(self._waiting)

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
        waiting = _Waiting(ask, future, time.perf_counter())
        with self._changed:
            if not self._open or len(self._waiting) >= self._settings.max_queue:
                raise QueueFullError
            self._waiting.append(waiting)
            self._changed.notify()
        future.add_done_callback(partial(self._leave, waiting))
        return future

    def close(self, seconds: float | None = None) -> None:
        """Refuse those who wait, and end after the batch that is being computed.

        Args:
            seconds: how long to wait for that batch; none: as long as it takes.
        """
        with self._changed:
            self._open = False
            refused = [*self._waiting]
            self._waiting.clear()
            self._changed.notify()
        for one in refused:
            if one.future.set_running_or_notify_cancel():
                one.future.set_exception(QueueFullError())
        self._worker.join(seconds)

    def _leave(self, one: _Waiting[Q, A], future: "Future[A]") -> None:
        """Who goes away while it waits leaves its place to another."""
        if future.cancelled():
            with self._changed:
                if one in self._waiting:
                    self._waiting.remove(one)

    def _run(self) -> None:
        while self._open:
            self._compute_all(self._gather())  # no name here holds on to a batch, and by it to a run, while it waits

    def _gather(self) -> list[_Waiting[Q, A]]:
        """The next batch, once somebody waits; empty where everybody has left meanwhile, or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open)
            seconds, most = self._settings.max_wait_ms / 1000, self._settings.max_batch
            self._changed.wait_for(lambda: len(self._waiting) >= most or not self._open, seconds)
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def _compute_all(self, batch: Sequence[_Waiting[Q, A]]) -> None:
        groups: dict[Hashable, list[_Waiting[Q, A]]] = {}
        for one in batch:
            if one.future.set_running_or_notify_cancel():  # who went away is not computed
                groups.setdefault(self._key(one.ask), []).append(one)
        for group in groups.values():
            self._compute(group)

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
