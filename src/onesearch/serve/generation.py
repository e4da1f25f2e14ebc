"""One run as it is served: its log, its SIDs and the engines of its stages. A reload opens another one beside it."""

import copy
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from onesearch.artifacts import ArtifactError, read_manifest
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts
from onesearch.serve.engine import Ranked, SearchEngine, trained
from onesearch.serve.events import Event
from onesearch.serve.filtering import Filter
from onesearch.serve.filters import Filters, Passing
from onesearch.serve.meanings import SidMeanings
from onesearch.serve.reranker import Reranker, doubt
from onesearch.serve.reranking import Reranking
from onesearch.serve.settings import Memory
from onesearch.serve.shoppers import Shoppers
from onesearch.serve.telemetry import log as write_log
from onesearch.sid.versions import current_version
from onesearch.types import SearchContext, UserError


class Ask(NamedTuple):
    """A search that waits for its answer."""

    generation: "Generation"  # the one that was served when it came; it answers even if another is served by then
    stage: str
    num_beams: int
    query: str
    user_id: str | None
    events: tuple[Event, ...]
    k: int
    explain: bool
    rerank: bool  # by the reward model of the generation, which has one
    filter: Filter = Filter()

    @property
    def batch_key(self) -> tuple[int, str, int, bool, Filter, int]:
        """Searches of one key can be answered together: the beams of one batch walk one trie, and are as many."""
        wanted = self.filter
        return id(self.generation), self.stage, self.num_beams, self.rerank, wanted.part, wanted.spare

    @property
    def reads_users(self) -> bool:
        """Whether the answer may depend on who asks; the reward model always reads what they did."""
        return self.rerank or self.generation.engines[self.stage].reads_users


class Answer(NamedTuple):
    """Items of one search, best first."""

    ranked: Ranked
    level_scores: NDArray[np.float64] | None  # [K, C] log-probability of each code of each SID, where it was asked for
    num_passing: int  # items of the catalogue that pass the filter


