"""Searches as batches of contexts: what validation answers with beams, and what preference lists are made from."""

import random
from collections.abc import Sequence

import numpy as np
from torch.utils.data import DataLoader

from onesearch.log.searches import Searches
from onesearch.types import SearchContext


def search_loader(searches: Sequence[SearchContext], batch_size: int = 64) -> DataLoader[list[SearchContext]]:
    """Contexts in their given order; the model writes the prompts itself."""
    return DataLoader(searches, batch_size=batch_size, collate_fn=list)  # type: ignore[arg-type]


def shuffled(searches: Searches, seed: int) -> Searches:
    """The same in an order that the seed fixes."""
    places = list(range(len(searches)))
    random.Random(seed).shuffle(places)
    return searches.take(np.array(places, np.int64))
