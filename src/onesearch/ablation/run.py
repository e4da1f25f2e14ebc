"""`onesearch ablate`: train the variants of a study, judge them, write their table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onesearch.ablation.answers import answers
from onesearch.ablation.averages import averages, judged
from onesearch.ablation.study import Study, chosen
from onesearch.ablation.trial import Trial
from onesearch.artifacts import read_manifest, write_json
from onesearch.evaluate.compare import SLICES, slices
from onesearch.evaluate.orders import orders_of
from onesearch.log.prepared import Log
from onesearch.log.searches import outcomes_of, users_of
from onesearch.metrics.ranking import Values
from onesearch.pipeline import console
from onesearch.report.differences import write_picture
from onesearch.serve.engine import STAGES
from onesearch.types import UserError

Row = dict[str, Any]

NOTHING: Row = {"num_searches": 0, "metrics": {}, "differences": {}, "slices": {}}
"""Of a variant without a generator."""


def run_study(
    run: Path,
    study: Study,
    seeds: Sequence[int] = (0,),
    only: Sequence[str] = (),
    num_beams: int = 64,
    table: bool = True,
) -> list[Row]:
    """Train and judge the variants of a study; rows of the table, which is written to RUN/ablation/STUDY.json too.

    Args:
        run: a run whose earlier stages are finished.
        study: what is varied.
        seeds: each variant is trained once with each.
        only: names of the variants to train now; empty: all. The table holds all that are trained as they stand now.
        num_beams: K of the beam search.
        table: whether to judge them and write the table; else there are no rows.

    Raises:
        UserError: one of `only` is no variant of the study, a seed is given twice, or a stage failed.
    """
    if not seeds or len({*seeds}) < len(seeds):
        raise UserError(f"The seeds are {list(seeds)}: give at least one, and none twice.")
    for variant in chosen(study, only):
        for seed in seeds:
            Trial(run, variant, seed).train()
    if not table:
        return []
    trials = {variant.folder.name: [Trial(run, variant, seed) for seed in seeds] for variant in study.variants}
    current = {name: found for name, found in trials.items() if all(trial.is_current() for trial in found)}
    rows = _rows(list(current.values()), study, num_beams)
    note = _note(study, seeds, [name for name in trials if name not in current])
    console.print(note)
    path = run / "ablation" / f"{study.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"rows": rows, "note": note})
    write_picture(rows, path.with_suffix(".png"))
    return rows


def _rows(trials: Sequence[Sequence[Trial]], study: Study, num_beams: int) -> list[Row]:
    """A row a variant: figures of its tokenizer, and what its last generator finds."""
    if not trials:
        return []
    stages = [name for name in STAGES if (trials[0][0].folder / name / "manifest.json").is_file()]
    compares = trials[0][0].variant == study.variants[0]  # or else there is nothing to compare with
    found = _judged(trials, stages[-1], num_beams, compares) if stages else [NOTHING] * len(trials)
    return [
        {
            "variant": seeds[0].variant.name,
            "seeds": [trial.seed for trial in seeds],
            "figures": _quality(seeds),
            "stage": stages[-1] if stages else None,
            **judgement,
        }
        for seeds, judgement in zip(trials, found, strict=True)
    ]


def _quality(trials: Sequence[Trial]) -> dict[str, float]:
    """Figures of the tokenizer, averaged over seeds."""
    found = [read_manifest(trial.folder / "quantizer").facts["quality"] for trial in trials]
    return {name: float(np.mean([figures[name] for figures in found])) for name in found[0]}


def _judged(trials: Sequence[Sequence[Trial]], stage: str, num_beams: int, compares: bool) -> list[Row]:
    """Averages of each variant over the test searches with a clicked item, and over their slices."""
    log = Log.open(trials[0][0].folder / "log")
    searches = log.contexts("test").answered
    if not searches:
        raise UserError("No test search has a clicked item that is in the catalogue: choose an earlier test date.")
    relevant = [set(found.clicked) for found in outcomes_of(searches)]
    orders = orders_of(log)

    def values_of(trial: Trial) -> Values:
        ranked = answers(trial.folder, stage, searches, num_beams)
        return judged(ranked, relevant, orders.judge(ranked, searches) if orders else None)

    values = np.array([[values_of(trial) for trial in seeds] for seeds in trials])
    members = slices(searches, set(log.queries["query"].to_pylist()))
    users = users_of(searches)
    kinds = [(name, members[name]) for name in SLICES if members[name].any()]
    parts = {name: averages(values[:, :, part], users[part], compares) for name, part in kinds}
    rows = [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
    return [row.pop("all") | {"slices": row} for row in rows]


def _note(study: Study, seeds: Sequence[int], stale: Sequence[str]) -> str:
    """What was trained, and what the intervals do not hold."""
    note = f"Each variant trains {', '.join(step.name for step in study.steps)} with the same budget"
    note += ", counted in steps of all generators together. " if study.settings.equal_steps else ". "
    if len(seeds) == 1:
        note += "One training each: the intervals are over users, and do not hold what another seed would change."
    else:
        note += (
            f"Means of {len(seeds)} trainings each: the intervals are over users, and do not hold what other seeds "
            "would change; that is seen in the range of the seeds."
        )
    if stale:
        note += f" Left out, since not trained as they stand now: {', '.join(stale)}."
    return note
