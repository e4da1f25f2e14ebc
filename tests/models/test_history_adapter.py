"""Sums of centroids by hand, and what the adapter must not depend on."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from onesearch.models.history_adapter import HistoryAdapter

SIZES = (4, 3, 2)


@pytest.fixture(scope="module")
def adapter():
    torch.manual_seed(0)
    return HistoryAdapter([torch.randn(size, 5) for size in SIZES], hidden=8, num_queries=2, num_heads=2).eval()


def histories(*lengths):
    """[1, 3, max, 3] codes, -1 after each length."""
    codes = torch.full((1, 3, max(lengths), 3), -1)
    for sequence, length in enumerate(lengths):
        for place in range(length):
            codes[0, sequence, place] = torch.tensor(
                [(place + sequence + level) % size for level, size in enumerate(SIZES)]
            )
    return codes


def test_level_sums_by_hand():
    """Centroids of level 1 are 1, 10, 100: codes 0, 2, 2 sum to 201; level 2 holds 5, 7: 1, 1, 0 give 19."""
    adapter = HistoryAdapter([torch.tensor([[1.0], [10.0], [100.0]]), torch.tensor([[5.0], [7.0]])], 4)
    codes = torch.tensor([[0, 1], [2, 1], [2, 0], [-1, -1]]).expand(1, 3, -1, -1)
    assert adapter.level_sums(codes).tolist() == [[[[201.0], [19.0]]] * 3]


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(0, 4), min_size=3, max_size=3), more=st.integers(1, 5))
def test_padding_does_not_matter(adapter, lengths, more):
    codes = histories(*lengths[:2], max(1, lengths[2]))
    longer = torch.cat([codes, torch.full((1, 3, more, 3), -1)], 2)
    assert torch.allclose(adapter(longer), adapter(codes), atol=1e-5)


def test_sums_add_over_items(adapter):
    """The sum of two histories behind each other is the sum of their sums; order does not count."""
    one, two = histories(3, 1, 2), histories(2, 2, 4)
    both = adapter.level_sums(torch.cat([one, two], 2))
    assert torch.allclose(both, adapter.level_sums(one) + adapter.level_sums(two), atol=1e-5)
    assert torch.allclose(both, adapter.level_sums(torch.cat([two, one], 2)), atol=1e-5)


def test_the_three_sequences_can_be_told_apart(adapter):
    """`source` marks clicks, orders and RSU: zero at the start, it gets a gradient of its own for each of the nine."""
    codes = histories(3, 0, 0)
    adapter(codes).square().sum().backward()
    assert adapter.source.grad.abs().sum(1).min() > 0
    marked = copy.deepcopy(adapter)
    torch.nn.init.normal_(marked.source)
    assert not torch.allclose(marked(codes), marked(codes[:, [1, 0, 2]]), atol=1e-3)


def test_rows_do_not_mix(adapter):
    batch = torch.cat([histories(3, 1, 2), histories(3, 2, 2).flip(1)])
    assert adapter(batch).shape == (2, 2, 8)
    assert torch.allclose(adapter(batch)[1:], adapter(batch[1:]), atol=1e-5)


def test_centroids_are_frozen(adapter):
    """The codebook is data: no parameter, but part of the state."""
    assert not any(name.startswith("centroids") for name, _ in adapter.named_parameters())
    assert sum(name.startswith("centroids") for name in adapter.state_dict()) == 3


def test_a_thousand_behaviours_are_never_laid_out_as_vectors(adapter):
    """2 · 3 sequences of 1,000 items of width 5 would be 30,000 floats a level; the largest result is one of codes."""
    codes, largest = torch.randint(0, 2, (2, 3, 1000, 3)), []

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            largest.append(max((x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor)), default=0))
            return result

    with Largest():
        sums = adapter.level_sums(codes)
    assert max(largest) <= codes.numel()
    want = sum(adapter.centroids_0[codes[:, :, place, 0]].double() for place in range(1000))
    assert torch.allclose(sums[:, :, 0].double(), want, rtol=1e-4, atol=1e-3)
