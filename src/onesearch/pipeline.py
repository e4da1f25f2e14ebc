"""The whole of OneSearch on one page: the list of stages, and how it is run.

    onesearch pipeline --run runs/demo --recipe configs/demo

A step is done again only when its inputs, its configuration or the code changed. A step that was interrupted goes on
from its last checkpoint. SIGTERM and SIGUSR1 reach the step that runs, and the pipeline ends as it does, with code 75.
"""

import contextlib
import hashlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigTypeError
from rich.console import Console

import onesearch
from onesearch.artifacts import ArtifactError, read_manifest, verify, write_json
from onesearch.resilience.signals import ENDINGS, NotFinished, asked
from onesearch.resilience.signals import run as run_child
from onesearch.serve.engine import ROUND, STAGES, stage_of
from onesearch.tasks.template import Template
from onesearch.types import UserError


@dataclass(frozen=True)
class Step:
    """One step: what it is called, which folders of the run it reads, which verbs it runs.

    An optional step runs only where the recipe has a file of its own for it. Verbs in `alone` are one process's work,
    however many there are.
    """

    name: str
    needs: tuple[str, ...]
    verbs: tuple[str, ...] = ("fit",)
    optional: bool = False
    alone: tuple[str, ...] = ()


STEPS = (
    Step("log", (), ("prepare",), alone=("prepare",)),
    Step("encoder", ("log",)),
    Step("tagger", ("log",), optional=True),
    Step("quantizer", ("log", "encoder", "tagger"), alone=("fit",)),
    Step("sft_align", ("log", "quantizer")),
    Step("sft_cooccur", ("log", "quantizer", "sft_align")),
    Step("sft_personalize", ("log", "quantizer", "sft_cooccur")),
    Step("reward", ("log", "quantizer")),
    Step("dpo_hybrid", ("log", "quantizer", "sft_personalize", "reward"), ("predict", "fit"), alone=("predict",)),
    Step("dpo_logged", ("log", "quantizer", "dpo_hybrid"), ("predict", "fit"), alone=("predict",)),
)
"""The stages in their order. The folder of a step in the run bears its name."""

SEEDED = {"quantizer": ("model",), "dpo_hybrid": ("data", "model"), "dpo_logged": ("data", "model")}
"""Which parts of a stage draw by a seed of their own; elsewhere it is the data's alone."""

BESIDE_THE_STAGES = (
    *("main.py", "commands.py", "handover.py", "ablation", "pipeline.py", "planning", "evaluate", "report"),
    *("data/samples.py", "tasks/show.py", "simulate/truth.py"),
    *("serve/show.py", "serve/http", "serve/service.py", "serve/generation.py", "serve/batcher.py", "serve/events.py"),
    *("serve/shoppers.py", "serve/meanings.py", "serve/matches.py", "serve/settings.py", "serve/telemetry.py"),
)
"""Code that no artefact depends on: a change here repeats no stage."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


def run_pipeline(
    run: Path, recipe: Path, log_options: Sequence[str] = (), until: str | None = None, seed: int | None = None
) -> None:
    """Run every step that is not up to date.

    Args:
        run: the run folder.
        recipe: a folder of overlays, one a stage that differs from `configs/STAGE.yaml`, and `log.yaml`.
        log_options: further options of the log step, such as `--source.folder`.
        until: the last step to run; None: all.
        seed: of all random choices of the stages; None: what their configurations say. The log's stays: another
            marketplace is another question.

    Raises:
        UserError: the recipe or a step is not there, or a step failed.
    """
    for step in asked_for(recipe, until):
        run_step(step, run, configs(step, recipe), options_of(step, log_options, seed))


def asked_for(recipe: Path, until: str | None = None) -> list[Step]:
    """The steps that a recipe has, up to the one named; arguments and refusals are those of `run_pipeline`."""
    steps = steps_of(recipe)
    names = [step.name for step in steps]
    if until is not None and until not in names:
        raise UserError(f"There is no step '{until}': use one of {', '.join(names)}.")
    if not (recipe / "log.yaml").is_file():
        raise UserError(f"{recipe} has no log.yaml: a recipe says at least where the log comes from.")
    last = len(names) if until is None else names.index(until) + 1
    return [step for step in steps[:last] if not step.optional or (recipe / f"{step.name}.yaml").is_file()]


def options_of(step: Step, log_options: Sequence[str], seed: int | None) -> Sequence[str]:
    """What the command line of the pipeline adds to a step's; the arguments are those of `run_pipeline`."""
    return log_options if step.name == "log" else () if seed is None else seed_options(step, seed)


