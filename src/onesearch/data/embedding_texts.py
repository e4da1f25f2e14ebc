"""Texts that are only embedded: the catalogue, its queries, and the queries of a split with the items they led to."""

from collections.abc import Sequence

import torch

from onesearch.types import ClickedQueries, NamedTexts


class TextTable:
    """Texts in the order of a table.

    Args:
        table: `items` or `queries`.
        names: item IDs or queries, [N].
        texts: what the encoder reads of them, [N].
    """

    def __init__(self, table: str, names: Sequence[str], texts: Sequence[str]) -> None:
        self.table, self.names, self.texts = table, names, texts

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, rows: Sequence[int]) -> NamedTexts:
        """The texts of some rows."""
        names, texts = ([column[row] for row in rows] for column in (self.names, self.texts))
        return NamedTexts(self.table, torch.tensor(rows), names, texts)


class ClickedQueryTexts:
    """The distinct queries among query–item pairs.

    Args:
        q2i: queries and rows of the items they led to.
        seen: queries that were learnt from.
    """

    def __init__(self, q2i: Sequence[tuple[str, int]], seen: set[str]) -> None:
        clicked: dict[str, list[int]] = {}
        for query, item in dict.fromkeys(q2i):
            clicked.setdefault(query, []).append(item)
        self.texts, self.clicked = list(clicked), list(clicked.values())
        self.unseen = [query not in seen for query in clicked]
        self.width = max(map(len, self.clicked), default=0)

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, rows: Sequence[int]) -> ClickedQueries:
        """Some of the queries."""
        clicked = torch.tensor([self.clicked[row] + [-1] * (self.width - len(self.clicked[row])) for row in rows])
        unseen = torch.tensor([self.unseen[row] for row in rows])
        return ClickedQueries(torch.tensor(rows), [self.texts[row] for row in rows], clicked, unseen)
