import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from marketplace import at, items, prepared, random_tables, search

from onesearch.artifacts import ArtifactError
from onesearch.log.counts import ItemCounts, PairCounts
from onesearch.log.prepared import Log
from onesearch.log.report import LogError
from onesearch.log.schema import table_of
from onesearch.log.split import Split


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return prepared(random_tables(5), tmp_path_factory.mktemp("log"))


def test_item_rows_are_positions_in_the_items_table(log):
    assert [log.row_of[item_id] for item_id in log.items["item_id"].to_pylist()] == list(range(12))
    assert log.item_ids[3] == log.items["item_id"][3].as_py()


def test_contexts_are_those_of_the_splits_in_time_order(log):
    times = dict(zip(log.searches["search_id"].to_pylist(), log.searches["time"].to_pylist(), strict=True))
    chosen = [context.search_id for context in log.contexts("validation", "test")]
    splits = dict(zip(log.searches["search_id"].to_pylist(), log.searches["split"].to_pylist(), strict=True))
    assert set(chosen) == {name for name, split in splits.items() if split != "train"}
    assert [times[name] for name in chosen] == sorted(times[name] for name in chosen)
    with pytest.raises(LogError, match="There is no split 'dev': use some of train, validation, test"):
        log.contexts("dev")


def test_answers_are_those_of_the_log(log):
    rows = {row["search_id"]: row for row in log.searches.to_pylist()}
    for context in log.contexts("train"):
        row = rows[context.search_id]
        assert [log.item_ids[item] for item in context.clicked] == row["clicked"]
        assert [log.item_ids[item] for item in context.purchased] == (row["purchased"] or [])
        found = None if context.impressed is None else [log.item_ids[item] for item in context.impressed]
        assert found == row["impressed"]
        assert (context.user_id, context.query) == (row["user_id"] or "", row["query_key"])
        assert context.profile == ("F Zhejiang" if row["user_id"] in log.users["user_id"].to_pylist() else "")


@pytest.mark.parametrize("user", ["u0", "u5", None, "nobody"])
def test_a_live_search_is_a_search_at_the_end_of_the_log(tmp_path, user):
    """One more search on the day after the log, in the test period: both ways give the same context."""
    tables = random_tables(6)
    cut = Split(test_from=at(6 * 70).date())
    live = prepared(tables, tmp_path / "live", cut, max_history=5).context(user, " Q: 3 ")
    last = max(*tables["searches"]["time"].to_pylist(), *tables["events"]["time"].to_pylist())
    time = dt.datetime.combine(last.date() + dt.timedelta(days=1), dt.time(), dt.UTC)
    tables["searches"] = table_of("searches", [*tables["searches"].to_pylist(), search(9999, user, time, "q 3")])
    logged = prepared(tables, tmp_path / "logged", cut, max_history=5).contexts("test")[-1]
    # The last day of training counts for both, so statistics are the same a day or a month later.
    assert logged.search_id == "s9999"
    assert live == logged._replace(search_id="", impressed=None)
    assert live.cold_start
    assert bool(live.long_clicks) == (user in ("u0", "u5"))


def test_a_damaged_log_is_refused(tmp_path):
    folder = prepared(random_tables(7, num_searches=20), tmp_path).folder
    path = folder / "searches.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"searches\.parquet was changed or damaged"):
        Log.open(folder)


def test_a_log_without_events_judgments_or_users_opens(tmp_path):
    rows = [search(number, None, at(24 * number), "q", clicked=["i0"]) for number in range(10)]
    log = prepared({"items": table_of("items", items(1)), "searches": table_of("searches", rows)}, tmp_path)
    assert [len(table) for table in (log.users, log.events, log.judgments)] == [0, 0, 0]
    assert log.contexts("test")[0].cold_start == (0,)
    assert log.context("u", "q").long_clicks == ()


def test_counts_of_nothing_are_zero():
    none = np.zeros(0, np.int64)
    empty = np.zeros((0, 3), np.int64)
    asked = np.array([0, 7])
    assert ItemCounts.of(none, none, empty).lookup(asked, asked).tolist() == [[0] * 3] * 2
    assert PairCounts.of([], none, none, empty).total(["q", ""], asked).tolist() == [[0] * 3] * 2


def test_the_first_day_of_a_query_is_that_of_its_earliest_count():
    """Rows in no order: "rug" on days 9, 4 and 7, "mat" on day 5."""
    days, totals = np.array([9, 5, 4, 7]), np.ones((4, 3), np.int64)
    counts = PairCounts.of(["rug", "mat", "rug", "rug"], np.array([0, 0, 1, 0]), days, totals)
    assert [counts.first_day(query) for query in ("rug", "mat")] == [4, 5]
    with pytest.raises(KeyError):
        counts.first_day("never asked")


def test_purchases_outside_search_end_at_the_test_boundary(log):
    """By a plain loop over the events: purchases alone, and none of the test period."""
    boundary = log.manifest.facts["split"]["test_from_us"]
    want = {}
    epoch = dt.datetime(1970, 1, 1)
    for event in log.events.to_pylist():
        since = event["time"].replace(tzinfo=None) - epoch
        if event["action"] == "purchase" and since // dt.timedelta(microseconds=1) < boundary:
            want.setdefault(event["user_id"], []).append((log.row_of[event["item_id"]], since.days))
    assert want
    assert log.bought_outside == want


def test_a_log_of_an_earlier_version_is_to_be_prepared_again(tmp_path):
    """Files of which one lacks a column, or is not there; both in spite of a manifest that knows no better."""
    log = prepared(random_tables(5), tmp_path)
    path = log.folder / "as_of" / "clicks.arrow"
    table = pa.ipc.open_file(path).read_all().drop_columns(["us"])
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(LogError, match=r"another version of onesearch: 'us' is missing from .*clicks\.arrow"):
        log.contexts("train")
    path.unlink()
    with pytest.raises(LogError, match=r"another version of onesearch: .*clicks\.arrow is missing. Prepare it again"):
        log.contexts("train")


def test_a_damaged_mapped_file_is_refused(tmp_path):
    """A flipped bit by the manifest's hash; a file that is none, where nobody looked at the manifest."""
    log = prepared(random_tables(7, num_searches=20), tmp_path)
    path = log.folder / "as_of" / "searches.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"searches\.arrow was changed or damaged"):
        Log.open(log.folder)
    path.write_bytes(content[:100])
    with pytest.raises(LogError, match=r"searches\.arrow is no Arrow file"):
        log.contexts("train")
