"""What is lost when something goes wrong: a tiny encoder is trained by `onesearch pipeline`, and disturbed.

Each fault strikes a fit of its own, the same command goes on, and the table says how many steps were done again, with
which exit code the disturbed start ended, what the user was told, and whether the artefact has the very bits of an
undisturbed one. Checkpoints are written every five steps here; by default they are written at the end of each epoch.

    python -m benchmarks.faults --kills 20
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from rich.console import Console
from rich.table import Table

from benchmarks.table import Row, show
from onesearch.artifacts import read_manifest
from onesearch.resilience.checkpoints import WholeCheckpoints

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ELSEWHERE = "/dev/shm" if Path("/dev/shm").is_dir() else None
EVERY = 5
"""Steps from one checkpoint to the next."""


class Fault(lightning.Callback):
    """Writes down each step, and strikes where the environment says, `FAULT=kind@step`: before the step's gradient."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Read what is to come."""
        self.kind, _, step = os.environ.get("FAULT", "@0").partition("@")
        self.step, self.steps = int(step), Path(os.environ["FAULT_STEPS"])

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """The step is done."""
        with self.steps.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {trainer.global_step}\n")

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: torch.Tensor
    ) -> None:
        """Strike."""
        late = trainer.global_step - self.step
        if (self.kind, late) == ("NaN", 0) or (self.kind == "NaN for ever" and late >= 0):
            loss.register_hook(lambda gradient: gradient * float("nan"))
        elif late:
            return
        elif self.kind == "SIGKILL":  # as where a machine dies: both the pipeline and its step
            for pid in (os.getppid(), os.getpid()):
                os.kill(pid, signal.SIGKILL)
        elif self.kind in ("SIGTERM", "SIGUSR1"):
            os.kill(os.getppid(), signal.Signals[self.kind])  # the pipeline tells its step
            time.sleep(0.5)
        elif self.kind == "disk full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


class Outcome(NamedTuple):
    """A row of the table."""

    fault: str
    redone: str  # steps done twice
    code: str
    same: str  # as undisturbed
    sentence: str


