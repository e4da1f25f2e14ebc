"""What a study varies: its folder as overlays over a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from onesearch.pipeline import STEPS, Step, configs, merged, needs
from onesearch.serve.engine import STAGES
from onesearch.types import UserError

SETTINGS = "study.yaml"
QUANTIZER = next(step for step in STEPS if step.name == "quantizer")


@dataclass
class Settings:
    """What `study.yaml` may say.

    Args:
        stages: the stages that a variant trains; empty: those that some overlay names.
        equal_steps: the last stage of every variant trains for so long that its generators take as many steps together
            as those of the first variant: what a stage left out would have cost is given to the last one.
    """

    stages: list[str] = field(default_factory=list)
    equal_steps: bool = False


@dataclass(frozen=True)
class Study:
    """A folder of variants.

    Args:
        folder: of the study.
        recipe: the recipe that its overlays are laid over.
        settings: what its `study.yaml` says.
    """

    folder: Path
    recipe: Path
    settings: Settings

    @classmethod
    def open(cls, folder: Path, recipe: Path) -> "Study":
        """Read a study.

        Raises:
            UserError: the study changes nothing, or its files cannot do what they say.
        """
        if not folder.is_dir():
            raise UserError(f"{folder} is missing: a study is a folder with a folder of overlays for each variant.")
        study = cls(folder, recipe, _settings(folder / SETTINGS))
        _check(study)
        return study

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def variants(self) -> list["Variant"]:
        """In the order of their names; the first is what the others are compared with."""
        return [Variant(self, path) for path in sorted(self.folder.iterdir()) if path.is_dir()]

    @property
    def steps(self) -> list[Step]:
        """The stages that the study trains, in the order of the pipeline."""
        folders = [self.folder, *(variant.folder for variant in self.variants)]
        named = {step.name for step in STEPS if any((folder / f"{step.name}.yaml").is_file() for folder in folders)}
        return [step for step in STEPS if step.name in named.union(self.settings.stages)]


@dataclass(frozen=True)
class Variant:
    """A folder of overlays inside a study."""

    study: Study
    folder: Path

    @property
    def name(self) -> str:
        """The folder's name without the number that orders it."""
        return self.folder.name.partition("-")[2] or self.folder.name

    @property
    def steps(self) -> list[Step]:
        """The stages that this variant trains: what no later one of them reads is left out."""
        trained = self.study.steps
        generators = [step.name for step in trained if step.name in STAGES]
        wanted = {trained[-1].name, *generators[-1:]}
        kept: list[Step] = []
        for step in reversed(trained):
            if step.name in wanted:
                kept.insert(0, step)
                wanted.update(needs(step, self.files(step)))
        return kept

    def files(self, step: Step) -> list[Path]:
        """The configuration of a stage: its own, the recipe's, the study's, the variant's; the last one wins."""
        overlays = (folder / f"{step.name}.yaml" for folder in (self.study.folder, self.folder))
        return [*configs(step, self.study.recipe), *(file for file in overlays if file.is_file())]


def _settings(path: Path) -> Settings:
    """What a `study.yaml` says; nothing is said where there is none."""
    try:
        settings = OmegaConf.to_object(merged([path] if path.is_file() else [], Settings))
    except OmegaConfBaseException as error:  # a value that refers to another, which is not there
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from error
    assert isinstance(settings, Settings)
    return settings


def _check(study: Study) -> None:
    """Refuse a study that does nothing, or not what its files say."""
    if not study.variants:
        raise UserError(f"{study.folder} has no variant at all: give each a folder of overlays.")
    names = [step.name for step in STEPS if step.name != "log"]  # all variants answer the same searches
    unknown = [name for name in study.settings.stages if name not in names]
    if unknown:
        raise UserError(
            f"{study.folder / SETTINGS} names no stage with '{unknown[0]}': use some of {', '.join(names)}."
        )
    for path in _overlays(study):
        if path.suffix != ".yaml" or path.stem not in names:
            stages = ", ".join(f"{name}.yaml" for name in names)
            raise UserError(f"{path} is the overlay of no stage that can be varied: name it as one of {stages}.")
    if not study.steps:
        raise UserError(f"{study.folder} changes no stage: give its variants overlays, such as quantizer.yaml.")
    varied = [step.name for step in study.steps]
    if "quantizer" not in varied and varied[0] in QUANTIZER.needs:
        raise UserError(f"{study.folder} changes {varied[0]} but not the quantizer that reads it: add quantizer.yaml.")


def _overlays(study: Study) -> list[Path]:
    """All YAML files of a study but its settings."""
    folders = (study.folder, *(variant.folder for variant in study.variants))
    files = (path for folder in folders for path in sorted(folder.glob("*.y*ml")))
    return [path for path in files if path != study.folder / SETTINGS]


def check_variant(variant: Variant) -> None:
    """Refuse a variant with an overlay of a stage that none of its later stages starts from.

    Raises:
        UserError: it would change nothing.
    """
    trained = {step.name for step in variant.steps}
    idle = [path for path in sorted(variant.folder.glob("*.yaml")) if path.stem not in trained]
    if idle:
        raise UserError(f"{idle[0]} changes nothing: no later stage of this variant starts from {idle[0].stem}.")


def chosen(study: Study, only: Sequence[str]) -> list[Variant]:
    """The variants of some names, all where none is given.

    Raises:
        UserError: there is no such variant, or it would change nothing.
    """
    names = [variant.folder.name for variant in study.variants]
    for name in only:
        if name not in names:
            raise UserError(f"{study.folder} has no variant {name}: {', '.join(names)}.")
    variants = [variant for variant in study.variants if not only or variant.folder.name in only]
    for variant in variants:
        check_variant(variant)
    return variants
