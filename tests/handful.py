"""A shop small enough to be learned by heart: 4 colours of 4 things, and 8 shoppers, each faithful to one colour.

Everybody asks for a bare thing ("kettle") and clicks it in their own colour, which only their history tells: what knows
no history can at best put the four colours first, in some order, an MRR of (1 + 1/2 + 1/3 + 1/4) / 4 = 0.52.
"""

import contextlib
import csv
import datetime
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest

from onesearch.main import main
from onesearch.types import UserError

os.environ["WANDB_MODE"] = "disabled"  # no test writes beyond its own folder

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
THINGS = ("kettle", "mug", "lamp", "chair")
COLORS = ("red", "blue", "green", "white")
SHOPPERS = [(f"{color}-{number}", color) for color in COLORS for number in range(2)]
NUM_DAYS = 8
NUM_FIT = 7 * len(SHOPPERS)
"""Searches before the test day."""

BLIND_MRR = (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4
FIT_SPLITS = ["train", "validation"]
ENCODER = {"hidden": 32, "layers": 1, "heads": 2}
GENERATOR = {
    "hidden": 128,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "heads": 2,
    "max_length": 128,
    "dropout": 0.0,
}


def items() -> list[dict[str, str]]:
    """The catalogue."""
    return [
        {"sku": f"{color}-{thing}", "name": f"{color} {thing}", "kind": thing, "color": color, "price": str(price)}
        for price, (color, thing) in enumerate(((color, thing) for color in COLORS for thing in THINGS), start=10)
    ]


def impressions() -> list[dict[str, str]]:
    """Each shopper asks for one thing a day and is shown it in every colour; the clicks of even days are orders."""
    rows = []
    for day in range(NUM_DAYS):
        for hour, (shopper, liked) in enumerate(SHOPPERS):
            thing = THINGS[(day + hour // 2) % len(THINGS)]
            at = datetime.datetime(2025, 3, 1 + day, hour, tzinfo=datetime.UTC).isoformat()
            for color in COLORS:
                clicked = color == liked
                seen = {"who": shopper, "at": at, "q": thing, "sku": f"{color}-{thing}"}
                rows.append({**seen, "clicked": str(int(clicked)), "bought": str(int(clicked and day % 2 == 0))})
    return rows


def shop(folder: Path) -> dict[str, Any]:
    """The configuration of `onesearch prepare` for the shop, whose files are written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("items", items()), ("impressions", impressions())):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    columns = {"item_id": "sku", "title": "name", "category": ["kind"], "price": "price"}
    shown = {"user_id": "who", "time": "at", "query": "q", "item_id": "sku"}
    shown |= {"clicked": "clicked", "purchased": "bought"}
    mapped = {
        "folder": str(folder),
        "items": {"path": "items.csv", "columns": columns, "attributes": {"Color": "color", "Entity": "kind"}},
        "searches": {"path": "impressions.csv", "columns": shown, "row": "impression"},
    }
    split = {"validation_from": "2025-03-07", "test_from": "2025-03-08"}
    return {"source": {"class_path": "onesearch.log.sources.Mapped", "init_args": mapped}, "split": split}


def write(path: Path, config: dict[str, Any]) -> Path:
    """A YAML file, in its JSON subset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=1), "utf-8")
    return path


def overlay(
    epochs: int, model: dict[str, Any] | None = None, data: dict[str, Any] | None = None, **trainer: Any
) -> dict[str, Any]:
    """What a tiny stage changes of a shipped configuration; it validates after the last epoch only."""
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary"), False)
    steps = {"max_epochs": epochs, "check_val_every_n_epoch": epochs, "log_every_n_steps": 1, "num_sanity_val_steps": 0}
    settings = {"accelerator": "cpu", "devices": 1, **quiet, **steps, **trainer}
    return {"model": {"init_args": model or {}}, "data": {"init_args": data or {}}, "trainer": settings}


def backbone(name: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """A backbone of `onesearch.models`."""
    return {"class_path": f"onesearch.models.{name}", "init_args": sizes}


def overlays(scale: float = 1.0) -> dict[str, dict[str, Any]]:
    """An overlay for each stage; with `scale` 1 the shop is learned by heart."""

    def epochs(number: int) -> int:
        return max(1, round(scale * number))

    def rate(lr: float) -> dict[str, Any]:
        return {"optimization": {"lr": lr}}

    small = {"vocab_size": 300, "bpe_dropout": 0.0, "fit_splits": FIT_SPLITS}
    encoder = {"dim": 32, "backbone": backbone("text_encoder.FreshEncoder", ENCODER), **rate(5e-3)}
    sizes = {"rq_sizes": [4, 4, 4], "opq_sizes": [4, 4]}
    codebook = {"class_path": "onesearch.quantize.rq_opq.RqOpqRecipe", "init_args": sizes}
    generator = {"backbone": backbone("generator.FreshGenerator", GENERATOR), **rate(1e-3)}
    lists = {"batch_size": 64, "splits": FIT_SPLITS}
    tagger = {"backbone": backbone("text_encoder.FreshEncoder", ENCODER), **rate(5e-3)}
    return {
        "encoder": overlay(epochs(15), encoder, {"batch_size": 8, **small}),
        "tagger": overlay(epochs(30), tagger, {"batch_size": 4, "held_out": 0.25, **small}),
        "quantizer": overlay(1, {"codebook": codebook, "min_pv": 1}),
        "sft_align": overlay(epochs(50), generator, {"batch_size": 8, **small}),
        "sft_cooccur": overlay(epochs(8), rate(1e-3), {"batch_size": 8, **small}),
        # Prompts of six-token texts cannot outgrow the generator's 128 positions.
        "sft_personalize": overlay(epochs(25), rate(1e-3), {"batch_size": 8, "views": {"max_text": 6}, **small}),
        "reward": overlay(epochs(20), rate(1e-2), {"batch_size": 16, "fit_splits": FIT_SPLITS}),
        "dpo_hybrid": overlay(epochs(8), rate(1e-3), lists),
        "dpo_logged": overlay(epochs(10), rate(1e-3), lists),
    }


def launch(run: Path, verb: str, stage: str, config: dict[str, Any], *options: str) -> None:
    """`onesearch VERB` with the shipped configuration of a stage and an overlay, in this process."""
    path = write(run / "overlays" / f"{stage}.yaml", config)
    stream = ("--return_predictions", "false") if verb == "predict" else ()
    main([verb, "-c", str(CONFIGS / f"{stage}.yaml"), "-c", str(path), "--run", str(run), *stream, *options])


def logged(run: Path, stage: str, name: str) -> list[float]:
    """A figure as the CSV logger wrote it in the latest start, in the order of the steps."""
    with curves(run, stage)[-1].open(encoding="utf-8", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def curves(run: Path, stage: str) -> list[Path]:
    """The files of the CSV logger, one a start (fewer than ten)."""
    return sorted((run / "training" / stage / "csv").glob("version_*/metrics.csv"))


def copied(run: Path, to: Path, *folders: str) -> Path:
    """Some folders of a run, to write beside them."""
    for folder in ("log", "tokenizer", "encoder", *folders):
        shutil.copytree(run / folder, to / folder)
    return to


def facts(run: Path, folder: str) -> dict[str, Any]:
    """What an artefact says of itself."""
    found: dict[str, Any] = json.loads((run / folder / "manifest.json").read_text("utf-8"))["facts"]
    return found


def fingerprint(run: Path, folder: str) -> str:
    """Which artefact it is."""
    found: str = json.loads((run / folder / "manifest.json").read_text("utf-8"))["fingerprint"]
    return found


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence with which a command line is refused: exit code 2, no traceback, nothing on stdout."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    out, err = capsys.readouterr()
    sentences = [line for line in err.splitlines() if line.startswith("onesearch: ")]
    assert stopped.value.code == 2
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1:] == sentences
    return sentences[0].removeprefix("onesearch: ")


def recipe(folder: Path, scale: float = 0.0) -> Path:
    """A recipe beside a copy of the shipped configurations, as `onesearch pipeline` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in CONFIGS.glob("*.yaml"):
        shutil.copy(path, folder.parent)
    steps = overlays(scale)
    steps["quantizer"]["model"]["init_args"]["tagger"] = True
    for name, config in {"log": shop(folder / "files"), **steps}.items():
        write(folder / f"{name}.yaml", config)
    return folder


@contextlib.contextmanager
def in_this_process() -> Iterator[list[tuple[str, list[str]]]]:
    """Let the pipeline run its steps here, where nothing needs to be imported again; yields what it runs."""
    launched: list[tuple[str, list[str]]] = []

    def run_here(arguments: list[str], name: str) -> None:
        launched.append((name, arguments))
        try:
            main(arguments)
        except SystemExit as error:
            raise UserError(f"The step '{name}' failed (exit code {error.code}).") from error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onesearch.pipeline._launch", run_here)
        yield launched


class Pause(lightning.Callback):
    """Stops the clock at the start of an epoch and says so, once: whoever waits for it can kill the process there.

    Args:
        epoch: number of the epoch, from 0.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Wait to be killed, if the environment names a file to say so in."""
        told = os.environ.get("HANDFUL_PAUSE")
        if told and trainer.current_epoch == self.epoch:
            Path(told).touch()
            time.sleep(600)
