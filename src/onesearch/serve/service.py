"""The service behind the routes: which run answers, who waits, what happened since, and how it comes and goes."""

import asyncio
import datetime
import gc
import logging
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from onesearch.log.text import normalize_query
from onesearch.serve.batcher import Batcher, QueueFullError
from onesearch.serve.events import Event, EventStore
from onesearch.serve.filtering import NAMES, Filter
from onesearch.serve.generation import Answer, Ask, Generation
from onesearch.serve.reranking import Reranking
from onesearch.serve.settings import Batching, Limits, Memory
from onesearch.serve.telemetry import Metrics, log
from onesearch.types import UserError


class ReloadingError(Exception):
    """Another reload is going on."""


class ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


class Service:
    """Answers searches, takes events, swaps runs.

    Args:
        run: the run folder.
        stages: stages to offer; none: all that are finished.
        num_beams: K where none is asked for.
        limits: of requests.
        batching: of searches.
        memory: what is kept.
        events: where events are kept; `RUN/serve/events.jsonl` if not given.
        rerank: whether lists are re-sorted by the reward model where a search does not say.
        reranking: how they are.

    Attributes:
        num_in_flight: requests that are being answered.
        is_draining: whether no further ones are taken.
    """

    def __init__(
        self,
        run: Path,
        stages: Sequence[str] = (),
        num_beams: int = 64,
        limits: Limits = Limits(),  # noqa: B008
        batching: Batching = Batching(),  # noqa: B008
        memory: Memory = Memory(),  # noqa: B008
        events: Path | None = None,
        rerank: bool = False,
        reranking: Reranking = Reranking(),  # noqa: B008
    ) -> None:
        self.limits = limits
        self.batching = batching
        self.num_beams = num_beams
        self.rerank = rerank
        self.num_in_flight = 0
        self.is_draining = False
        self._memory = memory
        self._reranking = reranking
        self._run = run
        self._stages = tuple(stages)
        self._reloading = asyncio.Lock()
        self._writer, self._num_writing = ThreadPoolExecutor(1, "events"), 0  # who waits for the disk is here
        self.generation = self._open(run, stages)
        path = events or run / "serve" / "events.jsonl"
        self.events = EventStore(path, memory.events, memory.shoppers_with_events)
        if self.events.num_damaged:
            log("damaged events", logging.WARNING, told={"file": str(path), "lines": self.events.num_damaged})
        self.metrics = Metrics()
        self._tell_metrics()
        self.batcher: Batcher[Ask, Answer] = Batcher(_answer, lambda ask: ask.batch_key, batching, self.metrics)
        self.metrics.watch("queue_length", "Searches that wait.", lambda: len(self.batcher))
        self.metrics.watch("known_texts", "Queries kept in memory.", lambda: len(self.generation.khqe.texts))

    @property
    def is_reloading(self) -> bool:
        """Whether another run is being loaded."""
        return self._reloading.locked()

    def ask(
        self,
        query: str,
        user_id: str | None,
        k: int,
        stage: str | None,
        num_beams: int | None,
        explain: bool,
        rerank: bool | None,
        filter: Filter = Filter(),  # noqa: B008
    ) -> Ask:
        """A search as the worker takes it, checked.

        Raises:
            UserError: it asks for what there is not, or for more than is allowed.
        """
        generation, limits = self.generation, self.limits
        check_query(query, limits)
        if k > limits.k:
            raise UserError(f"k is {k}: ask for 1 to {limits.k} items.")
        if num_beams is not None and num_beams > limits.num_beams:
            raise UserError(f"num_beams is {num_beams}: ask for 1 to {limits.num_beams} beams.")
        stage = stage or generation.default_stage
        if stage not in generation.engines:
            raise UserError(f"No stage '{stage}' is served: use one of {', '.join(generation.engines)}.")
        rerank = self.rerank if rerank is None else rerank
        if rerank and generation.reranker is None:
            raise UserError("The run that is served has no reward model to re-sort by: ask with rerank false.")
        check_lengths(filter, limits)
        events = self.events.of(user_id)
        beams = num_beams or self.num_beams
        return Ask(generation, stage, beams, query, user_id, events, k, explain, rerank, filter)

    async def answer(self, ask: Ask, left: Coroutine[None, None, None]) -> Answer:
        """The items of a search; one that is given up is not computed any more, where that has not begun.

        Args:
            ask: the search.
            left: ends when the client goes away.

        Raises:
            UserError: the filter names what there is not.
            QueueFullError: too many wait.
            ClientLeftError: nobody waits for the answer any more.
            TimeoutError: it took too long.
        """
        leaving, future = asyncio.ensure_future(left), None
        try:
            filters = ask.generation.filters
            if not filters.knows(ask.filter):  # names that are like a wrong one take a while to find
                await asyncio.to_thread(filters.check, ask.filter)
            future = asyncio.wrap_future(self.batcher.submit(ask))
            either = (future, leaving)
            await asyncio.wait(either, timeout=self.batching.timeout, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            if not leaving.done():
                raise TimeoutError
            leaving.result()  # raises where the rest of the request was refused
            raise ClientLeftError
        finally:
            leaving.cancel()
            if future is not None:
                future.cancel()  # also where we are cancelled ourselves: nobody waits any more

    async def keep(self, events: Sequence[Event]) -> None:
        """`take` events in a thread of its own: a slow disk holds up nobody else.

        Raises:
            QueueFullError: too many wait for the disk.
            UserError, OSError: see `take`.
        """
        if self._num_writing >= self.batching.max_queue:
            raise QueueFullError
        self._num_writing += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self.take, events)
        finally:
            self._num_writing -= 1

    def take(self, events: Sequence[Event]) -> None:
        """Keep events for good, and let the next search know of them.

        Raises:
            UserError: an item is unknown, or a time lies ahead or before 1970.
            OSError: they could not be written.
        """
        now = datetime.datetime.now(datetime.UTC).timestamp() * 1_000_000
        for number, event in enumerate(events):
            if event.item_id is not None and event.item_id not in self.generation.log.row_of:
                raise UserError(f"events[{number}]: there is no item '{event.item_id}'.")
            if event.us < 0:
                raise UserError(f"events[{number}]: its time lies before 1970.")
            if event.us > now + 60_000_000:  # clocks differ a little
                raise UserError(f"events[{number}]: its time lies ahead; leave it out to mean now.")
        self.events.append(events)
        for event in events:
            self.metrics.events.labels(event.kind).inc()

    def knows(self, generation: Generation, user_id: str | None) -> bool:
        """Whether the log or an event tells anything of a shopper."""
        return user_id is not None and (user_id in generation.shoppers.known or bool(self.events.of(user_id)))

    async def reload(self, run: str | None = None, stages: Sequence[str] = (), waits: bool = False) -> None:
        """Load a run beside the one that is served, warm it up, and serve it; on a mistake the old one goes on.

        Args:
            run: a folder beside the one that is served; none: the same, as it is now.
            stages: to offer; none: those of the start where the run stays, all finished ones of another.
            waits: for another reload that is going on, instead of being refused.

        Raises:
            ReloadingError: another reload is going on.
            UserError: the run cannot be served.
        """
        if self._reloading.locked() and not waits:
            raise ReloadingError
        async with self._reloading:
            await self._reload(run, stages)

    async def _reload(self, run: str | None, stages: Sequence[str]) -> None:
        loader = ThreadPoolExecutor(1, "reload")
        try:
            folder = self._run if run is None else self._run.absolute().parent / run
            chosen = stages or (self._stages if run is None else ())
            loop = asyncio.get_running_loop()
            opened = await loop.run_in_executor(loader, self._open, folder, chosen)
            self._run, self._stages = folder, tuple(chosen)
            self.generation = opened
            self._tell_metrics()
            await asyncio.to_thread(gc.collect)  # a run holds on to itself in circles: without it both stay for long
            self.metrics.reloads.labels("done").inc()
            log("reloaded", told={"run": folder.name, "stage": opened.default_stage, "version": opened.version})
        except Exception as error:
            self.metrics.reloads.labels("failed").inc()
            # A mistake of the user's names files and stages, no shopper: it may be told in its own words.
            told = {"message": str(error)} if isinstance(error, UserError) else {}
            log("reload failed", logging.ERROR, error, told)
            raise
        finally:
            loader.shutdown(wait=False)  # where we are cancelled it may go on for long

    async def drain(self, seconds: float, at_least: float = 0.5) -> None:
        """Take no further requests, and wait for those that are being answered.

        Args:
            seconds: how long at most; searches that still wait then are refused.
            at_least: how long further ones are told so, before nobody listens any more.
        """
        self.is_draining = True
        await asyncio.sleep(min(at_least, seconds))
        until = asyncio.get_running_loop().time() + seconds - at_least
        while self.num_in_flight and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)
        if self.num_in_flight:
            self.batcher.close(0)

    def close(self, seconds: float | None = None) -> None:
        """Refuse the searches that wait, write the events that wait, and close their file.

        Args:
            seconds: how long to wait for the batch that is being computed; none: as long as it takes.
        """
        self.batcher.close(seconds)
        self._writer.shutdown()
        self.events.close()

    def _open(self, run: Path, stages: Sequence[str]) -> Generation:
        return Generation.open(run, stages, self.num_beams, self._memory, self._reranking, self.rerank)

    def _tell_metrics(self) -> None:
        served = self.generation
        self.metrics.serves(served.run.name, served.default_stage, served.version)


def check_query(query: str, limits: Limits) -> None:
    """Refuse a query that is too long or empty.

    Raises:
        UserError: it says which.
    """
    if len(query) > limits.query_length:
        raise UserError(f"The query has {len(query)} characters: {limits.query_length} are allowed.")
    if not normalize_query(query):
        raise UserError("The query holds no word: say what to look for, such as 'red dress'.")


def check_lengths(filter: Filter, limits: Limits) -> None:
    """Refuse a filter of too many values.

    Raises:
        UserError: it names the field.
    """
    most = dict.fromkeys(NAMES, limits.filter_names) | dict.fromkeys(("allow", "block"), limits.filter_items)
    for name, allowed in most.items():
        given = getattr(filter, name) or ()
        if len(given) > allowed:
            raise UserError(f"filter.{name} has {len(given)} values: {allowed} are allowed.")


def _answer(asks: Sequence[Ask]) -> list[Answer]:
    return asks[0].generation.answer(asks)
