"""Every kind of bad input: fatal ones are one sentence with the way out, the rest is counted and nothing is lost."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from marketplace import Given, at, items, search

from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.records import Reader
from onesearch.log.report import LogError
from onesearch.log.schema import table_of
from onesearch.log.sources import FileMapping, Mapped
from onesearch.log.split import Split
from onesearch.log.validation import validate

CATALOGUE = "sku,name\ni0,kettle\ni1,mug\n"
ITEMS = FileMapping("items.csv", {"item_id": "sku", "title": "name"})
CLICKS = FileMapping("clicks.csv", {"user_id": "who", "time": "at", "query": "q", "item_id": "sku"}, row="click")
HEADER = "who,at,q,sku\n"
GOOD = "ann,2024-03-01T10:00:00,kettle,i0\n"


def _read(folder: Path, clicks: str | bytes, catalogue: str | bytes = CATALOGUE, searches: FileMapping = CLICKS):
    for name, content in (("items.csv", catalogue), ("clicks.csv", clicks)):
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Mapped(folder, ITEMS, searches).read()


def _checked(folder: Path, clicks: str | bytes, **options):
    raw = _read(folder, clicks, **options)
    for count in raw.files.values():
        assert count.accepted + count.rejected == count.read
    return validate(raw)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"ann,2024-03-01T10:00:00,\xff\xfe,i0\n", "not UTF-8"),
        (b"ann,2024-03-01T10:00:00,kettle\n", "3 fields where the header has 4"),
        (b'ann,2024-03-01T10:00:00,"ket"tle,i0\n', "not CSV (quotes)"),
        (b"ann,yesterday,kettle,i0\n", "unparsable time"),
        (b"ann,,kettle,i0\n", "no time"),
        (b"ann,2024-03-01T10:00:00,kettle,\n", "no item_id"),
    ],
)
def test_a_bad_csv_line_is_kept_with_its_number_reason_and_bytes(tmp_path, line, reason):
    """The bad line is the third of the file (header, good, bad, good): two are accepted, one is refused."""
    raw = _read(tmp_path, HEADER.encode() + GOOD.encode() + line + GOOD.replace("i0", "i1").encode())
    (refused,) = raw.rejected
    assert (refused.file, refused.line, refused.reason, refused.content) == ("clicks.csv", 3, reason, line)
    assert raw.files["searches: clicks.csv"].accepted == 2


@pytest.mark.parametrize("num_after", [3, 250])
def test_an_unclosed_quote_does_not_swallow_the_rest_of_the_file(tmp_path, num_after):
    raw = _read(tmp_path, HEADER + 'ann,2024-03-01T10:00:00,"kettle,i0\n' + GOOD * num_after)
    assert [(refused.line, refused.reason) for refused in raw.rejected] == [(2, "not CSV (quotes)")]
    assert raw.files["searches: clicks.csv"].accepted == num_after


def test_a_quoted_field_may_run_over_lines(tmp_path):
    raw = _read(tmp_path, HEADER + 'ann,2024-03-01T10:00:00,"red\nkettle",i0\n' + GOOD)
    assert raw.tables["searches"]["query"].to_pylist() == ["red\nkettle", "kettle"]
    assert not raw.rejected


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    raw = _read(tmp_path, b"\xef\xbb\xbf" + (HEADER + GOOD).encode())
    assert raw.tables["searches"]["user_id"].to_pylist() == ["ann"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b"{broken\n", "not JSON"), (b"[1]\n", "not a JSON object"), (b'{"q": "\xff"}\n', "not UTF-8")],
)
def test_a_bad_json_line_is_kept(tmp_path, line, reason):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"q": "mug"}\n\n' + line + b'{"q": "kettle"}\n')
    reader = Reader()
    assert reader.read(path, lambda row: row, ("q",)) == [{"q": "mug"}, {"q": "kettle"}]
    (refused,) = reader.rejected
    assert (refused.line, refused.reason, refused.content) == (3, reason, line)
    assert (reader.files["log.jsonl"].read, reader.files["log.jsonl"].accepted) == (3, 2)  # the blank line is none


def test_null_and_duplicate_ids_are_dropped_and_kept_as_rejected(tmp_path):
    checked = _checked(tmp_path, HEADER + GOOD, catalogue=CATALOGUE + "i1,another mug\n,nameless\n")
    assert checked.tables["items"]["title"].to_pylist() == ["kettle", "mug"]
    assert dict(checked.report.reasons) == {"no item_id": 1, "items: duplicate item_id": 1}
    duplicate = next(record for record in checked.rejected if "duplicate" in record.reason)
    assert (duplicate.file, duplicate.line, json.loads(duplicate.content)["title"]) == ("table items", 3, "another mug")


def test_an_empty_query_is_refused(tmp_path):
    checked = _checked(tmp_path, HEADER + GOOD + GOOD.replace("kettle", "  "))
    assert checked.report.reasons["searches: empty query"] == 1
    assert len(checked.tables["searches"]) == 1


def test_clicks_on_unknown_items_are_dropped_and_the_search_stays(tmp_path):
    checked = _checked(tmp_path, HEADER + GOOD + "bob,2024-03-02T10:00:00,mug,i9\n")
    assert checked.tables["searches"]["clicked"].to_pylist() == [["i0"], []]
    assert checked.report.findings["clicked items that are not in the items table: dropped (of 2)"] == 1


def test_times_out_of_order_are_sorted_and_counted(tmp_path):
    checked = _checked(tmp_path, HEADER + GOOD + GOOD.replace("2024-03-01", "2024-02-01"))
    assert checked.tables["searches"]["time"].to_pylist() == sorted(checked.tables["searches"]["time"].to_pylist())
    assert checked.report.findings["searches whose time is before that of the row above: sorted"] == 1


def _validated(**lists):
    tables = {
        "items": table_of("items", items(4)),
        "searches": table_of("searches", [search(0, "u", at(0), "q", **lists)]),
    }
    return validate(Given(tables).read())


def test_a_purchase_without_click_is_a_click_and_a_click_without_impression_was_shown():
    """i2 was bought but not clicked, then neither i2 nor i1 was shown: both join the end, in click order."""
    checked = _validated(impressed=["i0"], clicked=["i1"], purchased=["i2"])
    (row,) = checked.tables["searches"].to_pylist()
    assert (row["impressed"], row["clicked"], row["purchased"]) == (["i0", "i1", "i2"], ["i1", "i2"], ["i2"])
    assert checked.report.findings == {
        "purchased but not clicked: added to clicked": 1,
        "clicked but not impressed: added to impressed": 2,
        "searches by users who are not in the users table: kept, without profile": 1,
    }


def test_what_is_not_recorded_stays_so():
    (row,) = _validated(impressed=None, clicked=["i1", "i1"], purchased=None).tables["searches"].to_pylist()
    assert (row["impressed"], row["clicked"], row["purchased"]) == (None, ["i1"], None)
    (row,) = _validated(impressed=[], clicked=None, purchased=["i3"]).tables["searches"].to_pylist()
    assert (row["impressed"], row["clicked"], row["purchased"]) == (["i3"], ["i3"], ["i3"])


def test_events_and_judgments_that_mean_nothing_are_refused():
    tables = {
        "items": table_of("items", items(1)),
        "searches": table_of("searches", [search(0, "u", at(0), "q")]),
        "events": table_of(
            "events",
            [
                {"user_id": "u", "item_id": item, "time": time, "action": action}
                for item, time, action in (
                    ("i0", at(1), "click"),
                    ("i0", at(1), "gaze"),
                    ("i7", at(1), "click"),
                    ("i0", None, "click"),
                )
            ],
        ),
        "judgments": table_of("judgments", [{"query": "q", "item_id": "i0", "grade": grade} for grade in (3, 4)]),
    }
    checked = validate(Given(tables).read())
    assert (len(checked.tables["events"]), len(checked.tables["judgments"])) == (1, 1)
    assert dict(checked.report.reasons) == {
        "events: action is neither click nor purchase": 1,
        "events: unknown item": 1,
        "events: null time": 1,
        "judgments: grade is not 0, 1, 2 or 3": 1,
    }


FATAL = {
    "a file that is not there": (lambda folder: Mapped(folder, ITEMS, CLICKS).read(), "items.csv does not exist"),
    "a missing column": (
        lambda folder: _read(folder, "who,at,q\n"),
        "clicks.csv lacks the column 'sku' (it has who, at, q)",
    ),
    "an empty file": (lambda folder: _read(folder, ""), "clicks.csv is empty: it needs a header line"),
    "an unreadable header": (lambda folder: _read(folder, b"\xff,at\n"), "clicks.csv, line 1: the header is not UTF-8"),
    "no usable search": (
        lambda folder: _checked(folder, HEADER + GOOD.replace("2024", "soon")),
        "no usable row in 'searches' (1 records were refused, first: clicks.csv, line 2: unparsable time)",
    ),
    "no usable item": (
        lambda folder: _checked(folder, HEADER + GOOD, catalogue="sku,name\n"),
        "no usable row in 'items' (0 records were refused, first: none)",
    ),
    "an unknown ending": (
        lambda folder: Reader().read(_touched(folder / "log.xlsx"), lambda row: row),
        "log.xlsx ends in '.xlsx': .csv, .tsv, .jsonl",
    ),
    "no Parquet inside": (
        lambda folder: Reader().read(_touched(folder / "log.parquet"), lambda row: row),
        "log.parquet is not a readable Parquet file",
    ),
    "a test period without searches": (
        lambda folder: _prepared(folder, Split(test_from=at(10_000).date())),
        "No search falls into test: the log runs from",
    ),
    "a training period without searches": (
        lambda folder: _prepared(folder, Split(validation_from=at(-100).date(), test_from=at(48).date())),
        "No search falls into train: the log runs from",
    ),
    "validation after the test": (
        lambda folder: Split(validation_from=at(48).date(), test_from=at(24).date()),
        "split.validation_from (2024-03-03) is not before split.test_from (2024-03-02)",
    ),
    "a share of two": (lambda folder: Split(test_share=2), "split.test_share is 2: give a share between 0 and 1"),
    "a split that is none of ours": (
        lambda folder: _prepared(folder, Split(), split="holdout"),
        "A search has the split 'holdout': use one of train, validation, test",
    ),
}


def _touched(path: Path) -> Path:
    path.write_bytes(b"nothing")
    return path


def _prepared(folder: Path, cut: Split, **columns):
    rows = [search(number, "u", at(24 * number), "q", **columns) for number in range(10)]
    tables = {"items": table_of("items", items(1)), "searches": table_of("searches", rows)}
    return prepare(Given(tables), folder / "log", cut)


@pytest.mark.parametrize("case", FATAL)
def test_a_fatal_fault_is_one_sentence_that_names_it(tmp_path, case):
    run, sentence = FATAL[case]
    with pytest.raises(LogError) as error:
        run(tmp_path)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "log").exists()


def test_the_prepared_log_keeps_the_rejected_and_the_account(tmp_path):
    """Twelve good clicks and one bad line: the file counts 13 records, and rejected.parquet holds the bad one."""
    good = "".join(f"ann,2024-03-{day:02}T10:00:00,kettle,i0\n" for day in range(1, 13))
    for name, content in (("items.csv", CATALOGUE), ("clicks.csv", HEADER + good + "bad\n")):
        (tmp_path / name).write_text(content)
    report = prepare(Mapped(tmp_path, ITEMS, CLICKS), tmp_path / "log")
    log = Log.open(tmp_path / "log")
    assert log.manifest.facts == json.loads(json.dumps(report.facts()))
    assert log.manifest.facts["files"]["searches: clicks.csv"] == {"read": 13, "accepted": 12, "rejected": 1}
    assert pq.read_table(tmp_path / "log" / "rejected.parquet").to_pylist() == [
        {"file": "clicks.csv", "line": 14, "reason": "1 fields where the header has 4", "content": b"bad\n"}
    ]
