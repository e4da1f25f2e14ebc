"""How much a fit does: samples, batches, optimizer steps, tokens, FLOPs."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from onesearch.data.buckets import EpochLoader
from onesearch.planning.probe import Step, probe
from onesearch.types import GeneratorBatch

PROBED = 4
"""Batches of each kind that are looked at more closely."""

LOOKED_AT = 20
"""Batches that are drawn to choose them from."""


@dataclass(frozen=True)
class Work:
    """What the loader and the trainer make of an epoch; counts are of all processes together.

    Args:
        samples: examples an epoch.
        batches: batches an epoch and process, by the kind of their answers where there are several.
        global_batch: examples of an optimizer step.
        steps: optimizer steps in all; None: the trainer names no end.
    """

    samples: int
    batches: Mapping[str, int]
    global_batch: int
    steps: int | None

    @property
    def num_batches(self) -> int:
        """Batches an epoch and process."""
        return sum(self.batches.values())


def work_of(loader: Any, batch_size: int, world: int, trainer: Mapping[str, Any]) -> Work:
    """Count what a fit would do.

    Args:
        loader: of the DataModule, built in a single process.
        batch_size: examples a batch and process.
        world: processes of the fit.
        trainer: its settings.
    """
    samples, batches = _epoch(loader, batch_size, world)
    limit = trainer.get("limit_train_batches")
    if limit is not None and (total := sum(batches.values())):
        most = min(total, limit) if isinstance(limit, int) else int(total * limit)
        batches = {kind: round(number * most / total) for kind, number in batches.items()}
    accumulated = trainer.get("accumulate_grad_batches") or 1
    epochs, ends = trainer.get("max_epochs"), trainer.get("max_steps", -1)
    steps = None if epochs in (None, -1) else math.ceil(sum(batches.values()) / accumulated) * epochs
    if ends is not None and ends >= 0:
        steps = ends if steps is None else min(steps, ends)
    return Work(samples, batches, batch_size * world * accumulated, steps)


def _epoch(loader: Any, batch_size: int, world: int) -> tuple[int, dict[str, int]]:
    """Examples of all processes and batches of each, by kind."""
    if isinstance(loader, EpochLoader):
        mixture = loader.batches.mixture
        counts = {
            kind: sum(round(float(mixture.repeats[number].sum())) for number in numbers)
            for kind, numbers in mixture.kinds.items()
        }
        return sum(counts.values()), {kind: -(-count // (batch_size * world)) for kind, count in counts.items()}
    examples = len(loader.dataset)
    share = -(-examples // world)  # Lightning gives every process as many
    return examples, {"all": share // batch_size if loader.drop_last else -(-share // batch_size)}


@dataclass(frozen=True)
class Drawn:
    """A batch that was drawn to be probed."""

    kind: str
    batch: Any
    positions: int  # token positions, padding included
    tokens: int  # without it


def draw(loader: Any, kinds: Sequence[str]) -> list[Drawn]:
    """Of the first batches of an epoch a few of each kind, the one with most positions among them."""
    seen = [_look(batch) for batch in itertools.islice(loader, LOOKED_AT)]
    chosen = []
    for kind in kinds:
        of_kind = [one for one in seen if one.kind == kind]
        longest = max(range(len(of_kind)), key=lambda at: of_kind[at].positions, default=0)
        chosen += [one for at, one in enumerate(of_kind) if at < PROBED or at == longest]
    return chosen


def _look(batch: Any) -> Drawn:
    kind = "all" if not isinstance(batch, GeneratorBatch) else "text" if batch.codes is None else "sid"
    masks = list(_masks(batch))
    return Drawn(kind, batch, sum(mask.numel() for mask in masks), int(sum(mask.sum() for mask in masks)))


def _masks(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, tuple):
        for name, part in zip(getattr(batch, "_fields", [""] * len(batch)), batch, strict=True):
            if name == "attention_mask":
                yield part
            else:
                yield from _masks(part)


@dataclass(frozen=True)
class Cost:
    """What probing found.

    Args:
        flops: of an average batch, forward and backward.
        largest: of the batch that needs most memory.
        positions: of an average batch, padding included.
        tokens: of an average batch, without padding.
        longest: most token positions of a row.
        operations: torch's, of an average batch, the optimizer's not counted.
    """

    flops: float
    largest: Step
    positions: float
    tokens: float
    longest: int
    operations: float


def cost_of(
    stage: LightningModule, drawn: Sequence[Drawn], batches: Mapping[str, int], dtype: torch.dtype | None, gpu: bool
) -> Cost:
    """Probe the batches, and weigh the kinds as an epoch has them."""
    steps = [probe(stage, one.batch, dtype, gpu) for one in drawn]
    total = sum(batches[kind] for kind in {one.kind for one in drawn})

    def mean(values: Sequence[float]) -> float:
        of_kind = {kind: [v for v, one in zip(values, drawn, strict=True) if one.kind == kind] for kind in batches}
        means = {kind: sum(found) / len(found) for kind, found in of_kind.items() if found}
        return sum(batches[kind] * value for kind, value in means.items()) / max(1, total)

    widths = [mask.shape[1] for one in drawn for mask in _masks(one.batch)]
    return Cost(
        mean([step.flops for step in steps]),
        max(steps, key=lambda step: step.peak),
        mean([one.positions for one in drawn]),
        mean([one.tokens for one in drawn]),
        max(widths, default=0),
        mean([step.operations for step in steps]),
    )
