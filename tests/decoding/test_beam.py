"""Beam search against a brute-force ranking of every valid SID, with a scorer that looks its answers up in a table."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.decoding.beam import FLOOR, Beams, beam_search, keep_best
from onesearch.sid.trie import Trie

SIZES = (3, 2, 4)


class LookupScorer:
    """The 15-line model: log p(next code | prefix) from one table per level; `tables[l]` is [B, K_1, .., K_(l+1)]."""

    def __init__(self, tables):
        self.tables, self.prefixes = tables, None

    def start(self):
        return self.tables[0]

    def advance(self, parents, codes, level):
        if level == 1:
            assert (parents == 0).all()
            self.prefixes = codes.unsqueeze(-1)
        else:
            kept = self.prefixes.gather(1, parents.unsqueeze(-1).expand(-1, -1, level - 1))
            self.prefixes = torch.cat([kept, codes.unsqueeze(-1)], dim=-1)
        batch = torch.arange(len(codes)).unsqueeze(1)
        return self.tables[level][(batch, *self.prefixes.unbind(-1))]


def random_tables(num_rows, seed, sizes=SIZES, coarse=False):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(num_rows, *sizes[: level + 1]) for level in range(len(sizes))]
    logits = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    logits = [table.round() for table in logits] if coarse else logits  # rounding makes many ties
    return [table.log_softmax(-1) for table in logits]


def brute_force(tables, row, sids):
    """Every SID with its score, by falling score, equal scores in lexicographic order."""
    scored = [(sum(table[(row, *sid[: level + 1])].item() for level, table in enumerate(tables)), sid) for sid in sids]
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))


def as_tuples(beams: Beams, row: int) -> list[tuple[int, ...]]:
    return [tuple(sid) for sid, valid in zip(beams.codes[row].tolist(), beams.valid[row], strict=True) if valid]


ALL_SIDS = [tuple(map(int, sid)) for sid in np.ndindex(*SIZES)]


@settings(max_examples=60, deadline=None)
@given(
    sids=st.lists(st.sampled_from(ALL_SIDS), min_size=1, unique=True),
    num_rows=st.integers(1, 3),
    seed=st.integers(0, 2**20),
    coarse=st.booleans(),
    extra=st.integers(0, 3),
)
def test_a_beam_as_wide_as_the_catalogue_is_exact(sids, num_rows, seed, coarse, extra):
    tables = random_tables(num_rows, seed, coarse=coarse)
    beams = beam_search(LookupScorer(tables), Trie(np.array(sids), SIZES), num_beams=len(sids) + extra)
    assert beams.codes.shape == (num_rows, len(sids), 3)  # more beams than SIDs: a shorter list
    assert beams.valid.all()
    for row in range(num_rows):
        expected = brute_force(tables, row, sids)
        assert as_tuples(beams, row) == [sid for _, sid in expected]
        assert beams.scores[row].tolist() == [score for score, _ in expected]


@settings(max_examples=40, deadline=None)
@given(
    sids=st.lists(st.sampled_from(ALL_SIDS), min_size=1, unique=True),
    num_beams=st.integers(1, 6),
    seed=st.integers(0, 2**20),
)
def test_a_narrow_beam_keeps_the_best_prefixes_of_each_level(sids, num_beams, seed):
    """The reference walks level by level in plain Python and keeps the `num_beams` best valid prefixes."""
    tables = random_tables(1, seed)
    kept = [((), 0.0)]
    for level in range(3):
        prefixes = {sid[: level + 1] for sid in sids}
        grown = [(p, score + tables[level][(0, *p)].item()) for q, score in kept for p in prefixes if p[:level] == q]
        kept = sorted(grown, key=lambda pair: -pair[1])[:num_beams]
    beams = beam_search(LookupScorer(tables), Trie(np.array(sids), SIZES), num_beams)
    assert as_tuples(beams, 0) == [sid for sid, _ in kept]
    assert beams.leaves[0][beams.valid[0]].tolist() == [sorted(sids).index(sid) for sid, _ in kept]
    assert beams.valid.all()  # each kept prefix has a leaf below it, so a beam never runs dry


@pytest.mark.parametrize("bad", [float("nan"), -float("inf")])
def test_nan_and_zero_probability_rank_last_but_stay_valid(bad):
    """SID 000 gets an impossible first code; 100 follows with log ½ at each of 3 levels."""
    tables = [torch.full((1, *SIZES[: level + 1]), 0.5).log() for level in range(3)]
    tables[0][0, 0] = bad
    beams = beam_search(LookupScorer(tables), Trie(np.array([[0, 0, 0], [1, 0, 0]]), SIZES), num_beams=4)
    assert as_tuples(beams, 0) == [(1, 0, 0), (0, 0, 0)]
    assert beams.scores[0, 0].item() == pytest.approx(3 * np.log(0.5))
    assert beams.scores[0, 1].item() == pytest.approx(FLOOR, rel=1e-5)


def test_rows_of_a_batch_do_not_disturb_each_other():
    tables = random_tables(4, seed=1)
    trie = Trie(np.array(ALL_SIDS), SIZES)
    together = beam_search(LookupScorer(tables), trie, 5)
    for row in range(4):
        alone = beam_search(LookupScorer([table[row : row + 1] for table in tables]), trie, 5)
        assert torch.equal(alone.codes[0], together.codes[row])


def test_half_precision_scores_are_summed_in_float32():
    tables = [table.to(torch.bfloat16) for table in random_tables(1, seed=2)]
    assert beam_search(LookupScorer(tables), Trie(np.array(ALL_SIDS), SIZES), 2).scores.dtype == torch.float32


def test_keep_best_prefers_the_lower_index_among_equals():
    """Of [1, 3, 2, 3, 2, 2] the three best are both 3s and the first of the 2s, at index 2."""
    assert keep_best(torch.tensor([[1.0, 3, 2, 3, 2, 2]]), 3).tolist() == [[1, 2, 3]]
    assert keep_best(torch.tensor([[-torch.inf, 0, -torch.inf]]), 2).tolist() == [[0, 1]]


def test_no_beams_is_refused():
    with pytest.raises(ValueError, match="num_beams is 0"):
        beam_search(LookupScorer(random_tables(1, 0)), Trie(np.array(ALL_SIDS), SIZES), 0)
