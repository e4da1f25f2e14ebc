"""Cuts a log into train, validation and test by time, so that nothing is learned from the future of what is tested."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onesearch.log.report import LogError
from onesearch.log.schema import MICROSECONDS_OF_DAY, SPLITS, Column

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Where training ends. A source's own split is kept; a part that it lacks is cut by time.

    Args:
        test_from: first day (UTC) of the test period; the last `test_share` of the searches if left out.
        validation_from: first day of the validation period.
        validation_days: length of the validation period before the test, in days; used without `validation_from`.
        test_share: share of the searches, 0 to 1.
        validation_share: share of the searches before the test period, 0 to 1; used without the two above.
    """

    test_from: date | None = None
    validation_from: date | None = None
    validation_days: int | None = None
    test_share: float = 0.1
    validation_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("test_share", "validation_share"):
            if not 0 < getattr(self, name) < 1:
                raise LogError(f"split.{name} is {getattr(self, name)}: give a share between 0 and 1.")
        if self.test_from and self.validation_from and self.validation_from >= self.test_from:
            raise LogError(
                f"split.validation_from ({self.validation_from}) is not before split.test_from ({self.test_from}): "
                "validation is the part before the test."
            )


def assign(searches: pa.Table, split: Split) -> tuple[pa.Table, dict[str, Any]]:
    """Fill in the column `split` of searches in time order.

    Returns:
        The table, and the facts: boundaries as times and as microseconds, sizes of the parts.

    Raises:
        LogError: a split of the source is none of ours, or a part is empty.
    """
    times = np.asarray(searches["time"].cast(pa.int64()))
    parts = _own(searches["split"])
    if not (parts == "test").any():
        rest = parts != "validation"
        parts[rest & (times >= _boundary(times[rest], split.test_from, split.test_share))] = "test"
    test_start = _start(times, parts, "test", searches, "split.test_from")
    if not (parts == "validation").any():
        rest = (parts == "train") & (times < test_start)
        boundary = _boundary(times[rest], split.validation_from, split.validation_share)
        if split.validation_days is not None and split.validation_from is None:
            boundary = test_start - split.validation_days * MICROSECONDS_OF_DAY
        parts[rest & (times >= boundary)] = "validation"
    validation_start = _start(times, parts, "validation", searches, "split.validation_from")
    _start(times, parts, "train", searches, "split.validation_from")
    column = pa.array(parts.tolist(), pa.string())
    searches = searches.set_column(searches.column_names.index("split"), "split", column)
    return searches, _facts(parts, times, validation_start, test_start)


def _own(column: Column) -> npt.NDArray[np.object_]:
    """The source's own split; a search for which it names none is for training."""
    own = np.empty(len(column), np.object_)
    own[:] = [part or "train" for part in column.to_pylist()]
    unknown = sorted(set(own.tolist()) - set(SPLITS))
    if unknown:
        raise LogError(f"A search has the split '{unknown[0]}': use one of {', '.join(SPLITS)}, or leave it out.")
    return own


def _boundary(times: Int64, day: date | None, share: float) -> int:
    if day is not None:
        return (day - date(1970, 1, 1)).days * MICROSECONDS_OF_DAY
    return int(times[int(len(times) * (1 - share))]) if len(times) else np.iinfo(np.int64).max


def _start(times: Int64, parts: npt.NDArray[np.object_], part: str, searches: pa.Table, option: str) -> int:
    chosen = times[parts == part]
    if not len(chosen):
        raise LogError(
            f"No search falls into {part}: the log runs from {searches['time'][0]} to {searches['time'][-1]} "
            f"({len(searches):,} searches); choose another {option}."
        )
    return int(chosen.min())


def _facts(parts: npt.NDArray[np.object_], times: Int64, validation_start: int, test_start: int) -> dict[str, Any]:
    late = int(((parts != "test") & (times >= test_start)).sum())
    return {
        **{part: int((parts == part).sum()) for part in SPLITS},
        "first search": _iso(int(times[0])),
        "validation from": _iso(validation_start),
        "test from": _iso(test_start),
        "last search": _iso(int(times[-1])),
        "test_from_us": test_start,
        **({"training searches after the test starts": late} if late else {}),
    }


def _iso(microseconds: int) -> str:
    return str(np.datetime64(microseconds, "us"))
