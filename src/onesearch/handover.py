"""The pipeline for whoever starts its processes: what there is to do, as lines that a shell reads.

The jobs of a cluster must start a stage's training once a device, while what is decided before it (is it up to date?)
and noted after it happens once. A launcher inside of the pipeline could do so only where it finds `srun`, which a
container does not hold; so here the decision is printed, and the job's shell launches.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from onesearch import pipeline
from onesearch.pipeline import Step
from onesearch.types import UserError


def stages(recipe: Path, until: str | None = None) -> list[str]:
    """A line a stage of the recipe, up to the one named: its name, and what it can use.

    That is `cpu` where nothing is trained, `one` device, or `all` that there are.
    """
    return [f"{step.name} {_uses(step)}" for step in pipeline.asked_for(recipe, until)]


def begin(name: str, run: Path, recipe: Path, log_options: Sequence[str] = (), seed: int | None = None) -> list[str]:
    """Note that a stage begins; its commands, or nothing where it is up to date.

    Args:
        name: of the stage.
        run: the run folder.
        recipe: a folder of overlays, as `onesearch pipeline` reads it.
        log_options: further options of the log step.
        seed: of the stages' random choices; None: what their configurations say.

    Returns:
        a line a command, quoted for a shell: `one` or `all`, for how many processes run it, then its arguments.

    Raises:
        UserError: the recipe has no such stage, or what it reads is not there.
    """
    step = _step(name, recipe)
    options = pipeline.options_of(step, log_options, seed)
    commands = pipeline.begin(step, run, pipeline.configs(step, recipe), options)
    return [f"{'one' if command[0] in step.alone else 'all'} {shlex.join(command)}" for command in commands]


def end(name: str, run: Path, recipe: Path) -> list[str]:
    """Note that the commands which `begin` gave have succeeded; the arguments are those of `begin`."""
    pipeline.end(_step(name, recipe), run)
    return []


def _step(name: str, recipe: Path) -> Step:
    found = {step.name: step for step in pipeline.asked_for(recipe)}
    if name not in found:
        raise UserError(f"{recipe} has no step '{name}': use one of {', '.join(found)}.")
    return found[name]


def _uses(step: Step) -> str:
    if "prepare" in step.verbs:
        return "cpu"
    return "one" if {*step.verbs} <= {*step.alone} else "all"
