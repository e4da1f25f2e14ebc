"""`onesearch plan -c configs/STAGE.yaml --run RUN`: what `onesearch fit` of the same line would take.

The line is read by the stages' own parser; stage and data are built as a fit builds them, in a folder beside the run's
that holds links to what the run holds, so that nothing is written to the run and nothing is trained.
"""

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.trainer.states import TrainerFn

from onesearch.artifacts import write_json
from onesearch.log.prepared import Log
from onesearch.metrics.chosen_fall import ChosenFall
from onesearch.models.text_encoder import TextEncoder
from onesearch.planning import advice
from onesearch.planning.hardware import GPUS, Device, device_of
from onesearch.planning.lineage import missing, stale
from onesearch.planning.parts import Part, parts_of, resident_buffers, total
from onesearch.planning.show import show
from onesearch.planning.stated import dead_keys
from onesearch.planning.work import Cost, Work, cost_of, draw, work_of
from onesearch.stages.dpo import DpoStage
from onesearch.stages.quantizer import QuantizerStage
from onesearch.stages.stage import Stage
from onesearch.training import EXPECTED, StageCLI
from onesearch.types import UserError

FORMULA = "Σ 2·m·k·n over all matrix products, forward and backward, counted by torch on batches of the run"

LAUNCH = 10e-6
"""Seconds that the processor takes to start an operation, forward or backward: a GPU waits for it in small steps. The
demo's generator took 13 µs on an H100 (27 steps of 2,800 operations a second, benchmarks/RESULTS.md)."""


class PlanCLI(StageCLI):
    """The stages' parser, with a trainer for this machine in place of the one that is planned."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What is planned for."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("--mfu", type=float, default=0.35, help="Model FLOPs utilisation: share of the peak.")
        parser.add_argument("--gpu", type=str | None, default=None, help=f"The GPU planned for: {', '.join(GPUS)}.")
        parser.add_argument("--peak_tflops", type=float | None, default=None, help="Its peak, in place of the table's.")
        parser.add_argument("--memory_gb", type=float | None, default=None, help="Its memory, in place of the table's.")
        parser.add_argument("--json", type=Path | None, default=None, help="A file to write the plan to.")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="As of `fit`: the plan is of all of it.")

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """One process on the CPU, which logs nothing."""
        here = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "32-true"}
        return super().instantiate_trainer(**{**kwargs, **here, "logger": False})


def plan(arguments: Sequence[str]) -> dict[str, Any]:
    """Plan a fit, print it, and write it where `--json` says.

    Args:
        arguments: those of `onesearch fit`, and those of `PlanCLI`.
    """
    for message in EXPECTED:
        warnings.filterwarnings("ignore", f".*({message})")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    cli = PlanCLI(
        lightning.LightningModule,
        lightning.LightningDataModule,
        run=False,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=None,
        seed_everything_default=0,
        parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False},
        trainer_defaults={"max_epochs": 1, "logger": True},
        args=list(arguments),
    )
    found = plan_of(cli.model, cli.datamodule, cli.trainer, cli.config.as_dict())
    if cli.config["json"] is not None:
        write_json(Path(cli.config["json"]), found)
    show(found)
    return found


def plan_of(stage: Stage, data: Any, trainer: lightning.Trainer, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a fit would take, as plain values.

    Args:
        stage: not yet built.
        data: its DataModule.
        trainer: of this machine.
        config: what the parser made of the command line.
    """
    if not 0 < config["mfu"] <= 1:
        raise UserError(f"--mfu is {config['mfu']}: give a share of the peak, such as 0.35.")
    settings, run = config["trainer"], stage.run
    precision = str(settings.get("precision") or "32-true")
    is_half = precision.startswith(("16", "bf16"))
    accelerator = str(settings.get("accelerator"))
    device = device_of(accelerator, config["gpu"], config["peak_tflops"], config["memory_gb"], is_half)
    world = _processes(settings, device)
    files = [Path(str(file)) for file in config.get("config") or []]
    said = [*dead_keys(files, config)] if files else []
    gone = missing(run, stage.parents)
    said += [*gone, *stale(run, stage.parents)]
    found: dict[str, Any] = {
        "stage": stage.name,
        "class": type(stage).__name__,
        "run": str(run),
        "device": {**asdict(device), "processes": world, "precision": precision},
        "notes": _notes(stage, settings, device),
        "warnings": said,
    }
    if gone:
        return found
    with _beside(run) as copy:
        try:
            stage.run = data.run = copy
            loader = _built(stage, data, trainer)
            learns = stage.automatic_optimization and getattr(stage, "learns", True)
            work = work_of(loader, data.batch_size, world, settings)
            dtype = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(precision)
            if precision in ("bf16-true", "16-true"):
                stage.to(torch.bfloat16 if precision == "bf16-true" else torch.float16)
            cost = cost_of(stage, draw(loader, [*work.batches]), work.batches, dtype, device.is_gpu) if learns else None
            if cost is not None:
                said += advice.length_advice(stage, data, Log.open(copy / "log"), cost)
        except UserError as error:
            said.append(str(error).replace(str(copy), str(run)))
            return found
    parts = parts_of(stage, learns)
    _add_memory(found, stage, parts, cost, world)
    _add_work(found, work, cost, device, config)
    _add_checkpoints(found, stage, trainer, run, learns, settings)
    memory = found["memory"]
    said += advice.memory_advice(
        memory["total"], memory["step"], device, data.batch_size, [*advice.ways_to_save(stage, precision)]
    )
    if learns:
        said += advice.batch_advice(stage, work)
        said += advice.rate_advice(stage, total(parts).parameters)
    kept = found["checkpoints"]
    said += advice.disk_advice(kept["needed"], kept["free"], run, kept["bytes"])
    return found