class Generation:
    """What answers searches until the next reload.

    Args:
        run: the run folder.
        log: with the items that came after the fit.
        engines: by stage; the first one answers where none is asked for.
        memory: what is kept.
        reranker: re-sorts what any of the stages answers; none where the run has no reward model.
    """

    def __init__(
        self,
        run: Path,
        log: Log,
        engines: dict[str, SearchEngine],
        memory: Memory,
        reranker: Reranker | None = None,
    ) -> None:
        self.run = run
        self.log = log
        self.engines = engines
        self.reranker = reranker
        engine = next(iter(engines.values()))
        self.khqe = engine.khqe
        self.filters = Filters(log, self.khqe.table, engine.trie, memory.filters)
        self.shoppers = Shoppers(log, memory.shoppers)
        self._memory = memory
        fingerprints = [read_manifest(run / stage).fingerprint for stage in engines]
        judge = f"-{read_manifest(run / 'reward').fingerprint[:8]}" if reranker else ""
        self.version = f"{fingerprints[0]}-{current_version(run)}{judge}"

    @classmethod
    def open(
        cls,
        run: Path,
        stages: Sequence[str],
        num_beams: int,
        memory: Memory,
        reranking: Reranking,
        must_rerank: bool = False,
    ) -> "Generation":
        """Load a run and warm it up.

        Args:
            run: the run folder; a link is followed, so that it can be pointed elsewhere meanwhile.
            stages: those to offer, the first one by default; none named: all that are finished, the last one first.
            num_beams: K where none is asked for.
            memory: what is kept.
            reranking: how its reward model re-sorts, where it has one.
            must_rerank: refuse a run that has none which can be used.

        Raises:
            UserError: a stage is unknown or not trained, or what it was trained on is not there any more; or the reward
                model is needed and cannot be used.
        """
        run = run.resolve()
        if not run.is_dir():
            raise UserError(f"There is no run folder {run}: name one with --run.")
        chosen = list(dict.fromkeys(stages)) or trained(run)[::-1]
        if not chosen:
            raise ArtifactError(f"{run} holds no trained generator yet: run the pipeline, or `onesearch fit`, first.")
        khqe = Khqe.open(run, with_added=True)
        log = Log.open(run / "log").with_items(khqe.added_items)
        reranker = _open_reranker(run, khqe, log, reranking, must_rerank)
        engines = {stage: SearchEngine.open(run, stage, khqe, num_beams) for stage in chosen}
        for engine in engines.values():
            engine.generator.eval()
        khqe.texts.bound(memory.texts)
        generation = cls(run, log, engines, memory, reranker)
        generation.warm_up()
        return generation

    def warm_up(self) -> None:
        """Answer once with each stage, and read what is read when it is first asked for."""
        for stage, engine in self.engines.items():
            rerank = self.reranker is not None
            self.answer([Ask(self, stage, engine.num_beams, "warm up", None, (), 1, explain=True, rerank=rerank)])
        self.meanings.of(())
        len(self.shoppers.busiest)

    @cached_property
    def meanings(self) -> SidMeanings:
        """What SIDs mean."""
        paths = self.log.items["category"].to_pylist()
        leaves = [path[-1] if path else None for path in paths]
        matcher = self.khqe.encoder.matcher
        texts = item_texts(self.log.items)
        return SidMeanings(self.khqe.item_codes, leaves, texts, matcher, self._memory.prefixes)

    @property
    def default_stage(self) -> str:
        """The stage that answers where none is asked for."""
        return next(iter(self.engines))

    def sid(self, row: int) -> str:
        """The SID of an item as text."""
        return self.khqe.spec.render(self.khqe.item_codes[row].tolist())

    def items(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Canonical rows of items."""
        found: list[dict[str, Any]] = self.log.items.take(np.asarray(rows, np.int64)).to_pylist()
        return found

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """Answer searches of one `batch_key` together."""
        engine = copy.copy(self.engines[asks[0].stage])  # shares everything but the width of its beams
        engine.num_beams = asks[0].num_beams
        passing = [self.filters.of(ask.filter) for ask in asks]
        contexts = [self.shoppers.context(ask.user_id, ask.query, ask.events) for ask in asks]
        ranked = self._ranked(engine, contexts, asks, passing)
        explained = [row for row, ask in enumerate(asks) if ask.explain]
        scores = self._level_scores(engine, [contexts[row] for row in explained], [ranked[row] for row in explained])
        of_row = dict(zip(explained, scores, strict=True))
        return [Answer(one, of_row.get(row), passing[row].num_items) for row, one in enumerate(ranked)]

    def _ranked(
        self, engine: SearchEngine, contexts: Sequence[SearchContext], asks: Sequence[Ask], passing: Sequence[Passing]
    ) -> list[Ranked]:
        """What each ask is answered, as long as it asks for, and as if it were alone in the batch."""
        if not asks[0].rerank:
            return engine.rank_each(contexts, [ask.k for ask in asks], passing)
        assert self.reranker is not None, "a search that nothing can re-sort is refused when it comes"
        lengths = [self.reranker.length(ask.k) for ask in asks]
        found = self.reranker.rerank(contexts, engine.rank_each(contexts, lengths, passing), max(lengths))
        return [one.take(slice(ask.k)) for one, ask in zip(found, asks, strict=True)]

    @torch.inference_mode()
    def _level_scores(
        self, engine: SearchEngine, contexts: Sequence[SearchContext], ranked: Sequence[Ranked]
    ) -> list[NDArray[np.float64]]:
        """Log-probability of each code of each item's SID [K, C], a search at a time shorter where it found less."""
        longest = max((len(one.items) for one in ranked), default=0)
        if not longest:  # nobody asked, or nothing passed the filter
            return [np.empty((0, self.khqe.spec.num_layers)) for _ in contexts]
        codes = np.zeros((len(ranked), longest, self.khqe.spec.num_layers), np.int64)
        for row, one in enumerate(ranked):
            codes[row, : len(one.items)] = self.khqe.item_codes[one.items]
        device = engine.generator.backbone.device
        encoded = engine.generator.encode(engine.batch(contexts))
        scores = engine.generator.sid_log_probs(encoded, torch.from_numpy(codes).to(device)).double().cpu().numpy()
        return [scores[row, : len(one.items)] for row, one in enumerate(ranked)]


def _open_reranker(run: Path, khqe: Khqe, log: Log, reranking: Reranking, is_needed: bool) -> Reranker | None:
    """The reward model of a run; where nobody needs it, one that cannot be used keeps no search from being answered."""
    try:
        reranker = Reranker.open(run, khqe, log, settings=reranking)
        if why := doubt(run):
            write_log("reward model in doubt", logging.WARNING, told={"why": why})
        return reranker
    except ArtifactError as error:
        if is_needed:
            raise
        if (run / "reward").exists():
            write_log("reward model not served", logging.WARNING, told={"why": str(error)})
        return None
