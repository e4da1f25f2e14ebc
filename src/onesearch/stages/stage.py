"""What every stage shares: where it lies in the run, how it is optimised, how it hands its result on."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from onesearch.artifacts import verify, writing
from onesearch.resilience.nonfinite import FiniteSteps
from onesearch.resilience.preemption import Preemption
from onesearch.resilience.seeding import BatchSeeds
from onesearch.stages.averaging import Averaging
from onesearch.types import UserError


@dataclass(frozen=True)
class Optimization:
    """AdamW with a linear warm-up and a cosine decay to zero.

    Args:
        lr: peak learning rate.
        warmup: share of all steps in which the rate rises from zero, 0 to 1.
        weight_decay: decoupled decay; biases, norms and other vectors are spared.
        averaging: decay of averaged weights, such as .999, which are then validated and handed on; 0 averages none.
    """

    lr: float = 5e-5
    warmup: float = 0.05
    weight_decay: float = 0.01
    averaging: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.averaging < 1:
            raise UserError(f"optimization.averaging is {self.averaging}: give a decay such as .999, or 0 for none.")


def is_trial(trainer: lightning.Trainer) -> bool:
    """Whether Lightning only rehearses a few batches (`fast_dev_run`): nothing is worth handing on."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set outside of the class


class Stage(lightning.LightningModule):
    """A stage of the pipeline: reads its parents' folders in `run`, trains, and exports `run/name` when the fit ends.

    Args:
        run: the run folder.
        name: the stage's own folder inside `run`.
        optimization: the optimizer and its schedule.
    """

    kind: str  # of the artefact that this stage writes
    parents: tuple[str, ...] = ()  # folders inside `run` that it reads, with `kinds` beside them

    def __init__(self, run: Path, name: str, optimization: Optimization) -> None:
        super().__init__()
        self.run = Path(run)
        self.name = name
        self.optimization = optimization
        self.export_config: dict[str, Any] = {}
        self.is_built = False

    @abstractmethod
    def build(self) -> None:
        """Build the model, on the CPU, from what the stages before have left in the run."""

    def configure_model(self) -> None:
        """Build the model, once.

        Lightning calls this with the accelerator as torch's default device, where the tables that a stage reads beside
        its weights would come to lie too. It moves the weights itself, after this.
        """
        if not self.is_built:
            with torch.device("cpu"):
                self.build()
            self.is_built = True

    @abstractmethod
    def export(self, folder: Path) -> dict[str, Any]:
        """Write the files of the artefact into the empty `folder`; return the facts for its manifest."""

    def on_fit_end(self) -> None:
        """Hand the result on: only the first process writes, and only when training was not interrupted."""
        if self.trainer.is_global_zero and not is_trial(self.trainer) and not self.trainer.interrupted:
            facts: dict[str, Any] = {}
            folders = [self.run / parent for parent in self.parents]
            with writing(self.run / self.name, self.kind, folders, self.export_config, facts) as folder:
                facts.update(self.export(folder))
            verify(self.run / self.name, self.kind, folders)

    def configure_callbacks(self) -> list[lightning.Callback]:
        """What every stage trains with: steps that can be repeated, averaged weights where asked for, a way to stop."""
        averaging = [Averaging(self.optimization.averaging)] if self.optimization.averaging else []
        return [BatchSeeds(), FiniteSteps(), *averaging, Preemption()]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, warm-up, cosine."""
        decayed = [p for p in self.parameters() if p.requires_grad and p.ndim >= 2]
        spared = [p for p in self.parameters() if p.requires_grad and p.ndim < 2]
        groups = [
            {"params": decayed, "weight_decay": self.optimization.weight_decay},
            {"params": spared, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.optimization.lr, fused=self._can_fuse())
        num_steps = int(self.trainer.estimated_stepping_batches)
        num_warmup = max(1, round(self.optimization.warmup * num_steps))

        def factor(step: int) -> float:
            if step < num_warmup:
                return (step + 1) / num_warmup
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - num_warmup) / max(1, num_steps - num_warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _can_fuse(self) -> bool:
        """One kernel for all weights, on CUDA; not in mixed precision, where Lightning refuses to clip for it.

        Only fp16's scaled gradients cannot be clipped then, but Lightning (2.6) asks the optimizer, not for a scaler.
        """
        return self.device.type == "cuda" and not isinstance(self.trainer.precision_plugin, MixedPrecision)
