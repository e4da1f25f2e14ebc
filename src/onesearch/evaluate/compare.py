"""All systems side by side on the same held-out searches: which finds what shoppers clicked, on which kind of search.

A search counts when at least one clicked item is known. Each metric is averaged over four slices: all searches;
*unseen* queries, never asked before the test boundary; *returning* shoppers, with any history before the search; *new*
ones. Intervals are over users. What a system gains by knowing its user is a difference, too. No system is shown the
answer: clicks, purchases and impressions are taken out of what it is asked.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from onesearch.artifacts import write_json
from onesearch.evaluate.bootstrap import interval, resampled_means
from onesearch.evaluate.ranker import Ranker
from onesearch.log.searches import answered, have_history, outcomes_of, users_of
from onesearch.metrics.ranking import Values, hit_rate, hits, ndcg, pad, reciprocal_rank
from onesearch.types import SearchContext

METRICS = ("HR@1", "HR@5", "HR@10", "MRR@10", "NDCG@10")
SLICES = ("all", "unseen", "returning", "new")
DEPTH = 10
"""Length of the lists that are compared."""

OURS = "onesearch"
"""Names of the systems that are not baselines start so."""

ANONYMOUS = "-anon"
"""So ends the name of a system that is not told who asks, behind the name of the one that is."""


@dataclass(frozen=True)
class Row:
    """One figure: a system's metric over a slice, with its 95% bootstrap interval."""

    system: str
    slice: str
    metric: str
    value: float
    low: float
    high: float
    num_searches: int


@dataclass(frozen=True)
class Difference:
    """How much a OneSearch system lies above another one on the same searches."""

    system: str
    baseline: str  # the best baseline of that slice and metric, or the system itself when it is not told who asks
    slice: str
    metric: str
    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Everything that `compare` found. Slices without a search have no rows."""

    rows: list[Row]
    differences: list[Difference]

    def write(self, path: Path) -> None:
        """Write `compare.json`: {"rows": […], "differences": […]}."""
        write_json(path, {name: [asdict(row) for row in rows] for name, rows in self._asdict().items()})


def compare(
    rankers: Sequence[Ranker],
    searches: Sequence[SearchContext],
    seen_queries: AbstractSet[str],
    num_resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
) -> Comparison:
    """Let every ranker answer every search that has a clicked item, and average over slices.

    Args:
        rankers: systems of different names.
        searches: the test searches; those without a known clicked item are left out.
        seen_queries: normalised queries asked before the test boundary.
        num_resamples: bootstrap resamples over users.
        seed: of the resampling; every slice and system shares it.
        batch_size: searches handed to a ranker at once.

    Raises:
        ValueError: no search can be judged, two systems share a name, or a ranking repeats an item.
    """
    searches = answered(searches)
    names = [ranker.name for ranker in rankers]
    if not searches:
        raise ValueError("No test search has a clicked item that is in the catalogue: choose an earlier test date.")
    if len(set(names)) < len(names):
        raise ValueError(f"Two systems share a name, so their figures could not be told apart: {', '.join(names)}.")
    # [S, systems, metrics]
    values = np.stack([_judge(answers, searches) for answers in _answers(rankers, searches, batch_size)], axis=1)
    users, comparison = users_of(searches), Comparison([], [])
    for name, members in slices(searches, seen_queries).items():
        if members.any():
            part = _average(values[members], users[members], names, name, num_resamples, seed)
            comparison.rows.extend(part.rows)
            comparison.differences.extend(part.differences)
    return comparison


def slices(searches: Sequence[SearchContext], seen_queries: AbstractSet[str]) -> dict[str, NDArray[np.bool_]]:
    """Which of [S] searches belong to each slice: a name → [S] bool."""
    unseen = np.array([found.query not in seen_queries for found in outcomes_of(searches)], dtype=bool)
    returning = have_history(searches)
    return dict(zip(SLICES, (np.ones(len(searches), dtype=bool), unseen, returning, ~returning), strict=True))


def _answers(rankers: Sequence[Ranker], searches: Sequence[SearchContext], size: int) -> list[list[list[int]]]:
    """[systems] lists of [S] rankings, with a progress bar a system."""
    answers: list[list[list[int]]] = []
    with Progress(transient=True) as progress:
        for ranker in rankers:
            task = progress.add_task(ranker.name, total=len(searches))
            answers.append([])
            for start in range(0, len(searches), size):
                batch = [without_answer(search) for search in searches[start : start + size]]
                answers[-1].extend(_ask(ranker, batch))
                progress.advance(task, len(batch))
    return answers


def _ask(ranker: Ranker, batch: Sequence[SearchContext]) -> list[list[int]]:
    answers = ranker.rank(batch, DEPTH)
    if len(answers) != len(batch):
        raise ValueError(f"System '{ranker.name}' answered {len(answers)} of {len(batch)} searches.")
    return answers


def without_answer(search: SearchContext) -> SearchContext:
    """What a system may know of a search that it is judged by."""
    return search._replace(clicked=(), purchased=(), impressed=None)


def _judge(answers: Sequence[Sequence[int]], searches: Sequence[SearchContext]) -> Values:
    """[S, metrics] in the order of METRICS."""
    relevant = [set(found.clicked) for found in outcomes_of(searches)]
    found = hits(pad(answers, DEPTH), relevant)
    num_relevant = np.array([len(items) for items in relevant])
    first = [hit_rate(found, k) for k in (1, 5, 10)]
    return np.stack([*first, reciprocal_rank(found, 10), ndcg(found, num_relevant, 10)], axis=1)


def _average(
    values: Values, users: NDArray[np.int64], names: Sequence[str], slice_name: str, num_resamples: int, seed: int
) -> Comparison:
    """Rows and differences of one slice. `values` is [S, systems, metrics]."""
    num_searches = len(values)
    means = values.mean(axis=0)
    flat = values.reshape(num_searches, -1)
    resampled = resampled_means(flat, users, num_resamples, seed).reshape(-1, *means.shape)
    baselines = [s for s, name in enumerate(names) if not name.startswith(OURS)]
    rows, differences = [], []
    for m, metric in enumerate(METRICS):
        best = max(baselines, key=means[:, m].item, default=None)
        for s, name in enumerate(names):
            figure = interval(means[s, m].item(), resampled[:, s, m])
            rows.append(Row(name, slice_name, metric, *figure, num_searches))
            for other in _compared_with(name, names, best):
                gain = interval((means[s, m] - means[other, m]).item(), resampled[:, s, m] - resampled[:, other, m])
                differences.append(Difference(name, names[other], slice_name, metric, *gain))
    return Comparison(rows, differences)


def _compared_with(name: str, names: Sequence[str], best: int | None) -> list[int]:
    """The best baseline, and the same system when it is not told who asks."""
    if not name.startswith(OURS):
        return []
    return [number for number, other in enumerate(names) if number == best or other == name + ANONYMOUS]
