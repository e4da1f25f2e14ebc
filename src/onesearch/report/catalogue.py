"""The living catalogue: the figures of the frozen codebook on each later version."""

from pathlib import Path
from typing import Any

from onesearch.report.elements import Cell, note, table
from onesearch.report.figures import MEANINGS
from onesearch.report.inputs import read_json
from onesearch.report.page import Section

SHOWN = ("icr_items", "icr_sids", "largest_bucket", "reconstruction_error", "purity_l1")


def section(run: Path) -> Section | None:
    """A line a version, in their order, from `RUN/catalogue/*/drift.json`."""
    found = [read_json(path) for path in (run / "catalogue").glob("*/drift.json")]
    versions = sorted(found, key=lambda version: int(version["version"]))
    if not versions:
        return None
    shown = [meaning for meaning in MEANINGS if meaning.name in SHOWN]
    header = ("version", "items", *(f"{meaning.title} {meaning.better}" for meaning in shown), "advice")
    rows = [
        (
            f"{version['version']}",
            f"{version['num_items']:,}",
            *(Cell.of(version["figures"].get(meaning.name), meaning.form).printed for meaning in shown),
            _advice(version["advice"]),
        )
        for version in versions
    ]
    explained = note("The figures of the frozen codebook on each later version of the catalogue.")
    return Section("catalogue", "The living catalogue", table(header, rows, class_="figures wordy") + explained)


def _advice(advice: list[Any]) -> str:
    return " ".join(entry["sentence"] if isinstance(entry, dict) else str(entry) for entry in advice) or "–"
