"""An answer as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from onesearch.log.prepared import Log
from onesearch.serve.engine import Hit

PARTS = {"score": "score", "ctr": "CTR", "cvr": "CVR", "ctcvr": "CTCVR", "relevance": "rel."}
"""Parts of a re-sorted item's judgement, and what they are called."""


def hits_table(hits: Sequence[Hit], log: Log, title: str, formula: str | None = None) -> Table:
    """A line an item, best first; where the list was re-sorted, with the parts of the score.

    Args:
        hits: the answer.
        log: its items, for their prices.
        title: stands above.
        formula: of the score, where the list was re-sorted.
    """
    headers = ("#", "item", "title", "price", "SID", "log p", *(PARTS.values() if formula else ()))
    table = Table(*headers, title=title, caption=formula)
    for position, hit in enumerate(hits, start=1):
        price = log.items["price"][log.row_of[hit.item_id]].as_py()
        cells = (hit.item_id, hit.title, "" if price is None else f"{price:.2f}", hit.sid, f"{hit.score:.2f}")
        parts = [f"{getattr(hit.judgement, part):.3f}" for part in PARTS] if hit.judgement else []
        table.add_row(str(position), *cells, *parts)
    return table
