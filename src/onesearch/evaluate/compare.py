"""All systems side by side on the same held-out searches: which finds what shoppers clicked, on which kind of search.

A search counts when at least one clicked item is known. Each metric is averaged over four slices: all searches;
*unseen* queries, never asked before the test boundary; *returning* shoppers, with any history before the search; *new*
ones. Intervals are over users. What a system gains by knowing its user, or by one more stage, is a difference, too. No
system is shown the answer: clicks, purchases and impressions are taken out of what it is asked.

Where the log knows of orders, `oNDCG@10` beside the clicks' metrics says whether a list sells (`evaluate.orders`).
"""

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from onesearch.artifacts import write_json
from onesearch.evaluate.bootstrap import interval, resampled_means
from onesearch.evaluate.orders import ORDERS_METRIC, Orders
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
    baseline: str  # the best baseline of that slice and metric; itself when it is not told who asks; the step before
    slice: str
    metric: str
    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Everything that `compare` found. Slices without a search have no rows."""

    rows: list[Row]
    differences: list[Difference]
    orders: str = ""  # what the gains of `oNDCG@10` are; "" where the log knows of no orders

    def write(self, path: Path) -> None:
        """Write `compare.json`: {"rows": […], "differences": […], "orders": "…"}."""
        rows, differences = ([asdict(row) for row in part] for part in (self.rows, self.differences))
        write_json(path, {"rows": rows, "differences": differences, "orders": self.orders})


def compare(
    rankers: Sequence[Ranker],
    searches: Sequence[SearchContext],
    seen_queries: AbstractSet[str],
    num_resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
    orders: Orders | None = None,
    steps: Collection[tuple[str, str]] = (),
) -> Comparison:
    """Let every ranker answer every search that has a clicked item, and average over slices.

    Args:
        rankers: systems of different names.
        searches: the test searches; those without a known clicked item are left out.
        seen_queries: normalised queries asked before the test boundary.
        num_resamples: bootstrap resamples over users.
        seed: of the resampling; every slice and system shares it.
        batch_size: searches handed to a ranker at once.
        orders: judges lists by what they sell; None: clicks alone.
        steps: pairs of names, a system and the one that it goes on from: their differences are wanted.

    Raises:
        ValueError: no search can be judged, two systems share a name, or a ranking repeats an item.
    """
    searches = answered(searches)
    names = [ranker.name for ranker in rankers]
    if not searches:
        raise ValueError("No test search has a clicked item that is in the catalogue: choose an earlier test date.")
    if len(set(names)) < len(names):
        raise ValueError(f"Two systems share a name, so their figures could not be told apart: {', '.join(names)}.")
    answers = _answers(rankers, searches, batch_size)
    values = np.stack([_judge(lists, searches, orders) for lists in answers], axis=1)  # [S, systems, metrics]
    users, pairs = users_of(searches), {*steps, *((name, name + ANONYMOUS) for name in names)}
    comparison = Comparison([], [], orders.note if orders else "")
    for name, members in slices(searches, seen_queries).items():
        if members.any():
            part = _average(values[members], users[members], names, pairs, name, num_resamples, seed)
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


def _judge(answers: Sequence[Sequence[int]], searches: Sequence[SearchContext], orders: Orders | None) -> Values:
    """[S, metrics] in the order of METRICS and, where orders are known, `ORDERS_METRIC`."""
    relevant = [set(found.clicked) for found in outcomes_of(searches)]
    ranked = pad(answers, DEPTH)
    found = hits(ranked, relevant)
    num_relevant = np.array([len(items) for items in relevant])
    first = [hit_rate(found, k) for k in (1, 5, 10)]
    sold = [orders.judge(ranked, searches)] if orders else []
    return np.stack([*first, reciprocal_rank(found, 10), ndcg(found, num_relevant, 10), *sold], axis=1)


def _average(
    values: Values,
    users: NDArray[np.int64],
    names: Sequence[str],
    pairs: AbstractSet[tuple[str, str]],
    slice_name: str,
    num_resamples: int,
    seed: int,
) -> Comparison:
    """Rows and differences of one slice. `values` is [S, systems, metrics], NaN where a search is not judged."""
    num_judged = (~np.isnan(values[:, 0])).sum(axis=0)  # [metrics]: the same searches for every system
    means = np.nansum(values, axis=0) / np.maximum(num_judged, 1)
    resampled = resampled_means(values.reshape(len(values), -1), users, num_resamples, seed).reshape(-1, *means.shape)
    baselines = [s for s, name in enumerate(names) if not name.startswith(OURS)]
    rows, differences = [], []
    for m, metric in enumerate((*METRICS, ORDERS_METRIC)[: len(num_judged)]):
        if not num_judged[m]:
            continue
        best = max(baselines, key=means[:, m].item, default=None)
        for s, name in enumerate(names):
            figure = interval(means[s, m].item(), resampled[:, s, m])
            rows.append(Row(name, slice_name, metric, *figure, int(num_judged[m])))
            for other in _compared_with(name, names, best, pairs):
                gain = interval((means[s, m] - means[other, m]).item(), resampled[:, s, m] - resampled[:, other, m])
                differences.append(Difference(name, names[other], slice_name, metric, *gain))
    return Comparison(rows, differences)


def _compared_with(name: str, names: Sequence[str], best: int | None, pairs: AbstractSet[tuple[str, str]]) -> list[int]:
    """The best baseline, and what it is paired with."""
    if not name.startswith(OURS):
        return []
    return [number for number, other in enumerate(names) if number == best or (name, other) in pairs]
