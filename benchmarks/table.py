"""How a benchmark's figures are shown: a table to read, JSON to keep."""

import json
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One figure of ours beside the peer's, from the same run."""

    case: str
    metric: str  # with its unit
    ours: float
    peer: float
    peer_name: str

    @property
    def ratio(self) -> float:
        """Ours over the peer's."""
        return self.ours / self.peer if self.peer else float("nan")


def show(title: str, rows: list[Row], json_path: Path | None) -> None:
    """Print the table and, where a path is given, write {"rows": [{case, metric, ours, peer, peer_name, ratio}]}."""
    table = Table("case", "metric", title=title)
    for heading in ("ours", "peer", "ours / peer"):
        table.add_column(heading, justify="right")
    table.add_column("peer is")
    for row in rows:
        table.add_row(row.case, row.metric, *map(_shown, (row.ours, row.peer, row.ratio)), row.peer_name)
    Console().print(table)
    if json_path is not None:
        kept = {"rows": [{**row._asdict(), "ratio": row.ratio} for row in rows]}
        json_path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"
