"""The tokenizer doctor: is this a codebook to train a generator on, and if not, what should change?

It looks at the catalogue's codes, at what they decode to, at the categories that items share and, where there is a
second fit, at how much of the first one is a matter of chance.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onesearch.metrics.advice import Advice, advise
from onesearch.metrics.codebook import codebook_report, reconstruction_error
from onesearch.metrics.grouping import adjusted_rand, groups, numbers, pairs_kept, purity, purity_by_class

Codes = NDArray[np.int64]

_CURVE = 200  # points of a usage curve: more is not seen
_LARGEST, _TITLES = 10, 6  # buckets shown, titles of each


@dataclass(frozen=True)
class Catalogue:
    """What the doctor looks at. N items, C layers, D width."""

    codes: Codes  # [N, C]
    rq_sizes: tuple[int, ...]
    opq_sizes: tuple[int, ...]
    embeddings: NDArray[np.float32]  # [N, D]
    decoded: NDArray[np.float32]  # [N, D] from the codes
    titles: Sequence[str]
    categories: Sequence[str]  # "" where it is not known
    query_codes: Codes | None = None  # [Q, C] of the queries that the codebook was fitted on too


@dataclass(frozen=True)
class Bucket:
    """Items that share a SID."""

    sid: list[int]
    num_items: int
    titles: list[str]


@dataclass(frozen=True)
class CategoryPurity:
    """How much of a category lies in codes where it is the most frequent one."""

    category: str
    num_items: int
    level_1: float
    level_2: float


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found."""

    figures: dict[str, float]
    usage: list[list[int]]  # a layer: how often its codes are used, most used first, at most `_CURVE` points
    bucket_sizes: dict[int, int]  # items of a SID → number of such SIDs
    largest: list[Bucket]
    categories: list[CategoryPurity]  # the largest ones
    advice: list[Advice]

    @property
    def is_collapsed(self) -> bool:
        """Whether training a generator on these codes is a waste of time."""
        return any(advice.grade == "collapsed" for advice in self.advice)

    @property
    def judgement(self) -> str:
        """The whole in one sentence."""
        return f"The tokenizer is {'collapsed' if self.is_collapsed else 'to be improved' if self.advice else 'good'}."

    @property
    def verdict(self) -> str:
        """The judgement, and all advice."""
        return " ".join([self.judgement, *(advice.sentence for advice in self.advice)])

    def as_json(self) -> dict[str, Any]:
        """For `write_json`."""
        return asdict(self) | {"bucket_sizes": {str(size): count for size, count in self.bucket_sizes.items()}}


def diagnose(catalogue: Catalogue, refitted: Codes | None = None) -> Diagnosis:
    """Examine a catalogue's codes.

    Args:
        catalogue: codes, embeddings, titles and categories.
        refitted: [N, C] codes of the same items by a codebook that was fitted on another sample.
    """
    codes = catalogue.codes
    figures = dict(codebook_report(codes, catalogue.rq_sizes, catalogue.opq_sizes))
    figures |= _with_queries(catalogue)
    figures["num_items"] = len(codes)
    figures["reconstruction_error"] = reconstruction_error(catalogue.embeddings, catalogue.decoded)
    figures["twins"] = _twins(catalogue.embeddings)
    figures |= _purities(catalogue) | ({} if refitted is None else _stability(codes, refitted))
    members = groups(codes)
    sizes = np.unique(members, return_counts=True)[1]
    return Diagnosis(
        figures,
        [_curve(codes[:, layer], size) for layer, size in enumerate(catalogue.rq_sizes + catalogue.opq_sizes)],
        {int(size): int(count) for size, count in zip(*np.unique(sizes, return_counts=True), strict=True)},
        _largest_buckets(catalogue, members),
        _categories(catalogue),
        advise(figures, (*catalogue.rq_sizes, *catalogue.opq_sizes)[0]),
    )


def _with_queries(catalogue: Catalogue) -> dict[str, float]:
    """Use of the codes by items and queries together: a code that no item has may be there for queries."""
    if catalogue.query_codes is None or not len(catalogue.query_codes):
        return {}
    both = np.concatenate([catalogue.codes, catalogue.query_codes])
    report = codebook_report(both, catalogue.rq_sizes, catalogue.opq_sizes)
    return {
        f"{name}_with_queries": value for name, value in report.items() if name.startswith(("cur_", "icr_", "dead_l1"))
    }


def _twins(embeddings: NDArray[np.float32]) -> float:
    """The share of items whose embedding is exactly another's: no codebook can tell them apart."""
    rows = np.ascontiguousarray(embeddings).view(np.dtype((np.void, embeddings.dtype.itemsize * embeddings.shape[1])))
    _, inverse, counts = np.unique(rows.reshape(-1), return_inverse=True, return_counts=True)
    return float((counts[inverse.reshape(-1)] > 1).mean())


def _known(catalogue: Catalogue) -> tuple[Codes, NDArray[np.int64], list[str]]:
    """Codes and category numbers of the items whose category is known, and the names."""
    known = np.array([bool(name) for name in catalogue.categories], dtype=bool)
    names = [name for name in catalogue.categories if name]
    return catalogue.codes[known], numbers(names), sorted(set(names))


def _purities(catalogue: Catalogue) -> dict[str, float]:
    codes, classes, names = _known(catalogue)
    if len(names) < 2:
        return {}
    depths = range(1, min(2, codes.shape[1]) + 1)
    found = {f"purity_l{depth}": purity(groups(codes[:, :depth]), classes) for depth in depths}
    return found | {"largest_category": float(np.bincount(classes).max() / len(classes))}


def _categories(catalogue: Catalogue, number: int = 15) -> list[CategoryPurity]:
    codes, classes, names = _known(catalogue)
    if len(names) < 2 or codes.shape[1] < 2:
        return []
    sizes = np.bincount(classes)
    first, second = (purity_by_class(groups(codes[:, :depth]), classes) for depth in (1, 2))
    largest = np.argsort(-sizes, kind="stable")[:number]
    return [CategoryPurity(names[k], int(sizes[k]), float(first[k]), float(second[k])) for k in largest]


def _stability(codes: Codes, refitted: Codes) -> dict[str, float]:
    first, again = groups(codes[:, :1]), groups(refitted[:, :1])
    whole = groups(codes), groups(refitted)
    return {
        "stability_l1": adjusted_rand(first, again),
        "stability_l1_pairs": pairs_kept(first, again),
        "stability_sid": _same_company(*whole),
    }


def _same_company(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """The share of items whose SID has exactly the same items in both groupings: their SIDs are kept but for a name."""
    both = groups(np.stack([before, after], axis=1))
    sizes = [np.bincount(grouping)[grouping] for grouping in (before, after, both)]
    return float(((sizes[0] == sizes[2]) & (sizes[1] == sizes[2])).mean())


def _curve(layer: NDArray[np.int64], size: int) -> list[int]:
    counts = np.sort(np.bincount(layer, minlength=size))[::-1]
    return [int(count) for count in counts[np.linspace(0, size - 1, min(size, _CURVE)).astype(int)]]


def _largest_buckets(catalogue: Catalogue, members: NDArray[np.int64]) -> list[Bucket]:
    """The SIDs of most items; `members` [N] is the number of each item's SID."""
    order = np.argsort(members, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(members[order]) > 0))
    buckets = np.split(order, starts[1:])
    largest = sorted((rows for rows in buckets if len(rows) > 1), key=len, reverse=True)[:_LARGEST]
    return [
        Bucket(catalogue.codes[rows[0]].tolist(), len(rows), [catalogue.titles[row] for row in rows[:_TITLES]])
        for rows in largest
    ]
