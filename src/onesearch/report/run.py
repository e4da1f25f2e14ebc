"""`onesearch report`: what a run has left behind, as one HTML page."""

from pathlib import Path

from onesearch.report import catalogue, comparison, doctor, lexicon, studies, tagger, tokenizers
from onesearch.report.page import page
from onesearch.types import UserError

SECTIONS = (
    doctor.section,
    tokenizers.section,
    lexicon.section,
    tagger.section,
    comparison.section,
    studies.section,
    catalogue.section,
)
"""In the order of the page. Each looks for its own input and is left out where that is not there."""


def write_report(run: Path) -> Path:
    """Write `RUN/report.html` and return its path.

    Raises:
        UserError: the run holds nothing to report on, or a file that cannot be read.
    """
    sections = [section for build in SECTIONS if (section := build(run)) is not None]
    if not sections:
        raise UserError(
            f"{run} holds nothing to report on: run `onesearch pipeline --run {run} --until quantizer`, then "
            f"`{doctor.validate_command(run)}`."
        )
    path = run / "report.html"
    path.write_text(page(f"OneSearch · {run.resolve().name}", sections), "utf-8")
    return path
