import json
import os
from pathlib import Path
from typing import Any

import pytest

from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.report import LogError
from onesearch.log.sources import Amazon
from onesearch.log.sources.amazon import CATEGORY_PATH, NO_QUERY

ROOT = "Industrial & Scientific"
TAPE = f"{ROOT},Tapes, Adhesives & Sealants,Adhesive Tapes,Duct Tape"
CLAMP = f"{ROOT},Hydraulics, Pneumatics & Plumbing,Fittings,Hose Fittings,Hose Clamps,Worm Gear Hose Clamps"


def sheet(title: str, categories: str, brand: str = "Acme") -> dict[str, str]:
    return {"title": f"{title}.", "description": "What it does.", "brand": brand, "categories": categories}


SHEETS = {
    "0": sheet("Silver tape", TAPE, "Dec &amp; Sons"),
    "1": sheet("Clamp, 2 in", CLAMP),
    "2": sheet("Elbow", f"{ROOT},Hydraulics, Pneumatics & Plumbing,Fittings,Pipe Fittings", brand=""),
    "3": sheet("Basalt", ""),
    "4": sheet("Dry bags", f"{CLAMP},1 pack,2 pack, resealable"),
}


def write(folder: Path, users: Any, items: Any = SHEETS) -> Amazon:
    (folder / "Scientific.item.json").write_text(json.dumps(items), "utf-8")
    (folder / "Scientific.inter.json").write_text(json.dumps(users), "utf-8")
    return Amazon(folder)


def test_a_sheet_becomes_an_item(tmp_path):
    """The root goes, commas with a space stay in a name, the title's last point goes, &amp; is an ampersand."""
    rows = write(tmp_path, {"a": [0]}).read().tables["items"].to_pylist()
    tape, clamp, elbow, basalt, _ = rows
    assert tape["item_id"] == "0"
    assert (tape["title"], tape["brand"]) == ("Silver tape", "Dec & Sons")
    assert tape["category"] == ["Tapes, Adhesives & Sealants", "Adhesive Tapes", "Duct Tape"]
    assert dict(tape["attributes"]) == {"Brand": ["Dec & Sons"], "Entity": ["Duct Tape"]}
    assert clamp["title"] == "Clamp, 2 in"
    assert clamp["category"][0] == "Hydraulics, Pneumatics & Plumbing"
    assert len(clamp["category"]) == 5
    assert (elbow["brand"], dict(elbow["attributes"])) == (None, {"Entity": ["Pipe Fittings"]})
    assert (basalt["category"], dict(basalt["attributes"])) == ([], {"Brand": ["Acme"]})
    assert {row["price"] for row in rows} == {None}


def test_bullets_are_no_categories(tmp_path):
    """A path of seven names below the root: the two that no ordinary path holds are dropped and counted."""
    raw = write(tmp_path, {"a": [0]}).read()
    clamp, dry = (raw.tables["items"]["category"][row].as_py() for row in (1, 4))
    assert dry == clamp
    assert raw.findings["bullets of a product sheet in its category path: dropped"] == 2


def test_queries_are_the_last_names_each_word_once(tmp_path):
    """The last two names of the path, or of its beginning; a word that comes again stays where it came last."""
    source = write(tmp_path, {"a": [0, 1, 2]})
    searches = source.read().tables["searches"].to_pylist()
    assert [search["query"] for search in searches] == [
        "adhesive tapes duct tape",
        "worm gear hose clamps",
        "pipe fittings",
    ]
    assert {search["entrance"] for search in searches} == {CATEGORY_PATH}
    coarse = [Amazon(tmp_path, query_depth=depth).read().tables["searches"]["query"].to_pylist() for depth in (1, 2)]
    assert coarse[0] == ["tapes adhesives sealants", *["hydraulics pneumatics plumbing"] * 2]
    assert coarse[1] == ["adhesives sealants adhesive tapes", *["hydraulics pneumatics plumbing fittings"] * 2]


def test_days_are_counted_from_the_end(tmp_path):
    """Whatever the length, the last purchase is the test, on one day for all; the one before it is the validation."""
    raw = write(tmp_path, {"a": [0, 1, 2], "b": [2, 0, 1, 4], "c": [1]}).read()
    searches = raw.tables["searches"].to_pylist()
    found = {(s["user_id"], s["clicked"][0]): (s["time"].date().isoformat(), s["split"]) for s in searches}
    assert found == {
        ("b", "2"): ("2018-09-28", "train"),
        ("a", "0"): ("2018-09-29", "train"),
        ("b", "0"): ("2018-09-29", "train"),
        ("a", "1"): ("2018-09-30", "validation"),
        ("b", "1"): ("2018-09-30", "validation"),
        ("a", "2"): ("2018-10-01", "test"),
        ("b", "4"): ("2018-10-01", "test"),
        ("c", "1"): ("2018-10-01", "test"),
    }
    assert [search["search_id"] for search in searches if search["user_id"] == "b"] == ["b#1", "b#2", "b#3", "b#4"]
    assert all(search["purchased"] == search["clicked"] and search["impressed"] is None for search in searches)
    assert raw.tables["users"]["user_id"].to_pylist() == ["a", "b", "c"]