def seed_options(step: Step, seed: int) -> list[str]:
    """The command line's part of a stage's configuration that makes all its random choices another one's."""
    parts = ((f"--{part}.init_args.seed", str(seed)) for part in SEEDED.get(stage_of(step.name), ("data",)))
    return ["--seed_everything", str(seed), *chain.from_iterable(parts)]


def steps_of(recipe: Path) -> list[Step]:
    """`STEPS`, then the further rounds of preference stages that the recipe has files for, such as `dpo_hybrid_2`.

    A round does what its stage does, in a folder of its own, from the generator that its file names.
    """
    stages = {step.name: place for place, step in enumerate(STEPS) if "predict" in step.verbs}
    found = (path.stem for path in recipe.glob("*.yaml") if ROUND.search(path.stem) and stage_of(path.stem) in stages)
    rounds = sorted(found, key=lambda name: (int(name.rsplit("_", 1)[1]), stages[stage_of(name)]))
    return [*STEPS, *(replace(STEPS[stages[stage_of(name)]], name=name) for name in rounds)]


def configs(step: Step, recipe: Path) -> list[Path]:
    """The configuration files of a step, the stage's own first, the recipe's overlay last.

    Raises:
        UserError: there is none, or that of a further round would write into another folder or start from nowhere.
    """
    stage = stage_of(step.name)
    places = [recipe.parent / f"{stage}.yaml", recipe / f"{stage}.yaml", recipe / f"{step.name}.yaml"]
    files = [path for path in dict.fromkeys(places) if path.is_file()]
    if not files:
        raise UserError(f"The step '{step.name}' has no configuration: {recipe.parent / step.name}.yaml is missing.")
    if stage != step.name and (
        _stated(files[-1:], "model.init_args.name") != step.name or not _stated(files[-1:], "model.init_args.init_from")
    ):
        raise UserError(
            f"{files[-1]} is a further round of {stage}: under 'model.init_args', set 'name' to {step.name} and "
            "'init_from' to the stage that it starts from."
        )
    return files


def needs(step: Step, files: Sequence[Path]) -> tuple[str, ...]:
    """The folders of the run that a step reads as it is configured.

    They are the step's own, but for two choices: a generator starts from the stage that `init_from` names, if any, and
    core keywords are mined with the tagger only where `tagger` says so.
    """
    start = _stated(files, "model.init_args.init_from")
    unread = {*STAGES} if _stated(files, "model.init_args.tagger") else {*STAGES, "tagger"}
    return (*(need for need in step.needs if need not in unread), *((start,) if start else ()))


def _stated(files: Sequence[Path], option: str) -> Any:
    """What the files say of an option; None where they say nothing, or what only the step itself can make out."""
    with contextlib.suppress(ConfigTypeError):  # a list where names belong
        return OmegaConf.select(merged(files), option, throw_on_resolution_failure=False)
    return None


def merged(files: Sequence[Path], defaults: Any = None) -> DictConfig:
    """Configuration files over one another, the last one wins.

    Args:
        files: YAML files of names and values.
        defaults: what the first of them is laid over: a dataclass, whose fields are then the names there are.

    Raises:
        UserError: one of them cannot be read, or not be laid over those before it.
    """
    found: Any = OmegaConf.structured(defaults) if defaults else OmegaConf.create()
    for file in files:
        try:
            found = OmegaConf.merge(found, OmegaConf.load(file))
        except Exception as error:  # PyYAML's errors have no common base but this one that we depend on
            raise UserError(f"{file}{_problem(error)}") from error
        parts: Any = OmegaConf.to_container(found)
        for part, options in parts.items():
            if isinstance(options, dict) and options.get("init_args", {}) is None:
                raise UserError(f"{file}: '{part}.init_args' is empty: write options beneath it, or take it out.")
    assert isinstance(found, DictConfig)
    return found


def _problem(error: Exception) -> str:
    """What is wrong in a file that could not be read or merged, where that is known, and the way out."""
    if mark := getattr(error, "problem_mark", None):
        problem = getattr(error, "problem", "it is no YAML")
        return f", line {mark.line + 1}: {problem}: mend it there or just above, and indent by spaces, never by tabs."
    if type(error) is TypeError:  # OmegaConf's words for it are 'incompatible container types'
        return ": a list stands where names with values belong, or these where a list belongs: write it the other way."
    return f": {str(error).splitlines()[0]}: correct it, or take it out."


def run_step(step: Step, run: Path, files: Sequence[Path], options: Sequence[str] = ()) -> None:
    """Run one step unless it is up to date.

    Args:
        step: of `STEPS`.
        run: the run folder.
        files: its configuration files, the last one wins.
        options: further options of the command line.
    """
    commands = begin(step, run, files, options)
    for arguments in commands:
        _launch(arguments, step.name)
    if commands:
        end(step, run)


