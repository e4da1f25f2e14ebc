"""Averaged weights (EMA): validated and handed on in place of the last ones, while training goes on with its own.

    θ̄_t = d_t·θ̄_(t−1) + (1 − d_t)·θ_t,   θ̄_0 = θ_0,   d_t = min(d, (1 + t)/(10 + t))   after optimizer step t

The rising d_t (as in TensorFlow's `ExponentialMovingAverage`) lets the average leave its start behind: with d alone,
.999 would hold on to the fresh weights for thousands of steps. Polyak and Juditsky 1992.
"""

from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor


class Averaging(lightning.Callback):
    """Keeps the average in float32 beside the model; a checkpoint holds both.

    Lightning's `WeightAveraging` copies the whole module, with catalogue and automaton, which cannot be copied.

    Args:
        decay: d, 0 to 1.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.num_steps = 0
        self.average: dict[str, Tensor] = {}
        self.own: dict[str, Tensor] = {}  # the weights that training goes on with, while the average stands in

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin with the first weights, or go on with the average of a checkpoint."""
        for name, weight in _trained(pl_module).items():
            self.average[name] = self.average.get(name, weight).detach().to(weight.device, torch.float32, copy=True)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: STEP_OUTPUT, *_: Any
    ) -> None:
        """Take in the new weights, if this batch led to a step."""
        if trainer.global_step == self.num_steps:
            return
        self.num_steps = trainer.global_step
        decay = min(self.decay, (1 + self.num_steps) / (10 + self.num_steps))
        for name, weight in _trained(pl_module).items():
            self.average[name].lerp_(weight.detach().float(), 1 - decay)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The average is what is judged."""
        self._stand_in(pl_module)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Back to training's own weights, before a checkpoint is written (Lightning calls its writers last)."""
        for name, weight in _trained(pl_module).items():
            weight.data.copy_(self.own.get(name, weight))
        self.own = {}

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The average is what is handed on: the stage exports after this, the last checkpoint is written before."""
        self._stand_in(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"num_steps": self.num_steps, "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.num_steps, self.average = state_dict["num_steps"], state_dict["average"]

    def _stand_in(self, module: lightning.LightningModule) -> None:
        """Copied in place: engine and optimizer hold on to the parameters themselves."""
        for name, weight in _trained(module).items():
            if name in self.average:
                self.own[name] = weight.detach().clone()
                weight.data.copy_(self.average[name])


def _trained(module: lightning.LightningModule) -> dict[str, torch.nn.Parameter]:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
