import datetime as dt

import pytest
from marketplace import at, search

from onesearch.log.schema import complete, table_of
from onesearch.log.split import Split, assign


def _searches(own=(None,) * 10):
    rows = [search(number, "u", at(24 * number), "q", split=part) for number, part in enumerate(own)]
    return complete({"searches": table_of("searches", rows)})["searches"]


def _parts(split, **options):
    return "".join(part[0] for part in assign(_searches(**options), split)[0]["split"].to_pylist())


def test_shares_cut_by_time():
    """Ten searches: the last 20% are 2; of the 8 before, the last quarter is 2."""
    assert _parts(Split(test_share=0.2, validation_share=0.25)) == "ttttttvv" + "tt"
    facts = assign(_searches(), Split(test_share=0.2, validation_share=0.25))[1]
    assert (facts["train"], facts["validation"], facts["test"]) == (6, 2, 2)
    assert facts["test from"].startswith("2024-03-09")
    assert facts["test_from_us"] == round(at(24 * 8).timestamp() * 1e6)


def test_days_cut_at_midnight():
    split = Split(test_from=dt.date(2024, 3, 8), validation_from=dt.date(2024, 3, 6))
    parts = assign(_searches(), split)[0]["split"].to_pylist()
    assert parts == ["train"] * 5 + ["validation"] * 2 + ["test"] * 3


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        # Its own test is kept, dates and shares notwithstanding; validation is cut from what lies before it.
        (("train",) * 8 + ("test",) * 2, "ttttttvvtt"),
        # Its own validation is kept; the test is cut from the rest.
        (("train",) * 6 + ("validation",) * 2 + (None,) * 2, "ttttttvvtt"),
    ],
)
def test_a_sources_own_split_is_kept_and_completed(own, expected):
    table, facts = assign(_searches(own=own), Split(test_share=0.25, validation_share=0.25))
    parts = table["split"].to_pylist()
    assert "".join(part[0] for part in parts) == expected
    assert parts[-2:] == ["test", "test"]
    assert facts["test"] == 2


def test_training_searches_after_the_test_start_are_told():
    own = ("train",) * 5 + ("test",) + ("train",) * 4
    facts = assign(_searches(own=own), Split(validation_share=0.2))[1]
    assert facts["training searches after the test starts"] == 4
