"""Dropout that a fit which goes on draws again: each batch has a seed of its own."""

import hashlib
import os
from typing import Any

import lightning
import torch


class BatchSeeds(lightning.Callback):
    """Seeds torch before each training batch by (seed of the run, epoch, batch, rank): nothing earlier matters.

    A state of the generators in the checkpoint would not do: it is rank 0's alone, and what draws between two batches
    (a validation, a loader that starts) draws otherwise in a fit that goes on.
    """

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw from here on what this batch draws always."""
        seed = os.environ.get("PL_GLOBAL_SEED", "0")  # what `seed_everything` leaves behind
        torch.manual_seed(batch_seed(seed, trainer.current_epoch, batch_idx, trainer.global_rank))


def batch_seed(*names: object) -> int:
    """32 bits, as many as a CPU's generator takes."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=4).digest())
