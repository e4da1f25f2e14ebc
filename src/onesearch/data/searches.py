"""Searches as batches of contexts: what validation answers with beams, and what preference lists are made from."""

from collections.abc import Sequence

from torch.utils.data import DataLoader

from onesearch.types import SearchContext


def search_loader(searches: Sequence[SearchContext], batch_size: int = 64) -> DataLoader[list[SearchContext]]:
    """Contexts in their given order; the model writes the prompts itself."""
    return DataLoader(searches, batch_size=batch_size, collate_fn=list)  # type: ignore[arg-type]