def test_without_a_category_there_is_no_query_but_the_purchase_stays(tmp_path):
    """Item 3 has no path: bought it was on its own day, before and after which the days go on."""
    raw = write(tmp_path, {"a": [0, 3, 2, 1], "b": [0, 1, 3]}).read()
    events = raw.tables["events"].to_pylist()
    assert [(e["user_id"], e["item_id"], e["time"].day, e["action"]) for e in events] == [
        ("a", "3", 29, "click"),
        ("a", "3", 29, "purchase"),
        ("b", "3", 1, "click"),
        ("b", "3", 1, "purchase"),
    ]
    assert {event["scene"] for event in events} == {NO_QUERY}
    days = {s["search_id"]: s["time"].day for s in raw.tables["searches"].to_pylist()}
    assert days == {"a#1": 28, "a#3": 30, "a#4": 1, "b#1": 29, "b#2": 30}
    assert raw.findings["items without a category path"] == 1
    assert raw.findings["purchases of an item without a category path: kept as events outside search"] == 2
    assert raw.findings["users whose last purchase is such an event: not among the test searches"] == 1


def test_what_a_search_may_know_is_what_was_bought_before(tmp_path):
    """The test search of user a: three purchases before it, the one without a query among them."""
    report = prepare(write(tmp_path, {"a": [0, 3, 2, 1], "b": [2, 0, 1]}), tmp_path / "log")
    assert report.findings.get("searches whose time is before that of the row above: sorted") is None
    assert report.split["test from"].startswith("2018-10-01")
    log = Log.open(tmp_path / "log")
    last = next(context for context in log.contexts("test") if context.user_id == "a")
    assert [log.item_ids[row] for row in last.long_clicks] == ["0", "3", "2"]
    assert [log.item_ids[row] for row in last.long_orders] == ["0", "3", "2"]
    assert last.recent_queries == ("adhesive tapes duct tape", "pipe fittings")
    assert [log.item_ids[row] for row in last.clicked] == ["1"]


def test_bad_entries_are_refused_and_kept(tmp_path):
    """No title, no object, no list, an item of null: each is told by file and number; the rest is read."""
    items = {**SHEETS, "5": sheet("", TAPE) | {"title": " "}, "6": "Tape"}
    raw = write(tmp_path, {"a": [0, 1, 2], "b": {"0": 1}, "c": [], "d": [0, None]}, items).read()
    assert [(r.file, r.line, r.reason) for r in raw.rejected] == [
        ("Scientific.item.json", 6, "no title"),
        ("Scientific.item.json", 7, "not a JSON object"),
        ("Scientific.inter.json", 2, "not a list of items"),
        ("Scientific.inter.json", 3, "not a list of items"),
        ("Scientific.inter.json", 4, "no item"),
    ]
    assert json.loads(raw.rejected[1].content) == {"6": "Tape"}
    assert [(f.read, f.accepted, f.rejected) for f in raw.files.values()] == [(7, 5, 2), (4, 1, 3)]


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(LogError, match=r"Scientific\.item\.json does not exist: check the folder"):
        Amazon(tmp_path).read()
    source = write(tmp_path, [[0, 1]])
    with pytest.raises(LogError, match=r"inter\.json is no JSON object"):
        source.read()
    (tmp_path / "Scientific.item.json").write_bytes(b'{"0": \xff')
    with pytest.raises(LogError, match=r"item\.json is not JSON"):
        source.read()
    with pytest.raises(LogError, match="query_depth is 0"):
        Amazon(tmp_path, query_depth=0)


@pytest.mark.skipif("ONESEARCH_REAL_DATA" not in os.environ, reason="ONESEARCH_REAL_DATA names no folder")
def test_the_real_sequences(tmp_path):
    """8,317 users, 58,492 purchases of 4,344 items; 131 items have no category, two sheets run on into 15 bullets."""
    folder = Path(os.environ["ONESEARCH_REAL_DATA"]) / "amazon_scientific"
    report = prepare(Amazon(folder), tmp_path / "log")
    assert (report.rows["users"], report.rows["items"]) == (8317, 4344)
    assert report.rows["searches"] + report.rows["events"] // 2 == 58492
    assert report.findings == {
        "bullets of a product sheet in its category path: dropped": 15,
        "items without a category path": 131,
        "purchases of an item without a category path: kept as events outside search": 1542,
        "users whose last purchase is such an event: not among the test searches": 201,
    }
    log = Log.open(tmp_path / "log")
    bought = json.loads((folder / "Scientific.inter.json").read_text("utf-8"))
    tested = log.contexts("test")
    assert len(tested) == 8317 - 201
    for context in tested:
        before = [str(item) for item in bought[context.user_id][:-1]]
        assert [log.item_ids[row] for row in context.long_orders] == before
        assert log.item_ids[context.clicked[0]] == str(bought[context.user_id][-1])
        assert context.clicked[0] not in context.long_clicks  # nobody buys a thing twice
