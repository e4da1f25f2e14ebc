"""How well the tagger marks attribute values, by type, in titles and in queries."""

from pathlib import Path

from onesearch.artifacts import MANIFEST, read_manifest
from onesearch.report.elements import Cell, note, table
from onesearch.report.page import Section
from onesearch.types import ATTRIBUTE_TYPES

SOURCES = ("items", "queries")


def section(run: Path) -> Section | None:
    """A line for all types together, and one for each that occurs."""
    folder = run / "tagger"
    if not (folder / MANIFEST).is_file():
        return None
    facts = read_manifest(folder).facts
    num_spans, scores = facts["num_spans"], [facts["f1"][source] for source in SOURCES]
    everything = [
        ("all types", f"{sum(num_spans.values()):,}", *(f"{facts['val'][name]['f1']:.3f}" for name in SOURCES))
    ]
    by_type = [
        (type_, f"{num_spans[type_]:,}", *(Cell.of(f1.get(type_), ".3f").printed for f1 in scores))
        for type_ in ATTRIBUTE_TYPES
        if num_spans[type_] or any(type_ in f1 for f1 in scores)
    ]
    explained = note("F1 of exact matches with the weak labels of held-out texts, from 0 to 1: higher is better.")
    header = ("type", "spans learnt from", "F1, titles", "F1, queries")
    return Section("tagger", "Tagger", table(header, everything, by_type) + explained)
