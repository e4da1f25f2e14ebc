"""A variant trained with one seed: a run folder of its own, in which what the study does not vary is a link."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from onesearch.ablation.study import Variant
from onesearch.artifacts import ArtifactError, read_manifest
from onesearch.pipeline import STEPS, Step, is_current, run_step, seed_options
from onesearch.serve.engine import STAGES
from onesearch.types import UserError

UPSTREAM = ("tokenizer", *(step.name for step in STEPS))
"""Folders that a trial may take from the run."""


@dataclass(frozen=True)
class Trial:
    """One training of a variant.

    Args:
        run: a run whose earlier stages are finished.
        variant: what is trained.
        seed: of all random choices of what is trained here; the run's own stages keep theirs.
    """

    run: Path
    variant: Variant
    seed: int

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        return self.run / "ablation" / self.variant.study.name / self.variant.folder.name / f"seed-{self.seed}"

    @cached_property
    def steps(self) -> list[Step]:
        """The stages that are trained."""
        return self.variant.steps

    def train(self) -> None:
        """Train what is not up to date.

        Raises:
            UserError: a stage failed, or what an earlier study left here would mix with the run's own.
        """
        if leftovers := self._leftovers():
            raise UserError(
                f"{self.folder / leftovers[0]} was trained when the study changed {leftovers[0]} too: "
                f"delete {self.folder} to go on."
            )
        self._link_the_rest()
        for step in self.steps:
            run_step(step, self.folder, self.variant.files(step), self._options(step))

    def is_current(self) -> bool:
        """Whether training now would skip every stage."""
        try:
            return not self._leftovers() and all(
                is_current(step, self.folder, self.variant.files(step), self._options(step)) for step in self.steps
            )
        except ArtifactError:  # the trial that says how long to train is gone
            return False

    def num_steps(self, steps: list[Step]) -> int:
        """Optimizer steps that generators took."""
        folders = (self.folder / step.name for step in steps if step.name in STAGES)
        return sum(read_manifest(folder).facts["num_steps"] for folder in folders)

    def _options(self, step: Step) -> list[str]:
        """The command line's part of a stage's configuration: the seed, and how long the last stage trains."""
        options = seed_options(step, self.seed)
        first = self.variant.study.variants[0]
        if self.variant.study.settings.equal_steps and self.variant != first and step == self.steps[-1]:
            options += ["--trainer.max_epochs", "-1", "--trainer.max_steps", str(self._steps_left(first))]
        return options

    def _steps_left(self, first: Variant) -> int:
        """Steps of the first variant's generators that this one's earlier stages have not taken."""
        reference = Trial(self.run, first, self.seed)
        if not reference.is_current():
            raise ArtifactError(
                f"{self.folder} takes as many steps as {reference.folder}, which is not trained as it stands now: "
                f"train {first.folder.name} first."
            )
        total, taken = reference.num_steps(reference.steps), self.num_steps(self.steps[:-1])
        if taken >= total:
            raise UserError(
                f"{self.folder} took {taken} steps before its last stage, {reference.folder} {total} in all: "
                "shorten an earlier stage, or leave out 'equal_steps'."
            )
        return total - taken

    def _link_the_rest(self) -> None:
        """What comes before the first stage of the study is the run's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        first = STEPS.index(self.variant.study.steps[0])
        shared = {"tokenizer", *(step.name for step in STEPS[:first])}
        for name in UPSTREAM:
            link = self.folder / name
            if link.is_symlink():  # of an earlier start, when the study or the run may have been another
                link.unlink()
            if name in shared and (self.run / name).is_dir() and not link.exists():
                link.symlink_to((self.run / name).resolve(), target_is_directory=True)

    def _leftovers(self) -> list[str]:
        """Stages that were trained here when the study was another, and would now mix with what is the run's."""
        others = (step.name for step in STEPS if step not in self.steps)
        return [name for name in others if (self.folder / name).is_dir() and not (self.folder / name).is_symlink()]
