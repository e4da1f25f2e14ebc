"""An ablation: the same run in several variants, each trained with the same budget, in one table.

    onesearch ablate --run runs/demo --recipe configs/demo --study configs/ablation/tokenizers

A study is a folder with a folder of overlays for each variant (`quantizer.yaml`, …), and beside them the overlays that
all variants share. Stages that no overlay names are the run's own, trained once. Variants live in
RUN/ablation/STUDY/VARIANT and are resumed like every run; the table is written to RUN/STUDY.json.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onesearch.artifacts import read_manifest, write_json
from onesearch.evaluate.bootstrap import interval, resampled_means
from onesearch.evaluate.onesearch import OneSearch
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.metrics.ranking import hits, pad, recall, reciprocal_rank
from onesearch.pipeline import STEPS, Step, configs, run_step
from onesearch.serve.engine import STAGES, SearchEngine
from onesearch.types import UserError

DEPTH = 10
"""Length of the lists that are judged."""

UPSTREAM = ("tokenizer", *(step.name for step in STEPS))
"""Folders that a variant may take from the run."""


@dataclass(frozen=True)
class Study:
    """What is varied."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def variants(self) -> list[Path]:
        """The variants' folders, in the order of their names."""
        return sorted(path for path in self.folder.iterdir() if path.is_dir())

    @property
    def steps(self) -> list[Step]:
        """The stages that some overlay names, in the order of the pipeline."""
        folders = [self.folder, *self.variants]
        return [step for step in STEPS if any((folder / f"{step.name}.yaml").is_file() for folder in folders)]

    def overlays(self, step: Step, variant: Path) -> list[Path]:
        """What the study changes of a step."""
        files = (folder / f"{step.name}.yaml" for folder in (self.folder, variant))
        return [file for file in files if file.is_file()]


def run_study(run: Path, recipe: Path, study: Study, only: Sequence[str], num_beams: int) -> list[dict[str, Any]]:
    """Train and judge the variants of a study; rows of the table, which is written to RUN/STUDY.json too.

    Args:
        run: a run whose earlier stages are finished.
        recipe: the recipe of that run.
        study: what is varied.
        only: names of the variants to train now; empty: all. The table holds all that are trained.
        num_beams: K of the beam search.

    Raises:
        UserError: the study has no variants, or one of `only` is none of them.
    """
    names = [path.name for path in study.variants]
    unknown = set(only) - set(names)
    if not names or unknown:
        raise UserError(f"{study.folder} has no variant {min(unknown, default='at all')}: {', '.join(names)}.")
    for variant in study.variants:
        if not only or variant.name in only:
            _train(run, recipe, study, variant)
    folders = [run / "ablation" / study.name / name for name in names]
    rows = [_row(folder, num_beams) for folder in folders if _is_finished(folder, study)]
    write_json(run / f"{study.name}.json", {"rows": rows, "note": _note(study)})
    return rows


def _train(run: Path, recipe: Path, study: Study, variant: Path) -> None:
    folder = run / "ablation" / study.name / variant.name
    folder.mkdir(parents=True, exist_ok=True)
    own = {step.name for step in study.steps}
    first = next(position for position, step in enumerate(STEPS) if step.name in own)
    shared = {"tokenizer", *(step.name for step in STEPS[:first])}
    for name in UPSTREAM:
        link = folder / name
        if name in shared and (run / name).is_dir() and not link.exists():
            link.symlink_to((run / name).resolve(), target_is_directory=True)
    left_out = {step.name for step in STEPS if step.name not in own and not (folder / step.name).exists()}
    for step in study.steps:
        run_step(step, folder, [*configs(step, recipe), *study.overlays(step, variant)], left_out)


def _is_finished(folder: Path, study: Study) -> bool:
    return all((folder / step.name / "manifest.json").is_file() for step in study.steps)


def _row(folder: Path, num_beams: int) -> dict[str, Any]:
    """Figures of a variant's tokenizer and of its last generator, over the test searches with a clicked item."""
    log, khqe = Log.open(folder / "log"), Khqe.open(folder)
    searches = [search for search in log.contexts("test") if search.clicked]
    stage = next(name for name in reversed(STAGES) if (folder / name / "manifest.json").is_file())
    system = OneSearch(stage, SearchEngine.open(folder, stage, khqe, num_beams))
    blind = [search._replace(clicked=(), purchased=(), impressed=None) for search in searches]
    relevant = [set(search.clicked) for search in searches]
    found = hits(pad(system.rank(blind, DEPTH), DEPTH), relevant)
    num_relevant = np.array([len(items) for items in relevant])
    values = np.stack([recall(found, num_relevant, DEPTH), reciprocal_rank(found, DEPTH)], axis=1)
    means, resampled = values.mean(axis=0), resampled_means(values)
    names = (f"recall@{DEPTH}", f"MRR@{DEPTH}")
    return {
        "variant": folder.name.partition("-")[2] or folder.name,
        "stage": stage,
        "figures": read_manifest(folder / "quantizer").facts["quality"],
        "metrics": {
            name: interval(means[column].item(), resampled[:, column])._asdict() for column, name in enumerate(names)
        },
        "num_searches": len(searches),
    }


def _note(study: Study) -> str:
    return f"Each variant trains {', '.join(step.name for step in study.steps)} with the same budget."
