"""OneSearch after each of its stages, as systems that stand in the comparison."""

from collections.abc import Sequence
from pathlib import Path

from onesearch.evaluate.compare import ANONYMOUS, OURS
from onesearch.khqe import Khqe
from onesearch.serve.engine import Ranked, SearchEngine, trained
from onesearch.serve.reranker import Reranker
from onesearch.tasks.personalize import anonymous
from onesearch.types import SearchContext


def system_of(folder: str) -> str:
    """How tables and figures call what a stage left."""
    return "onesearch-" + folder.removeprefix("sft_").replace("_", "-")


RERANKED = f"{OURS}-reranked"
"""The last stage with its lists re-sorted by the reward model."""


class OneSearch:
    """A search engine as a system to be ranked.

    Args:
        name: how tables and figures call it.
        engine: with its generator.
        batch_size: searches answered at once.
    """

    def __init__(self, name: str, engine: SearchEngine, batch_size: int = 64) -> None:
        self.name = name
        self.engine = engine
        self.batch_size = batch_size

    def rank(self, contexts: Sequence[SearchContext], k: int) -> list[list[int]]:
        """Items of each search, best first."""
        batches = (contexts[start : start + self.batch_size] for start in range(0, len(contexts), self.batch_size))
        return [ranked.items.tolist() for batch in batches for ranked in self.answer(batch, k)]

    def answer(self, contexts: Sequence[SearchContext], k: int) -> list[Ranked]:
        """At most `k` items for each search of one batch."""
        return self.engine.rank(contexts, k)


class NotToldWhoAsks(OneSearch):
    """The same system, which takes every user for a new one: what it falls behind is what it owes to knowing them.

    Args:
        system: the one that is told.
    """

    def __init__(self, system: OneSearch) -> None:
        super().__init__(system.name + ANONYMOUS, system.engine, system.batch_size)

    def rank(self, contexts: Sequence[SearchContext], k: int) -> list[list[int]]:
        """Items of each search, best first."""
        return super().rank([anonymous(context) for context in contexts], k)


class Reranked(OneSearch):
    """The same system, whose lists the reward model re-sorts before they are cut.

    Args:
        system: the one that is not re-sorted.
        reranker: the reward model.
    """

    def __init__(self, system: OneSearch, reranker: Reranker) -> None:
        super().__init__(RERANKED, system.engine, system.batch_size)
        self.reranker = reranker

    def answer(self, contexts: Sequence[SearchContext], k: int) -> list[Ranked]:
        """At most `k` items for each search of one batch, re-sorted."""
        return self.reranker.rerank(contexts, self.engine.rank(contexts, self.reranker.length(k)), k)


def trained_stages(
    run: Path, khqe: Khqe, num_beams: int, batch_size: int, reranker: Reranker | None = None
) -> list[OneSearch]:
    """A system for each stage of the run that left a generator.

    The last one comes also without its user, if it reads any, and re-sorted, if there is a reward model.
    """
    stages = trained(run)
    engines = [SearchEngine.open(run, stage, khqe, num_beams) for stage in stages]
    systems = [OneSearch(system_of(stage), engine, batch_size) for stage, engine in zip(stages, engines, strict=True)]
    unknown = [NotToldWhoAsks(system) for system in systems[-1:] if system.engine.reads_users]
    return [*systems, *unknown, *(Reranked(system, reranker) for system in systems[-1:] if reranker)]


def steps(systems: Sequence[OneSearch]) -> list[tuple[str, str]]:
    """Which of these systems goes on from which: pairs of names."""
    stages = [system.name for system in systems if type(system) is OneSearch]
    return [*zip(stages[1:], stages, strict=False), *((RERANKED, name) for name in stages[-1:])]
