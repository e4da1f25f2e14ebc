"""The words of a prompt, in one language: what is asked of the model, and a heading for each part.

Every part keeps its marker; a template writes words behind it, which a pretrained model knows from the first step:

    markers   <to_item>                          <query>               red boots …
    en        <to_item> A user is searching …    <query> The query is: red boots …
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from onesearch.tasks.prompt import ASKS, SECTIONS
from onesearch.types import UserError

TEMPLATES = Path(__file__).parent / "templates"
"""The templates that come along: `markers`, `en` and `zh`."""


@dataclass(frozen=True)
class Template:
    """What stands behind the markers; without arguments nothing does.

    Args:
        asks: task → the sentence that asks for its answer.
        sections: part of a prompt → its heading.
    """

    asks: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(ASKS, ""))
    sections: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(SECTIONS, ""))

    @classmethod
    def load(cls, name: str) -> "Template":
        """Read a template.

        Args:
            name: `markers`, `en`, `zh`, or the path of a YAML file of one's own.

        Raises:
            UserError: there is no such template, or one of its texts is missing, unknown or no text.
        """
        path = Path(name) if name.endswith((".yaml", ".yml")) else TEMPLATES / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(path.stem for path in TEMPLATES.glob("*.yaml")))
            raise UserError(f"There is no template '{name}': use one of {known}, or the path of a YAML file.")
        try:
            content: Any = OmegaConf.to_container(OmegaConf.load(path))
        except Exception as error:  # PyYAML's errors have no common base but this one that we depend on
            raise UserError(f"{path} is no YAML that can be read: {error}") from error
        parts = content if isinstance(content, dict) else {}
        return cls(_texts(parts, "asks", tuple(ASKS), path), _texts(parts, "sections", SECTIONS, path))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Template":
        """The template that a generator's settings hold; one that was trained before there were any read no words."""
        return cls(**settings.get("template", {}))

    def plain(self) -> dict[str, dict[str, str]]:
        """What `of` reads, for a generator's settings: the words themselves, as a file may change or go."""
        return {part.name: dict(getattr(self, part.name)) for part in fields(self)}


def _texts(content: Mapping[str, Any], part: str, names: Sequence[str], path: Path) -> dict[str, str]:
    """One part of a template file, with exactly these names."""
    texts = content.get(part)
    if not isinstance(texts, dict):
        raise UserError(f"{path} has no part '{part}': copy {TEMPLATES / 'markers.yaml'} and fill it in.")
    for name in names:
        if not isinstance(texts.get(name), str):
            raise UserError(f"{path}: '{part}' has no text for '{name}': add one, \"\" for the marker alone.")
    for name in texts:
        if name not in names:
            raise UserError(f"{path}: '{part}' has a text for '{name}', which no prompt holds: take it out.")
    return {name: texts[name].strip() for name in names}
