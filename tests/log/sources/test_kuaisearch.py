import datetime as dt
import json
import os
from pathlib import Path

import pytest

from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.report import LogError
from onesearch.log.sources import KuaiSearch

ITEM = {
    "item_id": 1,
    "item_title": "貂皮大衣",
    "brand_name": "无品牌",
    "seller_name": "皮草工厂店",
    "category_level1_name": "女装",
}
ITEMS = [
    ITEM | {"category_level2_name": "皮草", "category_level3_name": "UNKNOWN"},
    ITEM | {"item_id": 2, "item_title": "地毯", "brand_name": "金粟兰"},
    ITEM | {"item_id": 3, "item_title": "地毯"},
]
RECALL = {"user_id": 1, "session_id": 7, "time_index": 90, "query": "大衣", "split": "train"}
SEARCHES = [
    RECALL | {"impressed_item_ids": [1, 2, 9], "clicked_item_ids": [1], "purchased_item_ids": []},
    RECALL | {"impressed_item_ids": [3], "clicked_item_ids": [], "split": "val"},
    RECALL | {"time_index": 200, "impressed_item_ids": [2], "clicked_item_ids": [2], "split": "test"},
]
EXPOSURE = {
    "user_id": 1,
    "session_id": 7,
    "time_index": 200,
    "query": "大衣",
    "search_entrance": "mall",
    "is_clicked": 1,
}
RANK = [
    EXPOSURE | {"target_item_id": 2, "target_item_price": 12.5, "is_purchased": 1},
    EXPOSURE | {"target_item_id": 1, "target_item_price": 8, "is_purchased": 0, "session_id": 99},
]
RELEVANCE = [
    {"query": "大衣", "item_title": title, "score": score}
    for title, score in (("貂皮大衣", 3), ("地毯", 0), ("帽", 1), ("帽", 5))
]


def _write(folder: Path, **tables) -> Path:
    for name, rows in tables.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    return folder


@pytest.fixture
def raw(tmp_path):
    users = [{"user_id": 1, "gender": "F", "age_bucket": "UNKNOWN", "fre_province": "浙江"}]
    _write(tmp_path, items=ITEMS, users=users, recall=SEARCHES, rank=RANK, relevance=RELEVANCE)
    return KuaiSearch(tmp_path, time_unit="minute", first_day=dt.date(2025, 6, 1)).read()


def test_unknown_words_are_null(raw):
    first, second, _ = raw.tables["items"].to_pylist()
    assert (first["brand"], first["category"]) == (None, ["女装", "皮草"])
    assert dict(second["attributes"]) == {"Brand": ["金粟兰"], "Anchor": ["皮草工厂店"]}
    (user,) = raw.tables["users"].to_pylist()
    assert (user["user_id"], user["age_bucket"], user["province"]) == ("1", None, "浙江")


def test_searches_keep_their_split_and_equal_ones_get_a_number(raw):
    first, again, last = raw.tables["searches"].to_pylist()
    assert (first["split"], again["split"], last["split"]) == ("train", "validation", "test")
    assert again["search_id"] == first["search_id"] + "#2"
    assert first["time"] == dt.datetime(2025, 6, 1, 1, 30, tzinfo=dt.UTC)  # 90 minutes
    assert (first["impressed"], first["clicked"]) == (["1", "2", "9"], ["1"])


def test_rank_adds_prices_entrance_and_missing_purchases(raw):
    """The recall line has no purchases: rank tells that item 2 was bought. The line of session 99 has no search."""
    first, _, last = raw.tables["searches"].to_pylist()
    assert (last["entrance"], last["purchased"]) == ("mall", ["2"])
    assert first["purchased"] == []
    assert raw.tables["items"]["price"].to_pylist() == [8.0, 12.5, None]
    assert raw.findings["rank lines whose search is not in recall: only their price is used"] == 1


def test_grades_join_by_a_title_that_one_item_has(raw):
    assert raw.tables["judgments"].to_pylist() == [{"query": "大衣", "item_id": "1", "grade": 3}]
    assert raw.findings["grades whose title belongs to several items: left out"] == 1
    assert raw.findings["grades whose title belongs to no item: left out"] == 1
    assert [record.reason for record in raw.rejected] == ["score is not 0, 1, 2 or 3"]


def test_a_time_that_is_no_number_is_refused(tmp_path):
    bad = [RECALL | {"time_index": value} for value in ("noon", None, -(10**9))]
    raw = KuaiSearch(_write(tmp_path, items=ITEMS, recall=[SEARCHES[0], *bad])).read()
    assert [record.reason for record in raw.rejected] == ["time_index is not a number", "no time_index"]
    assert len(raw.tables["searches"]) == 2


def test_items_and_recall_must_be_there(tmp_path):
    with pytest.raises(LogError, match=r"holds no items\.jsonl: name the folder with the five files"):
        KuaiSearch(tmp_path).read()


def test_ids_that_do_not_join_are_told(tmp_path):
    strangers = [SEARCHES[0] | {"clicked_item_ids": [77, 78]}, *SEARCHES[1:]]
    raw = KuaiSearch(_write(tmp_path, items=ITEMS, recall=strangers)).read()
    assert "2 of 3 clicked items are not in items.jsonl." in raw.notes


@pytest.mark.skipif("ONESEARCH_REAL_DATA" not in os.environ, reason="ONESEARCH_REAL_DATA names no folder")
def test_the_real_demo_is_prepared_and_says_that_its_ids_do_not_join(tmp_path):
    source = KuaiSearch(Path(os.environ["ONESEARCH_REAL_DATA"]) / "kuaisearch_demo")
    report = prepare(source, tmp_path / "log")
    assert any(note.startswith("583 of 583 clicked items are not in items.jsonl") for note in report.notes)
    log = Log.open(tmp_path / "log")
    assert len(log.searches) == 200
    assert all(context.clicked == () for context in log.contexts("test"))