class Stand:
    """A prepared log, its recipe, and the artefact of an undisturbed run.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.recipe = folder / "recipes" / "tiny"
        self.recipe.mkdir(parents=True)
        shutil.copy(CONFIGS / "encoder.yaml", self.recipe.parent)
        market = {"num_items": 200, "num_users": 150, "num_searches": 900, "num_recommendations": 300}
        source = {"class_path": "onesearch.simulate.Simulator", "init_args": {"marketplace": market}}
        _write(self.recipe / "log.yaml", {"source": source})
        saving = {"every_n_train_steps": EVERY, "save_top_k": -1, "filename": "{step}"}
        callbacks = [
            {"class_path": "benchmarks.faults.Fault"},
            {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": saving},
        ]
        quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary"), False)
        trainer = {"accelerator": "cpu", "max_epochs": 3, "limit_train_batches": 12, "callbacks": callbacks, **quiet}
        backbone = {"class_path": "onesearch.models.text_encoder.FreshEncoder"}
        backbone["init_args"] = {"hidden": 64, "layers": 1, "heads": 2}  # type: ignore[assignment]
        data = {"batch_size": 16, "vocab_size": 1000, "bpe_dropout": 0.1}
        config = {"model": {"init_args": {"backbone": backbone, "dim": 32}}, "data": {"init_args": data}}
        _write(self.recipe / "encoder.yaml", {**config, "trainer": trainer})
        self.base = folder / "base"
        first = self.pipeline(self.base, "--until", "log")
        assert first.returncode == 0, first.stderr
        self.whole = self.new_run()
        assert self.pipeline(self.whole).returncode == 0
        self.num_steps = max(self.steps(self.whole)[0])

    def new_run(self) -> Path:
        """A run with the log alone."""
        self.count += 1
        return Path(shutil.copytree(self.base, self.folder / f"run-{self.count}"))

    def command(self, run: Path, *options: str) -> list[str]:
        """The same at each start."""
        until = () if "--until" in options else ("--until", "encoder")
        return ["pipeline", "--run", str(run), "--recipe", str(self.recipe), *until, *options]

    def pipeline(self, run: Path, *options: str, fault: str = "@0") -> "subprocess.CompletedProcess[str]":
        """Run it, with a fault."""
        return _onesearch(self.command(run, *options), FAULT=fault, FAULT_STEPS=str(run / "steps.txt"))

    def steps(self, run: Path) -> list[list[int]]:
        """The steps of each start that did any."""
        starts: dict[str, list[int]] = {}
        if (run / "steps.txt").is_file():
            for line in (run / "steps.txt").read_text("utf-8").splitlines():
                pid, step = line.split()
                starts.setdefault(pid, []).append(int(step))
        return list(starts.values())

    def outcome(self, fault: str, run: Path, code: int, told: str) -> Outcome:
        """Go on with the same command, and compare."""
        again = self.pipeline(run)
        done = [step for start in self.steps(run) for step in start]
        redone = len(done) - len(set(done))
        same = "failed" if again.returncode else "yes" if _fingerprint(run) == _fingerprint(self.whole) else "no"
        skipped = " ".join(line for line in again.stderr.splitlines() if "UserWarning: The checkpoint" in line)
        return Outcome(
            fault, str(redone), str(code), same, _shortened(_sentence(told) or _sentence(skipped) or "–", run)
        )

    def strike(self, fault: str, step: int) -> Outcome:
        """One fault of those that the callback knows."""
        run = self.new_run()
        first = self.pipeline(run, fault=f"{fault}@{step}")
        return self.outcome(f"{fault}, step {step}", run, first.returncode, first.stderr)

    def strike_at_once(self) -> Outcome:
        """SIGTERM while the stage still imports torch."""
        run = self.new_run()
        fit = ["fit", "-c", str(CONFIGS / "encoder.yaml"), "-c", str(self.recipe / "encoder.yaml"), "--run", str(run)]
        places = {"FAULT_STEPS": str(run / "steps.txt")}
        with subprocess.Popen(_line(fit), env={**os.environ, **places}, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(0.7)
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate()
        return self.outcome("SIGTERM in the first second", run, process.returncode, told)

    def strike_last(self) -> Outcome:
        """Half of the newest checkpoint is lost while nobody trains."""
        run = self.new_run()
        self.pipeline(run, fault="SIGKILL@18")
        last = (run / "training" / "encoder" / "checkpoints" / "last.ckpt").resolve()
        os.truncate(last, last.stat().st_size // 2)
        return self.outcome("SIGKILL, step 18, and the newest checkpoint truncated", run, -signal.SIGKILL, "")

    def strike_artefact(self, file: str) -> Outcome:
        """One bit of a finished artefact flips; `fit` alone refuses it, the pipeline makes it again."""
        run = self.new_run()
        path = run / file
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        fit = ["fit", "-c", str(CONFIGS / "encoder.yaml"), "-c", str(self.recipe / "encoder.yaml"), "--run", str(run)]
        first = _onesearch(fit, FAULT_STEPS=str(run / "steps.txt"))
        return self.outcome(f"one bit flips in {file}", run, first.returncode, first.stderr)

    def strike_wandb(self) -> Outcome:
        """Nobody listens where figures are to be sent."""
        run = self.new_run()
        unreachable = {"MODE": "online", "API_KEY": 40 * "0", "BASE_URL": "http://127.0.0.1:9", "INIT_TIMEOUT": "2"}
        settings = {f"WANDB_{name}": value for name, value in unreachable.items()}
        first = _onesearch(self.command(run), FAULT_STEPS=str(run / "steps.txt"), **settings)
        return self.outcome("W&B unreachable", run, first.returncode, first.stderr)

    def strike_shard(self) -> Outcome:
        """A Parquet file that a log is read from ends too early."""
        shards = self.folder / "shards"
        shutil.copytree(self.base / "log", shards)
        items = shards / "items.parquet"
        items.write_bytes(items.read_bytes()[:-100])
        columns = {"item_id": "item_id", "title": "title"}
        mapped = {"folder": str(shards), "items": {"path": "items.parquet", "columns": columns}}
        searches = {"user_id": "user_id", "time": "time", "query": "query", "clicked": "clicked"}
        mapped["searches"] = {"path": "searches.parquet", "columns": searches, "row": "search"}
        source = {"class_path": "onesearch.log.sources.Mapped", "init_args": mapped}
        config = _write(self.folder / "shards.yaml", {"source": source})
        first = _onesearch(["prepare", "--config", str(config), "--run", str(self.folder / "from-shards")])
        return Outcome(
            "a Parquet shard of the raw log is truncated", "0", str(first.returncode), "–", _sentence(first.stderr)
        )


def writing(kills: int) -> Row:
    """A process that does nothing but write checkpoints is killed: those lost, beside Lightning's own writer.

    In memory, where there is such a folder: Lightning writes to /tmp first, which on a cluster is another disk.
    """
    ours, peer = (_lost_to_kills(way, kills) for way in (WholeCheckpoints(), TorchCheckpointIO()))
    return Row(f"killed {kills} times while it writes", "checkpoints lost", ours, peer, "Lightning's own writer")


def _lost_to_kills(way: TorchCheckpointIO, kills: int) -> int:
    rng, lost = random.Random(0), 0
    with tempfile.TemporaryDirectory(dir=ELSEWHERE) as folder:
        path = Path(folder) / "last.ckpt"
        way.save_checkpoint(_megabytes(0), path)
        for _ in range(kills):
            writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(way, path))
            writer.start()
            time.sleep(rng.uniform(0.05, 0.15))
            writer.kill()
            writer.join()
            lost += not _is_whole(path)
            way.save_checkpoint(_megabytes(0), path)
    return lost


def _write_for_ever(way: TorchCheckpointIO, path: Path) -> None:
    for number in range(1_000_000):
        way.save_checkpoint(_megabytes(number), path)


def _megabytes(number: int) -> dict[str, Any]:
    return {"weights": torch.full((1_000_000,), float(number)), "step": number}


def _is_whole(path: Path) -> bool:
    try:
        found = WholeCheckpoints().load_checkpoint(path)
    except Exception:
        return False
    return bool((found["weights"] == found["step"]).all())


def _write(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(json.dumps(config), "utf-8")  # a subset of YAML
    return path


def _line(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "onesearch.main", *arguments]


def _onesearch(arguments: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        _line(arguments),
        env={"WANDB_MODE": "disabled", **os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def _fingerprint(run: Path) -> str:
    return read_manifest(run / "encoder").fingerprint


def _sentence(told: str) -> str:
    """What the user is told of the fault: its first sentence of ours, or the last warning."""
    ours = [line.removeprefix("onesearch: ") for line in told.splitlines() if line.startswith("onesearch: ")]
    warned = [line.partition("UserWarning: ")[2] for line in told.splitlines() if "UserWarning: " in line]
    return (ours or warned[-1:] or [""])[0]


def _shortened(sentence: str, run: Path) -> str:
    return sentence.replace(f"{run}/training/encoder/checkpoints", "..").replace(str(run), "RUN")


def main() -> None:
    """Strike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2, help="fits killed at a random step")
    parser.add_argument("--writes", type=int, default=20, help="writes of a checkpoint that are killed")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("WANDB_MODE", "disabled")
    show("Checkpoints while something goes wrong", [writing(arguments.writes)], None)
    with tempfile.TemporaryDirectory() as folder:
        stand, rng = Stand(Path(folder)), random.Random(0)
        kills = [rng.randrange(1, stand.num_steps) for _ in range(arguments.kills)]
        faults: list[Callable[[], Outcome]] = [lambda step=step: stand.strike("SIGKILL", step) for step in kills]  # type: ignore[misc]
        for fault, step in (("SIGTERM", 13), ("SIGUSR1", 23), ("disk full", 12), ("NaN", 8), ("NaN for ever", 8)):
            faults.append(lambda fault=fault, step=step: stand.strike(fault, step))  # type: ignore[misc]
        faults += [stand.strike_at_once, stand.strike_last, lambda: stand.strike_artefact("log/items.parquet")]
        faults += [stand.strike_shard, stand.strike_wandb]
        outcomes = []
        for strike in faults:
            outcomes.append(strike())
            print(outcomes[-1], file=sys.stderr, flush=True)
    table = Table("fault", "steps done again", "exit code", "same bits in the end", "what the user sees")
    for outcome in outcomes:
        table.add_row(*outcome)
    Console(width=160).print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([outcome._asdict() for outcome in outcomes], indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
