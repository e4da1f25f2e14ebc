"""Texts with their codes and embeddings: what was encoded once is not encoded again.

What is known at the start stays. A served engine would go on to keep every query that anybody types, so from `bound` on
only those that were used last are kept of what comes then.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Encoded(NamedTuple):
    """What is known of a text."""

    codes: list[int]  # [C]
    embedding: Tensor  # [D], e°


class EncodedTexts:
    """A mapping of texts to what is known of them, whose later part may be bounded."""

    def __init__(self) -> None:
        self._kept: dict[str, Encoded] = {}
        self._passing: OrderedDict[str, Encoded] = OrderedDict()  # the latest used last
        self._most: int | None = None

    def __contains__(self, text: object) -> bool:
        return text in self._kept or text in self._passing

    def __len__(self) -> int:
        return len(self._kept) + len(self._passing)

    def __getitem__(self, text: str) -> Encoded:
        found = self._kept.get(text)
        if found is None:
            found = self._passing[text]
            self._passing.move_to_end(text)
        return found

    def add(self, texts: Sequence[str], embeddings: Tensor, codes: Sequence[list[int]]) -> None:
        """Take texts as known: their e° [n, D] and codes."""
        if self._most is None:
            self._kept.update(zip(texts, map(Encoded, codes, embeddings), strict=True))
            return
        # Cloned: a row that is a view would keep all of its batch alive.
        self._passing.update(zip(texts, map(Encoded, codes, (row.clone() for row in embeddings)), strict=True))
        while len(self._passing) > self._most:
            self._passing.popitem(last=False)

    def bound(self, most: int) -> None:
        """Keep what is known by now for good, and of what comes from now on the `most` that were used last.

        Raises:
            ValueError: `most` is below 1.
        """
        if most < 1:
            raise ValueError(f"most is {most}: at least the text that is asked for has to be kept.")
        self._most = most
