"""What a system must do to stand in the comparison."""

from collections.abc import Sequence
from typing import Protocol

from onesearch.types import SearchContext


class Ranker(Protocol):
    """A search system: it answers each search with distinct item rows, best first. Fewer than `k` is allowed."""

    @property
    def name(self) -> str:
        """How tables and figures call the system."""

    def rank(self, contexts: Sequence[SearchContext], k: int) -> list[list[int]]:
        """Answer [S] searches with at most `k` item rows each."""
