"""The ablation of the tokenizer, printed as the paper does, and beneath it what the authors measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onesearch.report.elements import Cell, column, join, note, table
from onesearch.report.inputs import read_json
from onesearch.report.page import Section

METRICS = ("recall@10", "MRR@10")
HEADER = ("variant", "CUR L1", "L1·L2", "total", "ICR (items)", "ICR (SIDs)", *METRICS)
PUBLISHED = (
    ("RQ", "99.90%", "39.21%", "1.30%", "40.54%", "–", "–", "–"),
    ("+ keywords", "100.00%", "48.95%", "1.64%", "43.32%", "–", "–", "–"),
    ("+ balanced L3", "–", "–", "7.03%", "68.08%", "–", "0.2844", "0.1038"),
    ("RQ-OPQ", "–", "–", "–", "91.91%", "–", "0.3369", "0.1194"),
)
"""arXiv 2509.03236; its ICR stands with the items' as the authors' code counts it."""


def section(run: Path) -> Section | None:
    """The table of `RUN/ablation/tokenizers.json`, or of `RUN/tokenizers.json`, where it was written before."""
    content = read_json(run / "ablation" / "tokenizers.json") or read_json(run / "tokenizers.json")
    if content is None:
        return None
    rows = content["rows"]
    columns = [column(cells) for cells in zip(*map(_cells, rows), strict=True)]
    measured = zip([row["variant"] for row in rows], *columns, strict=True)
    published = [(f"{name} (published)", *figures) for name, *figures in PUBLISHED]
    numbers = sorted({row["num_searches"] for row in rows if row["metrics"]})
    searches = " and ".join(f"{number:,}" for number in numbers)
    notes = [
        note(
            "Higher is better in every column; the best is bold.",
            f" Metrics of {searches} searches, with 95% intervals." if numbers else None,
        ),
        note("Published rows: arXiv 2509.03236, on the authors' data; compare the order, not the level."),
        note(content.get("note")),
    ]
    return Section(
        "tokenizers",
        "Tokenizers compared",
        join([table(HEADER, measured, published, class_="figures published"), *notes]),
    )


def _cells(row: Mapping[str, Any]) -> list[Cell]:
    figures, metrics = row["figures"], row["metrics"]
    depths = [name for name in figures if name.startswith("cur_")]
    total = max(depths, key=len, default="")  # of all residual levels, however many there are
    names = ("cur_l1", "cur_l1_l2", total, "icr_items", "icr_sids")
    return [
        *(Cell.of(figures.get(name), ".2%") for name in names),
        *(_metric(metrics.get(name, {})) for name in METRICS),
    ]


def _metric(found: Mapping[str, float]) -> Cell:
    return Cell.of(found.get("value"), ".4f", found.get("low"), found.get("high"))
