"""A step whose loss or gradient is no number is left out on all processes, so that no weight becomes NaN."""

from typing import Any

import lightning
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from onesearch.types import UserError

MOST_IN_A_ROW = 3
"""So many steps without a number one after the other are no accident."""


class FiniteSteps(lightning.Callback):
    """Leaves such a step out, counts it, and stops after three in a row.

    Left out are weights, moments and decay; the schedule goes on. With fp16 the scaler looks after gradients itself
    (infinite ones are how it finds its scale), and only the loss is looked at. On a GPU each step waits for one number.
    """

    def __init__(self) -> None:
        self.num_skipped = 0
        self.num_in_a_row = 0
        self.is_finite: Tensor | None = None  # the losses of the step so far, on the device

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Look at each loss that the step gathers."""
        finite = loss.detach().isfinite().all()
        self.is_finite = finite if self.is_finite is None else self.is_finite & finite

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: Optimizer
    ) -> None:
        """Let the optimizer find no gradient where there is no number on any process.

        Raises:
            UserError: the third step in a row.
        """
        finite, self.is_finite = self.is_finite, None
        gradients = [p.grad.detach() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if getattr(trainer.precision_plugin, "scaler", None) is None and gradients:
            in_gradients = get_total_norm(gradients).isfinite()
            finite = in_gradients if finite is None else finite & in_gradients
        is_lost = finite is not None and not bool(finite)
        if not trainer.strategy.reduce_boolean_decision(is_lost, all=False):
            self.num_in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)
        self.num_skipped += 1
        self.num_in_a_row += 1
        self._tell(trainer)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"num_skipped": self.num_skipped, "num_in_a_row": self.num_in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.num_skipped, self.num_in_a_row = state_dict["num_skipped"], state_dict["num_in_a_row"]

    def _tell(self, trainer: lightning.Trainer) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"train/skipped_steps": self.num_skipped}, step=trainer.global_step)
        if self.num_in_a_row == MOST_IN_A_ROW:
            raise UserError(
                f"{MOST_IN_A_ROW} steps in a row, the last one step {trainer.global_step}, had a loss or a gradient "
                "that is no number, and training stopped with the weights before them: lower "
                "'model.init_args.optimization.lr', or look for such values in the data."
            )
        rank_zero_warn(
            f"The loss or a gradient of step {trainer.global_step} is no number: the step is left out on all processes "
            f"({self.num_skipped} so far)."
        )
