"""Features of searches that are built once and kept, where memory allows."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from onesearch.behavior.window import PADDING
from onesearch.models.reward_features import RewardFeatures, RewardRows
from onesearch.types import SearchContext

_MANY = 1024  # searches built together


class KeptRows:
    """`RewardFeatures.rows` of many searches: built when they are first asked for, and kept if they fit.

    Args:
        features: the builder.
        searches: [S].
        candidates: item rows, −1 is padding, [S, X].
        memory: gigabytes that may be kept.
    """

    def __init__(
        self,
        features: RewardFeatures,
        searches: Sequence[SearchContext],
        candidates: NDArray[np.int32],
        memory: float,
    ) -> None:
        self.features, self.searches, self.candidates = features, searches, candidates
        self.memory = memory
        self.kept: RewardRows | None = None
        self.fits: bool | None = None  # not known yet

    def take(self, index: Sequence[int]) -> RewardRows:
        """The rows of some searches, histories and lists cut to the longest among them."""
        if self.fits is None:
            self.kept = self._build()
            self.fits = self.kept is not None
            if not self.fits and self.memory:
                rank_zero_warn(
                    f"The features of {len(self.candidates)} searches take more than the {self.memory:.2g} GB that "
                    "'data.init_args.memory' leaves them: they are built anew in each epoch, which is slow. Raise it."
                )
        rows = self._of(index) if self.kept is None else self.kept.take(torch.tensor(index))
        width = max(1, int((rows.candidates >= 0).sum(1).max()))
        return RewardRows(*(_wide(part) for part in rows))._replace(
            candidates=rows.candidates[:, :width].long(),
            long_gap=rows.long_gap.long().clamp(min=0),
            statistics=rows.statistics[:, :width],
            matches=rows.matches[:, :width],
        )

    def _of(self, index: Sequence[int]) -> RewardRows:
        shown = [row[row != PADDING].tolist() for row in self.candidates[list(index)]]
        return self.features.rows([self.searches[place] for place in index], shown).trim()

    def _build(self) -> RewardRows | None:
        """All of them; None as soon as it shows that they would not fit."""
        parts: list[RewardRows] = []
        total = len(self.candidates)
        for start in range(0, total, _MANY):
            places = range(start, min(start + _MANY, total))
            parts.append(RewardRows(*(_narrow(part) for part in self._of(places))))
            widest = [_shape(parts, field) for field in range(len(RewardRows._fields))]
            size = sum(total * np.prod(shape) for shape in widest) * 4
            if size > self.memory * 2**30:
                return None
        fields = [list(field) for field in zip(*parts, strict=True)]
        parts.clear()
        # Field by field, the parts of each let go behind it: nothing but the largest field is ever held twice.
        return RewardRows(*(_stacked(fields.pop(0), shape) for shape in widest))


def _shape(parts: Sequence[RewardRows], field: int) -> tuple[int, ...]:
    """The largest shape of a search in a field."""
    return tuple(max(sizes) for sizes in zip(*(part[field].shape[1:] for part in parts), strict=True))


def _stacked(parts: Sequence[torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    """Parts of unlike widths as one tensor; integers end in padding, figures in zeros."""
    fill = 0 if parts[0].is_floating_point() else PADDING
    whole = parts[0].new_full((sum(map(len, parts)), *shape), fill)
    start = 0
    for part in parts:
        whole[(slice(start, start + len(part)), *(slice(0, size) for size in part.shape[1:]))] = part
        start += len(part)
    return whole


def _narrow(part: torch.Tensor) -> torch.Tensor:
    return part if part.is_floating_point() else part.int()


def _wide(part: torch.Tensor) -> torch.Tensor:
    return part if part.is_floating_point() else part.long()
