"""Mapped columns against the plain lists that were written, across the bounds of batches."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.log import mapped_files
from onesearch.log.counts import ItemCounts, RunningTotals
from onesearch.log.mapped_files import MappedTable, Numbers, write_mapped

SCHEMA = pa.schema([("number", pa.int32()), ("text", pa.large_string()), ("items", pa.large_list(pa.int32()))])

Rows = st.lists(
    st.tuples(
        st.integers(-5, 2**31 - 1),
        st.text(max_size=5),
        st.none() | st.lists(st.integers(0, 9), max_size=4),
    ),
    max_size=11,
)


def written(rows, sizes, folder):
    """The rows as a mapped table of batches of three, written from batches of other sizes."""
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    whole = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
    cuts = [0, *sorted(min(size, len(rows)) for size in sizes), len(rows)]
    batches = [whole.slice(start, end - start) for start, end in pairwise(cuts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped_files, "ROWS", 3)
        write_mapped(folder / "rows.arrow", SCHEMA, batches)
    return MappedTable(folder / "rows.arrow", SCHEMA)


@settings(deadline=None)  # whatever else the machine does
@given(Rows, st.lists(st.integers(0, 11), max_size=3), st.data())
def test_columns_are_what_was_written(rows, sizes, data):
    with tempfile.TemporaryDirectory() as folder:
        table = written(rows, sizes, Path(folder))
        assert [batch.num_rows for batch in table.batches] == [3] * (len(rows) // 3) + [len(rows) % 3][: len(rows) % 3]
        numbers, texts, lists = table.numbers("number"), table.texts("text"), table.lists("items")
        assert (len(table), len(numbers)) == (len(rows), len(rows))
        start = data.draw(st.integers(0, len(rows)))
        stop = data.draw(st.integers(start, len(rows)))
        assert numbers.between(start, stop).tolist() == [row[0] for row in rows[start:stop]]
        assert texts.all() == [row[1] for row in rows]
        for place, (number, text, items) in enumerate(rows):
            assert (numbers[place], texts[place]) == (number, text)
            assert lists[place] == (None if items is None else tuple(items))
        drawn = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
        asked = np.array(drawn, np.int64)
        assert numbers.take(asked).tolist() == [rows[place][0] for place in drawn]
        assert texts.take(asked) == [rows[place][1] for place in drawn]
        assert lists.lengths(asked).tolist() == [len(rows[place][2] or ()) for place in drawn]
        assert lists.flat(asked).tolist() == [item for place in drawn for item in rows[place][2] or ()]


def test_a_range_inside_a_batch_is_a_view_of_the_file(tmp_path):
    """Nothing is copied, and nobody can write into the file through it."""
    found = written([(number, "", []) for number in range(7)], [], tmp_path).numbers("number").between(3, 5)
    assert not found.flags.owndata and not found.flags.writeable


def test_the_empty_range_behind_the_last_row():
    """A shopper without behaviours may come last: nothing lies there, not even a batch."""
    assert Numbers([np.arange(4), np.arange(4)]).between(8, 8).tolist() == []
    assert Numbers([]).between(0, 0).tolist() == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(5, 9)), unique=True, max_size=12), st.integers(1, 4))
def test_totals_in_several_batches_are_those_in_one(rows, size):
    """A key's rows may lie in two batches, and its first row may be the first of a batch."""
    rows = sorted(rows)
    keys, days = (np.array([row[place] for row in rows], np.int64) for place in (0, 1))
    whole = RunningTotals.of(keys, days, np.stack([np.arange(len(rows)) + 1] * 3, 1))
    stamps, *totals = (
        Numbers([column.parts[0][start : start + size] for start in range(0, len(rows), size)])
        for column in (whole.stamps, *whole.totals)
    )
    parts = RunningTotals(stamps, totals, whole.num_days, whole.first_day)
    asked = [(key, day) for key in range(-1, 6) for day in range(3, 12)]
    found = ItemCounts(parts).lookup(*np.array(asked).T)[:, 1].tolist()
    want = [
        max((n + 1 for n, row in enumerate(rows) if row[0] == key and row[1] < day), default=0) for key, day in asked
    ]
    assert found == want
    last = {key: n + 1 for n, (key, _) in enumerate(rows)}
    assert dict(zip(*(column.tolist() for column in parts.last(1)), strict=True)) == last
