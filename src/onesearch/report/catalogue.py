"""The living catalogue: how the frozen codebook serves what came after its fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onesearch.report.elements import Cell, note, table
from onesearch.report.figures import DOWN, UP
from onesearch.report.inputs import read_json
from onesearch.report.page import Section

FIGURES = {  # of `metrics.drift`, with their formats
    "residual_ratio": (f"residual ratio {DOWN}", ".2f"),
    "new_sids": ("new SIDs", ".1%"),
    "new_prefixes": ("new prefixes", ".1%"),
    "icr_items": (f"ICR, of items {UP}", ".2%"),
    "icr_items_of_fit": ("at the fit", ".2%"),
}


def section(run: Path) -> Section | None:
    """A line for each version that belongs to the run's codebook, from `RUN/catalogue/*/drift.json`."""
    if not (run / "catalogue").is_dir():
        return None
    from onesearch.sid.versions import folder_of, versions  # brings torch along, which no other section needs

    drifts = [read_json(folder_of(run, version) / "drift.json") for version in versions(run)]
    rows = [_row(drift) for drift in drifts if drift is not None]  # the fitted catalogue, version 0, has no drift
    if not rows:
        return None
    header = ("version", "items added", *(title for title, _ in FIGURES.values()), "advice")
    explained = note(
        "Residual ratio: how coarsely the items that came after the fit are coded, 1 as those of the fit. "
        "New SIDs and prefixes: how many of these items fall on codes that no item of the fit has."
    )
    return Section("catalogue", "The living catalogue", table(header, rows, class_="figures wordy") + explained)


def _row(drift: Mapping[str, Any]) -> tuple[str, ...]:
    figures = (Cell.of(drift["figures"].get(name), form).printed for name, (_, form) in FIGURES.items())
    return (f"{drift['version']}", f"{drift['num_items']:,}", *figures, " ".join(drift["advice"]) or "–")