@contextmanager
def _beside(run: Path) -> Iterator[Path]:
    """A folder of the run's name with links to all that the run holds: what is prepared there is forgotten."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / run.name
        copy.mkdir()
        for path in run.iterdir():
            (copy / path.name).symlink_to(path.resolve())
        yield copy


def _built(stage: Stage, data: Any, trainer: lightning.Trainer) -> Any:
    """Build stage and data as the beginning of a fit does; the loader of its first epoch."""
    trainer.state.fn = TrainerFn.FITTING
    stage.trainer = trainer
    if getattr(data, "cosine_filter", None) is not None:
        data.cosine_filter = None  # it embeds all pairs
    data.prepare_data()
    data.setup("fit")
    if isinstance(stage, QuantizerStage):  # mining keywords is most of its work
        stage.encoder = TextEncoder.load(stage.run / "encoder").requires_grad_(False)
        stage.is_built = True
    stage.configure_model()
    stage.train()
    if isinstance(stage, DpoStage):
        path = stage.run / f"{stage.name}_lists" / "gate.json"
        stage.gate.check(stage.name, json.loads(path.read_text("utf-8")))
        stage.chosen_fall, stage.has_warned = ChosenFall(stage.alarm), True
    if stage.automatic_optimization:
        stage.on_train_epoch_start()
    return data.train_dataloader()


def _processes(settings: Mapping[str, Any], device: Device) -> int:
    """Devices × nodes; devices that are to be counted are counted here."""
    devices: Any = settings.get("devices", "auto")
    if isinstance(devices, str) and devices not in ("auto", "-1"):
        devices = devices.split(",") if "," in devices else int(devices)
    if devices in ("auto", "-1", -1):
        devices = max(1, torch.cuda.device_count()) if device.is_gpu else 1
    number = devices if isinstance(devices, int) else len(devices)
    return number * int(settings.get("num_nodes") or 1)


def _notes(stage: Stage, settings: Mapping[str, Any], device: Device) -> list[str]:
    """What the figures leave out."""
    notes = []
    if device.is_gpu and settings.get("devices", "auto") in ("auto", -1, "-1") and not torch.cuda.is_available():
        notes.append("One device is planned, since 'trainer.devices' leaves it to the machine: say how many there are.")
    if any(name in str(settings.get("strategy")) for name in ("fsdp", "deepspeed", "model_parallel")):
        notes.append("Memory is that of a whole copy of the model on each device: what the strategy shares out is not.")
    if isinstance(stage, QuantizerStage):
        notes.append(
            "The quantizer learns nothing by gradient: no gradients, optimizer state, activations or checkpoints. It "
            "embeds each text once and fits a codebook, whose FLOPs are not counted."
        )
    elif not getattr(stage, "learns", True):
        notes.append(
            f"{stage.name} counts and learns nothing by gradient: no gradients, optimizer state or activations."
        )
    if isinstance(stage, DpoStage):
        notes.append("The plan is of `fit`; `predict`, which answers the searches and writes the lists, is not in it.")
    return notes


def _add_memory(found: dict[str, Any], stage: Stage, parts: dict[str, Part], cost: Cost | None, world: int) -> None:
    """Bytes a device."""
    whole = total(parts)
    averaged = 4 * whole.trained if stage.optimization.averaging else 0
    memory = {
        "weights": whole.weights,
        "buffers": resident_buffers(stage),
        "gradients": whole.gradients,
        "optimizer": whole.optimizer,
        "averaged weights": averaged,
        "gradients sent (DDP)": whole.gradients if world > 1 else 0,
        "step": cost.largest.peak if cost else 0,
    }
    found["parts"] = {name: asdict(part) for name, part in parts.items()}
    found["memory"] = {**memory, "total": sum(memory.values()), "kept": cost.largest.kept if cost else 0}


def _add_work(found: dict[str, Any], work: Work, cost: Cost | None, device: Device, config: Mapping[str, Any]) -> None:
    """Samples, steps, FLOPs and time."""
    accumulated = config["trainer"].get("accumulate_grad_batches") or 1
    epochs = config["trainer"].get("max_epochs")
    batches = None if work.steps is None else work.steps * accumulated
    if batches is not None and epochs not in (None, -1):
        batches = min(batches, work.num_batches * epochs)  # an epoch's last step may gather fewer
    found["work"] = {**asdict(work), "batches": dict(work.batches), "all_batches": batches, "accumulated": accumulated}
    if cost is None:
        return
    world = found["device"]["processes"]
    flops = None if batches is None else cost.flops * batches * world
    by_products = cost.flops / (config["mfu"] * device.peak) if device.peak else None
    by_launches = cost.operations * LAUNCH if device.is_gpu else 0.0
    seconds = None if batches is None or by_products is None else batches * max(by_products, by_launches)
    found["flops"] = {"formula": FORMULA, "batch": cost.flops, "all": flops, "seconds": seconds, "mfu": config["mfu"]}
    found["flops"] |= {"positions": cost.positions, "tokens": cost.tokens, "operations": cost.operations}
    found["flops"]["waits_for_launches"] = by_products is not None and by_launches > by_products


def _add_checkpoints(
    found: dict[str, Any],
    stage: Stage,
    trainer: lightning.Trainer,
    run: Path,
    learns: bool,
    settings: Mapping[str, Any],
) -> None:
    """Bytes of one checkpoint, how many there will be, and the disk."""
    tensors = {tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in stage.state_dict().values()}
    state = sum(tensors.values())  # what has several names is written once
    memory = found["memory"]
    each = state + (memory["optimizer"] + memory["averaged weights"] if learns else 0)
    writers = [one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint)]
    epochs = settings.get("max_epochs")
    most = sum(_kept(one, epochs if epochs and epochs > 0 else 1) for one in writers)
    number = most if stage.automatic_optimization else 0
    place = next(path for path in (run, *run.resolve().parents) if path.exists())
    found["checkpoints"] = {
        "bytes": each if number else 0,
        "number": number,
        "needed": (number + 1) * each + state if number else state,  # one is written before another goes; the artefact
        "free": shutil.disk_usage(place).free,
    }


def _kept(writer: ModelCheckpoint, epochs: int) -> int:
    best = epochs if writer.save_top_k == -1 else writer.save_top_k
    return best + (writer.save_last is True)
