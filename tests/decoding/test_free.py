"""Beams over every SID, against the trie that really holds every SID."""

import numpy as np
import pytest
import torch
from test_beam import ALL_SIDS, SIZES, LookupScorer, random_tables

from onesearch.decoding.beam import beam_search
from onesearch.decoding.free import EverySid
from onesearch.sid.trie import Trie


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("num_beams", [1, 4, 24, 30])
def test_the_same_beams_as_in_a_trie_of_all_sids(num_beams, coarse):
    """3·2·4 SIDs; equal scores, which rounding makes many of, are ranked alike too."""
    tables = random_tables(2, seed=num_beams, coarse=coarse)
    want = beam_search(LookupScorer(tables), Trie(np.array(ALL_SIDS), SIZES), num_beams)
    found = beam_search(LookupScorer(tables), EverySid(SIZES), num_beams)
    for name, value in found._asdict().items():
        assert torch.equal(value, getattr(want, name)), name


def test_it_counts_what_it_does_not_hold():
    """The reference sizes: 4096·1024·512·256·256 SIDs, of which the last has the largest codes."""
    every = EverySid((4096, 1024, 512, 256, 256))
    assert every.num_sids == every.num_nodes(5) == 2 ** (12 + 10 + 9 + 8 + 8)
    assert every.num_nodes(0) == 1
    leaves = torch.tensor([0, every.num_sids - 1, 256 * 256])
    assert every.codes(leaves).tolist() == [[0] * 5, [4095, 1023, 511, 255, 255], [0, 0, 1, 0, 0]]
