"""The first losses of every stage are what they were: a change that means to keep the maths keeps these to 1e-4.

The handful's stages one after the other, 12 steps each, so that a stage stands on what those before it handed on. What
changes a loss on purpose records anew (`--record-golden`) and says why.

Float noise must not grow from one CPU to the next. Adam makes a whole step of a gradient that is nothing but noise, so
runs are short. A codebook of residual layers alone codes the handful: 20 texts leave product layers so little that
OPQ's rotation, and with it all that follows, was another one with AVX2 than with AVX-512. What is on record was seen
with AVX2 and with `ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE DNNL_MAX_CPU_ISA=SSE41`; OPQ has tests of its own.
"""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from handful import curves, facts, launch, overlays, shop, write
from onesearch.main import main

pytestmark = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="without MKL, dropout draws otherwise")

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LOSSES = ("train/loss", "train/sid_loss", "train/text_loss")
STEPS = 12


def short_overlays() -> dict[str, dict[str, Any]]:
    """The handful's overlays, stopped after `STEPS` steps, before any validation."""
    steps = overlays()
    for config in steps.values():
        config["trainer"] |= {"max_epochs": STEPS, "max_steps": STEPS, "check_val_every_n_epoch": STEPS + 1}
    steps["encoder"]["model"]["init_args"]["dim"] = 8
    sizes = {"rq_sizes": [2, 2, 2, 2, 2], "opq_sizes": []}
    steps["quantizer"]["model"]["init_args"]["codebook"]["init_args"] = sizes
    for stage in ("dpo_hybrid", "dpo_logged"):
        steps[stage]["model"]["init_args"]["optimization"]["lr"] = 1e-4
    return steps


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """log and all stages"""
    run = tmp_path_factory.mktemp("golden") / "run"
    main(["prepare", "--config", str(write(run / "log.yaml", shop(run / "files"))), "--run", str(run)])
    for stage, config in short_overlays().items():
        for verb in ("predict", "fit") if stage.startswith("dpo") else ("fit",):
            launch(run, verb, stage, config)
    return run


def recorded(run: Path, stage: str) -> dict[str, Any]:
    """What a stage logged of its losses, step after step; the quantizer has none and tells of its codes."""
    if stage == "quantizer":
        return dict(facts(run, stage)["quality"])
    with curves(run, stage)[-1].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figures = {name: [float(row[name]) for row in rows if row.get(name)] for name in LOSSES}
    return {name: values for name, values in figures.items() if values}


@pytest.mark.parametrize("stage", overlays())
def test_the_first_losses_are_those_on_record(short_run: Path, stage: str, request: pytest.FixtureRequest) -> None:
    path, found = GOLDEN / f"{stage}.json", recorded(short_run, stage)
    if request.config.getoption("--record-golden"):
        path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    for name, values in json.loads(path.read_text("utf-8")).items():
        assert found[name] == pytest.approx(values, rel=1e-4), name
