"""Chunked search against a full sort in float64."""

import pytest
import torch

from onesearch.models.nearest import nearest


@pytest.mark.parametrize(("k", "chunk", "item_chunk"), [(5, 4, 7), (5, 100, 100), (20, 3, 8), (70, 4, 7)])
def test_equals_a_full_sort(k, chunk, item_chunk):
    """Whatever the chunks, and also where they hold fewer than k items; 50 items are all there are."""
    generator = torch.Generator().manual_seed(0)
    queries, items = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (11, 50))
    want = (queries @ items.T).argsort(dim=1, descending=True)[:, :k]
    assert torch.equal(nearest(queries, items, k, chunk, item_chunk), want)


def test_nobody_asks():
    assert nearest(torch.zeros(0, 3), torch.ones(4, 3), 2).shape == (0, 2)
