import numpy as np
import pytest
import torch

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
    children = trie.children(1, torch.tensor([0, 1]))
    assert children.codes.tolist() == [[1, 0], [0, 1]]
    assert children.nodes.tolist() == [[0, 0], [1, 2]]
    assert children.valid.tolist() == [[True, False], [True, True]]


def test_allowed_codes_agree_with_prefixes_for_every_node():
    codes = np.random.default_rng(0).integers(0, 6, (60, 4))
    trie = Trie(codes, (6, 6, 6, 6))
    sids = {tuple(sid) for sid in codes.tolist()}
    for depth in range(4):
        prefixes = sorted({sid[:depth] for sid in sids})
        nodes = torch.arange(len(prefixes)).reshape(1, -1)  # any leading shape
        mask = trie.allowed(depth, nodes)[0]
        for prefix, row in zip(prefixes, mask, strict=True):
            following = {sid[depth] for sid in sids if sid[:depth] == prefix}
            assert set(row.nonzero().flatten().tolist()) == following


def test_leaves_are_the_rows_of_the_table():
    codes = np.random.default_rng(0).integers(0, 4, (50, 3))
    table = SidTable(codes, np.zeros(50))
    assert Trie(codes, (4, 4, 4)).sids.tolist() == table.sids.tolist()


def test_a_part_of_the_catalogue_has_its_own_trie():
    assert Trie(np.array(SIDS[2:]), SIZES).allowed(0, torch.tensor([0])).tolist() == [[False, False, True]]


def test_moving_keeps_the_trie():
    trie = make_trie()
    moved = trie.to("cpu")
    assert moved.num_sids == 4
    assert moved.children(0, torch.tensor([0])).codes.tolist() == [[0, 2]]


@pytest.mark.parametrize(
    "codes", [np.empty((0, 3), int), np.array([[0, 0]]), np.array([[0, 2, 0]]), -np.array([SIDS[0]])]
)
def test_broken_codes_are_refused(codes):
    with pytest.raises(ValueError, match="codes of a trie"):
        Trie(codes, SIZES)