def begin(step: Step, run: Path, files: Sequence[Path], options: Sequence[str] = ()) -> list[list[str]]:
    """Note that a step begins; the arguments are those of `run_step`.

    Who runs its commands elsewhere, as the jobs of a cluster do, calls this before them and `end` after their success.

    Returns:
        the command lines of its verbs, without the program's name; none where the step is up to date.
    """
    known, key = _known(step, run), _key(step, run, files, options)
    if _is_done(step, run, key):
        console.print(f"[dim]{step.name}: unchanged, skipped ({known['seconds']:.0f} s when it ran)[/dim]")
        return []
    stamp = _stamp(step, run)
    if known.get("key") != key:
        shutil.rmtree(stamp.parent, ignore_errors=True)  # checkpoints of another configuration are no start
    stamp.parent.mkdir(parents=True, exist_ok=True)
    write_json(stamp, {"key": key, "done": False, "began": time.time()})
    return [_command(verb, run, files, options) for verb in step.verbs]


def end(step: Step, run: Path) -> None:
    """Note that the commands of a step have succeeded.

    Raises:
        UserError: the step has not begun.
    """
    known = _known(step, run)
    if not known:
        raise UserError(f"{_stamp(step, run)} is missing: the step '{step.name}' ends before it has begun.")
    if not known["done"]:
        seconds = time.time() - known["began"]
        write_json(_stamp(step, run), {"key": known["key"], "done": True, "seconds": seconds})
        console.print(f"[green]{step.name}: done in {seconds:.0f} s[/green]")


def is_current(step: Step, run: Path, files: Sequence[Path], options: Sequence[str] = ()) -> bool:
    """Whether what a step left is intact and made from what there is now; the arguments are those of `run_step`."""
    try:
        return _is_done(step, run, _key(step, run, files, options))
    except ArtifactError:  # a parent is gone
        return False


def _is_done(step: Step, run: Path, key: str) -> bool:
    """Whether a step has run to its end with this key, and what it left is intact."""
    known = _known(step, run)
    return bool(known.get("done") and known["key"] == key) and _is_intact(run / step.name)


def _stamp(step: Step, run: Path) -> Path:
    return run / "training" / step.name / "step.json"


def _known(step: Step, run: Path) -> dict[str, Any]:
    """What the last start of a step noted of itself."""
    stamp = _stamp(step, run)
    return json.loads(stamp.read_text("utf-8")) if stamp.is_file() else {}


def _command(verb: str, run: Path, files: Sequence[Path], options: Sequence[str]) -> list[str]:
    arguments = [argument for file in files for argument in ("--config", str(file))]
    resume = ["--ckpt_path", "last"] if verb == "fit" else []
    stream = ["--return_predictions", "false"] if verb == "predict" else []
    return [verb, *arguments, "--run", str(run), *resume, *stream, *options]


def _launch(arguments: Sequence[str], name: str) -> None:
    """Each verb is a process of its own: memory is freed between stages, and what runs is what a user would type."""
    if (signum := asked()) is not None:
        raise NotFinished(f"Stopped by {signum.name} before the step '{name}': start the same command again to go on.")
    console.print(f"[bold]{name}:[/bold] onesearch {shlex.join(arguments)}")
    code = run_child([sys.executable, "-m", "onesearch.main", *arguments])
    if code in ENDINGS:
        raise NotFinished(f"The step '{name}' was asked to stop and is not finished: start the same command again.")
    if code:
        raise UserError(f"The step '{name}' failed (exit code {code}); see above. Run again to go on.")


def _key(step: Step, run: Path, files: Sequence[Path], options: Sequence[str]) -> str:
    """What a step depends on: the fingerprints of what it reads, its configuration, the code."""
    parents = [read_manifest(run / need).fingerprint for need in needs(step, files)]
    configuration: list[Any] = [file.read_text("utf-8") for file in files]
    if template := _stated(files, "data.init_args.template"):
        configuration.append(Template.load(template).plain())  # the words, which may be a file of one's own
    content = json.dumps([step.name, step.verbs, parents, configuration, list(options), code_version()])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def code_version(also: Sequence[str] = ()) -> str:
    """What the code of the stages is known by.

    Args:
        also: files beside the stages that count as well, inside the package.
    """
    root = Path(onesearch.__file__).parent
    files = (path.relative_to(root) for path in sorted(root.rglob("*.*")) if path.suffix in (".py", ".json", ".yaml"))
    counted = [file for file in files if str(file) in also or not any(map(file.is_relative_to, BESIDE_THE_STAGES))]
    return hashlib.sha256(b"".join((root / file).read_bytes() for file in counted)).hexdigest()[:16]


def _is_intact(folder: Path) -> bool:
    try:
        verify(folder, read_manifest(folder).kind)
    except ArtifactError:
        return False
    return True
