"""Ablations: how well each variant answers, and how far it lies from the first one on the same searches."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from onesearch.report.differences import KINDS, METRIC, Row, compared, figure, part
from onesearch.report.elements import Cell, column, element, join, note, table
from onesearch.report.inputs import read_json
from onesearch.report.page import Section

METRICS = (METRIC, "MRR@10", "oNDCG@10")
"""The last one only where the log knows of orders."""


def section(run: Path) -> Section | None:
    """The tables of `RUN/ablation/STUDY.json`, a study each; without generators a study has nothing to show here."""
    studies = {path.stem: read_json(path) for path in sorted((run / "ablation").glob("*.json"))}
    judged = {name: content for name, content in studies.items() if any(row["metrics"] for row in content["rows"])}
    if not judged:
        return None
    parts = (_study(name, content["rows"], content["note"]) for name, content in judged.items())
    explained = note(
        "The best of a column is bold, and so is a difference whose interval and seeds, two or more, all lie on one "
        "side of zero. Differences are to the first variant on the same searches."
    )
    return Section("studies", "Ablations", join([*parts, explained]))


def _study(name: str, rows: Sequence[Row], explained: str) -> Markup:
    head = element("h3", name, " ", element("small", f"{rows[0]['num_searches']:,} searches"))
    pictures = [figure(rows)] if compared(rows) else []
    return join([head, note(explained), _overall(rows), *pictures, _by_kind(rows)])


def _overall(rows: Sequence[Row]) -> Markup:
    """Metrics over all searches, and what separates them from the first variant's."""
    metrics = [metric for metric in METRICS if metric in rows[0]["metrics"]]
    columns = [_metric(rows, metric) for metric in metrics]
    columns += [[_difference(row, metric) for row in rows] for metric in metrics]
    header = ("variant", *metrics, *(f"{metric}, difference" for metric in metrics))
    return table(header, zip([row["variant"] for row in rows], *columns, strict=True))


def _by_kind(rows: Sequence[Row]) -> Markup:
    """The first metric by kind of search, and the difference beneath it."""
    kinds = [kind for kind in KINDS if kind != "all" and part(rows[0], kind)]
    header = [f"{KINDS[kind]}, {part(rows[0], kind)['num_searches']:,}" for kind in kinds]  # type: ignore[index]
    columns = [[found for row in rows if (found := part(row, kind))] for kind in kinds]
    cells = [
        [figure + _difference(row, METRIC, small=True) for figure, row in zip(_plain(found), found, strict=True)]
        for found in columns
    ]
    return table((f"{METRIC} of", *header), zip([row["variant"] for row in rows], *cells, strict=True))


def _plain(rows: Sequence[Row]) -> list[Markup]:
    return column([Cell.of(row["metrics"][METRIC]["value"], ".3f") for row in rows])


def _metric(rows: Sequence[Row], name: str) -> list[Markup]:
    """A metric of each variant with its interval, over the range of its seeds where there are several."""
    found = [row["metrics"][name] for row in rows]
    printed = column([Cell.of(each["value"], ".3f", each["low"], each["high"]) for each in found])
    return [cell + _seeds(each, ".3f") for cell, each in zip(printed, found, strict=True)]


def _difference(row: Row, name: str, small: bool = False) -> Markup:
    """A difference with its interval; the first variant has none."""
    found = row["differences"].get(name)
    if found is None:
        return Markup("") if small else element("span", "–")
    value = element("strong" if _is_told_from_zero(found) else "span", signed(found["value"]))
    reach = f"{signed(found['low'])} to {signed(found['high'])}"
    if small:
        return element("small", value, f" ({reach})")
    return value + element("small", reach) + _seeds(found, "+.3f")


def _is_told_from_zero(found: Row) -> bool:
    """Whether neither other users nor other seeds would change the sign; one seed says nothing of others."""
    reached = found["low"], found["high"], *found["seeds"]
    return len(found["seeds"]) > 1 and (min(reached) > 0 or max(reached) < 0)


def _seeds(found: Row, form: str) -> Markup:
    """The least and the largest of several seeds."""
    seeds = found["seeds"]
    if len(seeds) < 2:
        return Markup("")
    return element("small", f"seeds {min(seeds):{form}} to {max(seeds):{form}}".replace("-", "−"))


def signed(value: float) -> str:
    """A difference as it is printed, with a minus as wide as the plus."""
    return f"{value:+.3f}".replace("-", "−")
