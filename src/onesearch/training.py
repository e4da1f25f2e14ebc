"""LightningCLI for all stages: `onesearch fit -c configs/STAGE.yaml --run runs/NAME`."""

import logging
import os
import secrets
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from onesearch.resilience.checkpoints import WholeCheckpoints, newest
from onesearch.stages.stage import Stage, is_trial
from onesearch.types import UserError

EXPECTED = (
    "LightningCLI's args parameter",  # `main` hands the command line on
    "treespec, LeafSpec",  # Lightning calls torch in a way that torch deprecates
    "Total length of `list` across ranks is zero",  # the quantizer has nothing to validate before it is fitted
    "`tensorboardX` has been removed",  # CSV and W&B are what is written
    "does not have many workers",  # batches are cheap to make: workers would only take memory
    "Checkpoint directory .* exists and is not empty",  # a fit that goes on
    r"Found \d+ module\(s\) in eval mode at the start of training",  # frozen encoders; DPO trains without dropout
    "`LightningModule.configure_optimizers` returned `None`",  # the quantizer learns nothing by gradient
    "`gradient_checkpointing_enable` is deprecated",  # what comes after it is not in every transformers 5
    "your dataloader is not resumable",  # our DataModules know how far an epoch is
    "The `srun` command is available",  # on a cluster's login node, where a demo runs as well as anywhere
    "predict returned None",  # preference lists go to disk, not into memory
    r"The number of training batches \(\d+\) is smaller than the logging interval",  # the quantizer's one pass
)
"""Warnings, as regular expressions, about what is meant to be so."""


class StageCLI(LightningCLI):
    """LightningCLI in subclass mode: the YAML names stage and DataModule; the run folder is given once."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """`--run`, handed to stage and data; what a prompt shows, and where texts are cut, is written once."""
        parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="The run folder.")
        parser.link_arguments("run", "model.init_args.run")
        parser.link_arguments("run", "data.init_args.run")
        parser.link_arguments("data.init_args.views", "model.init_args.views")
        parser.link_arguments("data.init_args.template", "model.init_args.template")
        parser.link_arguments("data.init_args.tokenizer", "model.init_args.tokenizer")
        parser.link_arguments("data.init_args.max_length", "model.init_args.max_length")
        parser.link_arguments("model.init_args.name", "data.init_args.name")
        parser.link_arguments("model.init_args.init_from", "data.init_args.init_from")

    def instantiate_classes(self) -> None:
        """What a stage or its data refuses is said in its own words: the parser lists all types that it tried."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            if isinstance(error.__cause__, UserError):
                raise error.__cause__ from None
            raise

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Give the trainer the stage's own folder, and `fit` its loggers and a checkpoint to go on from."""
        folder = Path(self._get(self.config_init, "run")) / "training" / stage_name(self.model)
        kwargs.setdefault("default_root_dir", folder)
        kwargs.setdefault("plugins", self._plugins())
        trainer = super().instantiate_trainer(**kwargs)
        if isinstance(trainer.strategy, DDPStrategy):
            # Not every batch asks every part for gradients: without histories, adapter and copier have none. To add
            # their weights times zero to the loss would be no better: AdamW would let them decay, as one GPU does not.
            trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
        if trainer.logger is not None and not is_trial(trainer):
            goes_on = self.subcommand == "fit" and bool(self._get(self.config_init, "ckpt_path"))
            trainer.loggers = loggers(folder, stage_name(self.model), goes_on) if self.subcommand == "fit" else []
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                # Not the logger's folder, which is another one at each start.
                callback.dirpath = callback.dirpath or str(folder / "checkpoints")
                # `--ckpt_path last` finds no other name. What no gradient learnt is in no checkpoint: begin anew.
                if self.model.automatic_optimization:
                    callback.save_last = callback.save_last or "link"
        return trainer

    def _plugins(self) -> list[Any]:
        """Those of the configuration, and ours."""
        asked_for = self._get(self.config_init, "trainer").get("plugins") or []
        plugins = [*asked_for] if isinstance(asked_for, list | tuple) else [asked_for]
        if SLURMEnvironment.detect():
            # Its own requeue saves inside the signal's handler, and loses a batch; ours is exit code 75.
            plugins.append(SLURMEnvironment(auto_requeue=False))
        return [*plugins, WholeCheckpoints()]

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """`--ckpt_path last` is the newest whole checkpoint; a first start has none."""
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if kwargs.get("ckpt_path") == "last":
            callbacks = self.trainer.checkpoint_callbacks
            kept = [Path(c.dirpath) for c in callbacks if isinstance(c, ModelCheckpoint) and c.dirpath]
            kwargs["ckpt_path"] = newest(kept)
        return kwargs


def stage_name(model: lightning.LightningModule) -> str:
    """The folder of a stage inside its run."""
    return model.name if isinstance(model, Stage) else type(model).__name__.lower()


def loggers(folder: Path, name: str, goes_on: bool = False) -> list[Logger]:
    """CSV always, a version a start; W&B beside it: online with a key, else offline, off with WANDB_MODE=disabled.

    Args:
        folder: of the stage's training.
        name: of the stage.
        goes_on: whether this start takes up what an earlier one left, and so writes into the same run of W&B.
    """
    found: list[Logger] = [CSVLogger(folder, name="csv")]
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    if mode != "disabled":
        group = folder.parent.parent.name  # the run's
        run = PatientWandb(
            name=name,
            group=group,
            project="onesearch",
            save_dir=folder,
            offline=mode == "offline",
            id=os.environ.get("WANDB_RUN_ID") or _wandb_id(folder / "wandb_id", goes_on),
        )
        run._wandb_init.pop("anonymous", None)  # Lightning names an option that W&B warns about wherever it is named
        found.append(run)
    return found


class PatientWandb(WandbLogger):
    """A W&B that cannot be reached, or refuses the key, is no reason not to train: the figures wait on the disk."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run; it begins with the first question for it."""
        try:
            return super().experiment
        except wandb.errors.Error as error:
            self._wandb_init["mode"] = "offline"
            run = super().experiment
            reason = " ".join(str(error).split())
            rank_zero_warn(
                f"W&B could not be reached ({reason}): figures are kept in {run.dir}, `wandb sync` sends them later."
            )
            return run


def _wandb_id(path: Path, goes_on: bool) -> str:
    """What W&B knows this training by: drawn at its first start and kept beside its checkpoints, with which it goes.

    A hash of the folder's place would be the same for two people who each call their run `runs/demo`.
    """
    if goes_on and path.is_file():
        return path.read_text("utf-8")
    found = secrets.token_hex(4)
    if getattr(rank_zero_only, "rank", 0) == 0:  # the others log nothing
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, "utf-8")
    return found


def launch(arguments: Sequence[str]) -> None:
    """Run fit, validate, test or predict."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_INIT_TIMEOUT", "30")  # seconds; then figures are kept on the disk
    for message in EXPECTED:
        warnings.filterwarnings("ignore", f".*({message})")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32; on a CPU the same call would ask for emulated bf16
    StageCLI(
        lightning.LightningModule,
        lightning.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False},
        trainer_defaults={"max_epochs": 1, "logger": True},
        args=list(arguments),
    )
