import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onesearch.sid.table import Collisions, SidTable, read_codes

CODES = np.array([[1, 0], [0, 2], [1, 0], [1, 0], [0, 1]])
PRIORITY = np.array([0.5, 0.0, 2.0, 0.5, 0.0])


def test_buckets_are_ordered_by_priority_then_row():
    """Items 0, 2, 3 share (1, 0): 2 has the highest priority, 0 and 3 tie and keep their order."""
    table = SidTable(CODES, PRIORITY)
    assert table.sids.tolist() == [[0, 1], [0, 2], [1, 0]]
    assert [table.bucket(row).tolist() for row in range(3)] == [[4], [1], [2, 0, 3]]


def test_sids_are_expanded_in_beam_order_and_cut():
    table = SidTable(CODES, PRIORITY)
    ranked = np.array([[1, 0], [5, 0], [0, 0], [1, 0], [0, 1], [-1, 2]])  # unknown and repeated ones are passed over
    assert table.expand(ranked, k=10).tolist() == [2, 0, 3, 4]
    assert table.expand(ranked, k=10, per_bucket=2).tolist() == [2, 0, 4]
    assert table.expand(ranked, k=1).tolist() == [2]
    assert table.expand(np.array([[0, 0]]), k=3).tolist() == []


def test_a_list_of_what_may_be_shown_is_filled_up():
    """Eight items, 0 to 7, on one SID, three on another, and one alone that may not be shown; two of a SID at first.

    What is missing comes from the better SID before the worse one, and stands beside its own.
    """
    table = SidTable(np.array([[0, 0]] * 8 + [[1, 0]] * 3 + [[2, 0]]), np.zeros(12))
    ranked, shown = np.array([[1, 0], [2, 0], [0, 0]]), np.arange(12) < 11
    want = {3: [8, 9, 0], 4: [8, 9, 0, 1], 5: [8, 9, 10, 0, 1], 7: [8, 9, 10, 0, 1, 2, 3], 20: [8, 9, 10, *range(8)]}
    for k, rows in want.items():
        assert table.expand(ranked, k, per_bucket=2, shown=shown).tolist() == rows
    assert table.expand(ranked, 20, per_bucket=2).tolist() == [8, 9, 11, 0, 1]


def test_rows_of_sids_agree_with_a_dictionary():
    codes = np.random.default_rng(0).integers(0, 5, (200, 4))
    table = SidTable(codes, np.zeros(200))
    expected = {tuple(sid): row for row, sid in enumerate(sorted({tuple(sid) for sid in codes.tolist()}))}
    wanted = np.random.default_rng(1).integers(0, 6, (500, 4))
    assert table.sid_rows(wanted).tolist() == [expected.get(tuple(sid), -1) for sid in wanted.tolist()]


def test_collisions_are_counted():
    """5 items in 3 SIDs, two of them alone, three together."""
    assert SidTable(CODES, PRIORITY).collisions() == Collisions(5, 3, 2, 3)


def test_the_reference_sizes_fit_the_key():
    """4096·1024·512·256·256 = 2^47 < 2^63, and the highest SID is found again."""
    top = np.array([[4095, 1023, 511, 255, 255], [0, 0, 0, 0, 0]])
    assert SidTable(top, np.zeros(2)).sid_rows(top).tolist() == [1, 0]
    with pytest.raises(ValueError, match="63-bit key"):
        SidTable(np.full((1, 5), 2**14), np.zeros(1))


@pytest.mark.parametrize(
    ("codes", "priority"),
    [(CODES, PRIORITY[:4]), (CODES[:0], PRIORITY[:0]), (-CODES, PRIORITY), (CODES, PRIORITY * np.nan)],
)
def test_broken_input_is_refused(codes, priority):
    with pytest.raises(ValueError, match="codes"):
        SidTable(codes, priority)


def test_codes_are_read_and_checked(tmp_path):
    path = tmp_path / "items.parquet"
    codes = pa.array([[1, 0], [0, 2]], pa.list_(pa.int32()))
    pq.write_table(pa.table({"item_id": ["x", "y"], "codes": codes}), path)
    names, read = read_codes(path, (2, 3))
    assert names == ["x", "y"]
    assert read.tolist() == [[1, 0], [0, 2]]
    with pytest.raises(ValueError, match=r"items.parquet, row 1: codes \[0, 2\]"):
        read_codes(path, (2, 2))
