"""How much should the generator's own opinion count when the reward model re-sorts a list? Validation searches say.

    python -m benchmarks.reranking --run runs/demo [--weights 0 .02 .05 .1 .2 .5] [--sizes 20 50] [--searches 1500]

Each search is answered once with beams; then every weight and list size re-sorts the same beams. `not re-sorted` is
what they are compared with, paired, with intervals over users. oNDCG@10 (see `onesearch.evaluate.orders`) judges every
search where the log is simulated; HR@10 and MRR@10 those with a click.

Validation searches choose only where neither the generator nor the reward model has learned from them: train the run
with `fit_splits: [train]` for that. Where it has, both are surer of the click than they will be.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from onesearch.evaluate.bootstrap import interval, resampled_means
from onesearch.evaluate.compare import DEPTH, without_answer
from onesearch.evaluate.orders import ORDERS_METRIC, Orders, orders_of
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.log.searches import outcomes_of, users_of
from onesearch.metrics.ranking import hit_rate, hits, pad, reciprocal_rank
from onesearch.serve.engine import Ranked, SearchEngine
from onesearch.serve.reranker import Reranker
from onesearch.serve.reranking import Reranking
from onesearch.types import SearchContext

BATCH = 64
UNSORTED = "not re-sorted"


def beams_of(engine: SearchEngine, searches: Sequence[SearchContext], size: int) -> list[Ranked]:
    """What the generator answers to each search, `size` items."""
    batches = (searches[start : start + BATCH] for start in range(0, len(searches), BATCH))
    return [ranked for batch in batches for ranked in engine.rank([without_answer(search) for search in batch], size)]


def lists_of(
    reranker: Reranker, searches: Sequence[SearchContext], beams: Sequence[Ranked], settings: Sequence[Reranking]
) -> dict[str, list[list[int]]]:
    """The lists of each setting and those that are not re-sorted, ten items a search."""
    found: dict[str, list[list[int]]] = {UNSORTED: [ranked.items[:DEPTH].tolist() for ranked in beams]}
    found |= {_name(one): [] for one in settings}
    for start in range(0, len(searches), BATCH):
        batch = [without_answer(search) for search in searches[start : start + BATCH]]
        for one in settings:
            reranker.settings = one
            part = [
                Ranked(ranked.items[: one.list_size], ranked.scores[: one.list_size])
                for ranked in beams[start:][:BATCH]
            ]
            found[_name(one)] += [ranked.items.tolist() for ranked in reranker.rerank(batch, part, DEPTH)]
    return found


def judged(
    lists: Sequence[Sequence[int]], searches: Sequence[SearchContext], orders: Orders | None
) -> NDArray[np.float64]:
    """HR@10, MRR@10 and `oNDCG@10` of each search, [S, 3]; NaN where one cannot be judged."""
    ranked, clicked = pad(lists, DEPTH), [set(found.clicked) for found in outcomes_of(searches)]
    found, is_clicked = hits(ranked, clicked), np.array([bool(items) for items in clicked])
    of_clicks = [
        np.where(is_clicked, figures, np.nan) for figures in (hit_rate(found, DEPTH), reciprocal_rank(found, DEPTH))
    ]
    return np.stack([*of_clicks, orders.judge(ranked, searches) if orders else np.full(len(ranked), np.nan)], axis=1)


def main() -> None:
    """Print a line for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--stage", default=None)
    parser.add_argument("--weights", type=float, nargs="+", default=[0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 30, 50])
    parser.add_argument("--searches", type=int, default=1500)
    parser.add_argument("--beams", type=int, default=64)
    options = parser.parse_args()
    log, khqe = Log.open(options.run / "log"), Khqe.open(options.run)
    engine = SearchEngine.open(options.run, options.stage, khqe, options.beams)
    reranker = Reranker.open(options.run, khqe, log)
    searches = log.contexts("validation")[-options.searches :]
    beams = beams_of(engine, searches, max(options.sizes))
    settings = [Reranking(size, weight) for size in options.sizes for weight in options.weights]
    lists, orders = lists_of(reranker, searches, beams, settings), orders_of(log)
    values = np.stack([judged(found, searches, orders) for found in lists.values()], axis=1)
    show(list(lists), values, users_of(searches))


def show(names: Sequence[str], values: NDArray[np.float64], users: NDArray[np.int64]) -> None:
    """Print figures, and their differences to the first line.

    Args:
        names: of the settings.
        values: [S, settings, 3].
        users: [S] number of the user of each search.
    """
    means = np.nanmean(values, axis=0)
    resampled = resampled_means(values.reshape(len(values), -1), users).reshape(-1, *means.shape)
    title = f"{len(values):,} validation searches, {int((~np.isnan(values[:, 0, 0])).sum()):,} with a click"
    table = Table("list", *("HR@10", "MRR@10", ORDERS_METRIC), title=title)
    for row, name in enumerate(names):
        gains = [interval(means[row, m] - means[0, m], resampled[:, row, m] - resampled[:, 0, m]) for m in range(3)]
        cells = [
            f"{mean:.3f}" + (f"  {gain.value:+.3f}\n{gain.low:+.3f} to {gain.high:+.3f}" if row else "")
            for mean, gain in zip(means[row], gains, strict=True)
        ]
        table.add_row(name, *cells)
    Console(highlight=False).print(table)


def _name(settings: Reranking) -> str:
    return f"{settings.list_size} items, weight {settings.generator_weight:g}"


if __name__ == "__main__":
    main()
