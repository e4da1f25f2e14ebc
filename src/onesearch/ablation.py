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
from onesearch.evaluate.compare import without_answer
from onesearch.evaluate.onesearch import OneSearch
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.metrics.ranking import hits, pad, recall, reciprocal_rank
from onesearch.pipeline import STEPS, Step, configs, console, is_current, run_step
from onesearch.serve.engine import STAGES, SearchEngine
from onesearch.types import UserError

DEPTH = 10
"""Length of the lists that are judged."""

UPSTREAM = ("tokenizer", *(step.name for step in STEPS))
"""Folders that a variant may take from the run."""

QUANTIZER = next(step for step in STEPS if step.name == "quantizer")


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

    @property
    def unknown(self) -> list[Path]:
        """Overlays that are named like no stage."""
        names = {f"{step.name}.yaml" for step in STEPS}
        files = (path for folder in (self.folder, *self.variants) for path in sorted(folder.glob("*.y*ml")))
        return [path for path in files if path.name not in names]

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
        only: names of the variants to train now; empty: all. The table holds all that are trained as they stand now.
        num_beams: K of the beam search.

    Raises:
        UserError: the study changes nothing, one of `only` is no variant of it, or a stage failed.
    """
    _check(study, only)
    for variant in study.variants:
        if not only or variant.name in only:
            _train(run, recipe, study, variant)
    current = [variant for variant in study.variants if _is_current(run, recipe, study, variant)]
    rows = [_row(_folder(run, study, variant), num_beams) for variant in current]
    note = _note(study, [variant.name for variant in study.variants if variant not in current])
    console.print(note)
    write_json(run / f"{study.name}.json", {"rows": rows, "note": note})
    return rows


def _check(study: Study, only: Sequence[str]) -> None:
    """Refuse a study that does nothing, or not what its files say."""
    if not study.folder.is_dir():
        raise UserError(f"{study.folder} is missing: a study is a folder with a folder of overlays for each variant.")
    names = [path.name for path in study.variants]
    unknown = set(only) - set(names)
    if not names or unknown:
        raise UserError(f"{study.folder} has no variant {min(unknown, default='at all')}: {', '.join(names)}.")
    stages = ", ".join(f"{step.name}.yaml" for step in STEPS)
    if study.unknown:
        raise UserError(f"{study.unknown[0]} is the overlay of no stage: name it as one of {stages}.")
    if not study.steps:
        raise UserError(f"{study.folder} changes no stage: give its variants overlays, such as quantizer.yaml.")
    varied = [step.name for step in study.steps]
    if "quantizer" not in varied and varied[0] in QUANTIZER.needs:
        raise UserError(f"{study.folder} changes {varied[0]} but not the quantizer that reads it: add quantizer.yaml.")


def _folder(run: Path, study: Study, variant: Path) -> Path:
    """Where a variant is trained."""
    return run / "ablation" / study.name / variant.name


def _train(run: Path, recipe: Path, study: Study, variant: Path) -> None:
    folder = _folder(run, study, variant)
    if leftovers := _leftovers(folder, study):
        raise UserError(
            f"{folder / leftovers[0]} was trained when the study changed {leftovers[0]} too: delete {folder} to go on."
        )
    folder.mkdir(parents=True, exist_ok=True)
    first = STEPS.index(study.steps[0])
    shared = {"tokenizer", *(step.name for step in STEPS[:first])}
    for name in UPSTREAM:
        link = folder / name
        if link.is_symlink():  # of an earlier start, when the study or the run may have been another
            link.unlink()
        if name in shared and (run / name).is_dir() and not link.exists():
            link.symlink_to((run / name).resolve(), target_is_directory=True)
    for step in study.steps:
        run_step(step, folder, _files(step, recipe, study, variant), _left_out(folder, study))


def _is_current(run: Path, recipe: Path, study: Study, variant: Path) -> bool:
    """Whether training the variant now would skip every stage."""
    folder = _folder(run, study, variant)
    left_out = _left_out(folder, study)
    return not _leftovers(folder, study) and all(
        is_current(step, folder, _files(step, recipe, study, variant), left_out) for step in study.steps
    )


def _files(step: Step, recipe: Path, study: Study, variant: Path) -> list[Path]:
    return [*configs(step, recipe), *study.overlays(step, variant)]


def _leftovers(folder: Path, study: Study) -> list[str]:
    """Stages that a variant trained when the study was another, and would now mix with what is the run's."""
    others = [step.name for step in STEPS if step not in study.steps]
    return [name for name in others if (folder / name).is_dir() and not (folder / name).is_symlink()]


def _left_out(folder: Path, study: Study) -> set[str]:
    """Stages that a variant neither trains nor has from the run."""
    return {step.name for step in STEPS if step not in study.steps and not (folder / step.name).exists()}


def _row(folder: Path, num_beams: int) -> dict[str, Any]:
    """Figures of a variant's tokenizer, and what its last generator finds."""
    stages = [name for name in STAGES if (folder / name / "manifest.json").is_file()]
    return {
        "variant": folder.name.partition("-")[2] or folder.name,
        "figures": read_manifest(folder / "quantizer").facts["quality"],
        **(_judged(folder, stages[-1], num_beams) if stages else {"stage": None, "metrics": {}, "num_searches": 0}),
    }


def _judged(folder: Path, stage: str, num_beams: int) -> dict[str, Any]:
    """Metrics of a generator, over the test searches with a clicked item."""
    log, khqe = Log.open(folder / "log"), Khqe.open(folder)
    searches = [search for search in log.contexts("test") if search.clicked]
    system = OneSearch(stage, SearchEngine.open(folder, stage, khqe, num_beams))
    blind = [without_answer(search) for search in searches]
    relevant = [set(search.clicked) for search in searches]
    found = hits(pad(system.rank(blind, DEPTH), DEPTH), relevant)
    num_relevant = np.array([len(items) for items in relevant])
    values = np.stack([recall(found, num_relevant, DEPTH), reciprocal_rank(found, DEPTH)], axis=1)
    means, resampled = values.mean(axis=0), resampled_means(values)
    names = (f"recall@{DEPTH}", f"MRR@{DEPTH}")
    return {
        "stage": stage,
        "metrics": {
            name: interval(means[column].item(), resampled[:, column])._asdict() for column, name in enumerate(names)
        },
        "num_searches": len(searches),
    }


def _note(study: Study, stale: Sequence[str]) -> str:
    note = f"Each variant trains {', '.join(step.name for step in study.steps)} with the same budget."
    if stale:
        note += f" Left out, since not trained as they stand now: {', '.join(stale)}."
    return note
