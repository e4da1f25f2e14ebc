from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.sid.table import SidTable
from onesearch.sid.trie import Trie

SIDS = [(0, 1, 0), (0, 1, 2), (2, 0, 1), (2, 1, 0)]
SIZES = (3, 2, 3)


def make_trie():
    return Trie(np.array([*SIDS[::-1], SIDS[0]]), SIZES)  # unsorted and with a repetition


def test_children_of_a_worked_example():
    """Prefixes: depth 1: (0) (2); depth 2: (0,1) (2,0) (2,1); leaves are the four SIDs in order."""
    trie = make_trie()
    assert [trie.num_nodes(depth) for depth in range(4)] == [1, 2, 3, 4]
    assert trie.sids.tolist() == [list(sid) for sid in SIDS]
    both = trie.children(1, torch.tensor([[0, 1], [1, 0]]))
    assert both.parents.tolist() == [[0, 1, 1], [0, 0, 1]]
    assert both.codes.tolist() == [[1, 0, 1], [0, 1, 1]]
    assert both.nodes.tolist() == [[0, 1, 2], [1, 2, 0]]
    assert both.valid.all()
    first = trie.children(1, torch.tensor([[0]]))  # one child of the two that the widest node has
    assert (first.codes[0, 0].item(), first.valid.tolist()) == (1, [[True, False]])


def test_children_agree_with_prefixes_for_every_node():
    codes = np.random.default_rng(0).integers(0, 6, (60, 4))
    trie = Trie(codes, (6, 6, 6, 6))
    sids = {tuple(sid) for sid in codes.tolist()}
    for depth in range(4):
        prefixes = sorted({sid[:depth] for sid in sids})
        orders = torch.stack([torch.randperm(len(prefixes)) for _ in range(3)])
        for nodes in (orders, orders[:, : len(prefixes) // 2 + 1]):
            for order, *found in zip(nodes.tolist(), *trie.children(depth, nodes), strict=True):
                rows = zip(*(part.tolist() for part in found), strict=True)
                kept = [(prefixes[order[parent]], code, node) for parent, code, node, valid in rows if valid]
                below = [sorted({sid[: depth + 1] for sid in sids if sid[:depth] == prefixes[node]}) for node in order]
                want = list(chain.from_iterable(below))
                assert [(*prefix, code) for prefix, code, _ in kept] == want
                numbers = sorted({sid[: depth + 1] for sid in sids})
                assert [child for *_, child in kept] == list(map(numbers.index, want))


def test_leaves_are_the_rows_of_the_table():
    codes = np.random.default_rng(0).integers(0, 4, (50, 3))
    table = SidTable(codes, np.zeros(50))
    assert Trie(codes, (4, 4, 4)).sids.tolist() == table.sids.tolist()


@settings(max_examples=60, deadline=None)
@given(
    codes=st.lists(st.tuples(*[st.integers(0, size - 1) for size in SIZES]), min_size=1, unique=True).map(sorted),
    data=st.data(),
)
def test_a_part_of_the_catalogue_is_the_trie_of_its_sids(codes, data):
    """Cut from the whole trie or built from the codes that stay: the same arrays; again inside the part as well."""
    trie, left = Trie(np.array(codes), SIZES), codes
    for _ in range(2):
        stay = data.draw(st.lists(st.booleans(), min_size=len(left), max_size=len(left)).filter(any))
        trie, left = trie.within(torch.tensor(stay)), [sid for sid, stays in zip(left, stay, strict=True) if stays]
        want = Trie(np.array(left), SIZES)
        assert trie.sids.tolist() == [list(sid) for sid in left]
        for depth in range(3):
            nodes = torch.arange(want.num_nodes(depth))[None]
            assert trie.num_nodes(depth + 1) == want.num_nodes(depth + 1)
            for found, wanted in zip(trie.children(depth, nodes), want.children(depth, nodes), strict=True):
                assert torch.equal(found, wanted)  # all are asked for: no padding


def test_a_part_without_a_sid_is_none():
    with pytest.raises(ValueError, match="has none"):
        make_trie().within(torch.zeros(4, dtype=torch.bool))


def test_layers_of_any_size():
    """Codes of more than 16 bits keep their values, and so do layers whose sizes are no powers of two."""
    sizes = (100_000, 3, 70_001)
    sids = [[0, 2, 70_000], [99_999, 0, 0], [99_999, 2, 40_000]]
    assert Trie(np.array(sids), sizes).codes(torch.arange(3)).tolist() == sids
    with pytest.raises(ValueError, match="63 bits at most"):
        Trie(np.array([[0, 0]]), (2**32, 2**32))


def test_moving_moves_every_array():
    """To a device that holds no values: whatever is left behind would not be there."""
    moved = make_trie().to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    tensors += [part for value in vars(moved).values() if isinstance(value, list) for part in value]
    on_device = [part.device.type for part in tensors if isinstance(part, torch.Tensor)]
    assert on_device == ["meta"] * 7  # SIDs; codes and bounds of three depths
    children = moved.children(0, torch.zeros(1, 1, dtype=torch.int64, device="meta"))
    assert children.codes.shape == make_trie().children(0, torch.zeros(1, 1, dtype=torch.int64)).codes.shape


@pytest.mark.parametrize(
    "codes", [np.empty((0, 3), int), np.array([[0, 0]]), np.array([[0, 2, 0]]), -np.array([SIDS[0]])]
)
def test_broken_codes_are_refused(codes):
    with pytest.raises(ValueError, match="codes of a trie"):
        Trie(codes, SIZES)
