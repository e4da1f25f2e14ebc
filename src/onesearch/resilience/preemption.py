"""Stop at a batch's end when asked to, with a checkpoint from which the same command goes on."""

from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint

from onesearch.resilience.signals import NOT_FINISHED, NotFinished, asked, listen_again

INTERRUPTED = "interrupted.ckpt"


class Preemption(lightning.Callback):
    """Looks at each batch's end whether a process was asked to stop; all agree, the first saves, and all stop.

    It must come behind callbacks that learn from a batch: what they have learnt belongs into the checkpoint. A
    validation is finished first; Lightning could not go on inside one.
    """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning has put a handler of its own in place, with which SIGTERM ends in success."""
        listen_again()
        if _all_asked(trainer):
            raise _stopped(trainer, "no step of this start was taken")

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save and stop; after an epoch's last batch only save, for what ends the epoch could not be repeated."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return  # half of a step is in no checkpoint
        if not _all_asked(trainer):
            return
        path = _place(trainer) if pl_module.automatic_optimization else None  # what no gradient learns begins anew
        if path is not None:
            trainer.save_checkpoint(path, weights_only=False)
        if not trainer.is_last_batch:
            kept = f"step {trainer.global_step} is kept in {path}" if path else "nothing is kept, this pass begins anew"
            raise _stopped(trainer, kept)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """What was interrupted is done."""
        if (path := _place(trainer)) is not None:
            trainer.strategy.remove_checkpoint(path)

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """As for training."""
        listen_again()

    on_test_start = on_predict_start

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """As for training, where validation is no part of it."""
        if trainer.state.fn != "fit":
            listen_again()

    def on_predict_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any, **__: Any
    ) -> None:
        """There is nothing to keep: a verb without gradients begins anew."""
        if _all_asked(trainer):
            raise _stopped(trainer, f"`{trainer.state.fn}` begins anew")

    on_test_batch_end = on_predict_batch_end

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Likewise, where validation is no part of training."""
        if trainer.state.fn != "fit":
            self.on_predict_batch_end(trainer, pl_module)


def _all_asked(trainer: lightning.Trainer) -> bool:
    """Whether any process was asked: a scheduler may tell one alone."""
    return trainer.strategy.reduce_boolean_decision(asked() is not None, all=False)


def _place(trainer: lightning.Trainer) -> Path | None:
    """Beside the regular checkpoints; None where there are none."""
    callback = trainer.checkpoint_callback
    if isinstance(callback, ModelCheckpoint) and callback.dirpath:
        return Path(callback.dirpath) / INTERRUPTED
    return None


def _stopped(trainer: lightning.Trainer, kept: str) -> NotFinished:
    signum = asked()
    by = signum.name if signum is not None else "a signal to another process"
    # Lightning kills whoever is left when a process that it started itself ends with anything but 0.
    environment = getattr(trainer.strategy, "cluster_environment", None)
    is_helper = isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
    return NotFinished(
        f"stopped by {by}: {kept}. Start the same command again, with --ckpt_path last, to go on.",
        0 if is_helper else NOT_FINISHED,
    )
