"""What no reward model can beat on a simulated log: the probabilities that its clicks and orders were drawn from.

    python -m benchmarks.oracle --run runs/demo [--split test] [--json FILE]

CTR is P(click | shown) where the item stood, `unplaced` the same without its position, P(click | seen); CVR is
P(order | click) over what was clicked; CTCVR is the product of CTR and CVR. AUC over all exposures, GAUC inside each
search. The oracle knows the shopper's intent, which no model is told. The JSON has the towers as RUN/reward_test.json
has them.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from onesearch.log.prepared import Log
from onesearch.log.searches import outcomes_of
from onesearch.metrics.calibration import expected_calibration_error
from onesearch.metrics.grouped_auc import grouped_auc
from onesearch.simulate.truth import Truth

Figures = dict[str, dict[str, float]]


def towers(log: Log, split: str) -> Figures:
    """AUC, GAUC and calibration error of each tower's oracle over a split."""
    searches = log.contexts(split)
    truth = Truth.open(log).of_exposures(searches)
    outcomes = list(outcomes_of(searches))
    shown = [found.impressed or () for found in outcomes]
    mask = _padded([np.ones(len(items)) for items in shown]) > 0
    clicked, bought = (
        _padded([np.isin(items, happened) for items, happened in zip(shown, part, strict=True)])
        for part in ([found.clicked for found in outcomes], [found.purchased for found in outcomes])
    )
    click, order, seen = (_padded(part) for part in truth)
    placed = seen * click
    return {
        "ctr": _figures(placed, clicked, mask),
        "unplaced": _figures(click, clicked, mask),
        "cvr": _figures(order, bought, mask & (clicked > 0)),
        "ctcvr": _figures(placed * order, bought, mask),
    }


def _padded(rows: list[np.ndarray]) -> Tensor:
    """[S, X] float64, 0 behind short lists."""
    padded = np.zeros((len(rows), max(map(len, rows))))
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(padded)


def _figures(chance: Tensor, happened: Tensor, mask: Tensor) -> dict[str, float]:
    return {
        "auc": float(binary_auroc(chance[mask], happened[mask].long())),
        "gauc": float(grouped_auc(chance, happened, mask)),
        "ece": float(expected_calibration_error(chance[mask], happened[mask])),
    }


def main() -> None:
    """Print a line a tower."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = towers(Log.open(options.run / "log"), options.split)
    table = Table("oracle", "AUC", "GAUC", "ECE", title=f"{options.split} split")
    for name, figures in found.items():
        table.add_row(name, *(f"{figure:.4f}" for figure in figures.values()))
    Console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps({"towers": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
