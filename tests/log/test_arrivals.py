"""New items and queries from files, and what is refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onesearch.log.arrivals import read_arrivals, read_queries
from onesearch.log.schema import ITEMS
from onesearch.types import UserError

ROWS = [
    {"item_id": "a", "title": "Red mug", "price": 3.5, "attributes": {"Color": ["red"]}, "shelf": 7},
    {"item_id": "b", "title": "Blue mug"},
]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_json_lines_become_canonical_items(tmp_path):
    """Columns that are left out are null, those that no item has are passed over."""
    table = read_arrivals(jsonl(tmp_path / "new.jsonl", ROWS))
    assert table.schema == ITEMS
    assert table["title"].to_pylist() == ["Red mug", "Blue mug"]
    assert table["price"].to_pylist() == [3.5, None]
    assert table["attributes"].to_pylist() == [[("Color", ["red"])], None]


def test_csv_and_parquet_are_read_too(tmp_path):
    (tmp_path / "new.csv").write_text("item_id,title\n17,Red mug\n", "utf-8")
    assert read_arrivals(tmp_path / "new.csv")["item_id"].to_pylist() == ["17"]
    pq.write_table(pa.table({"item_id": ["17"], "title": ["Red mug"]}), tmp_path / "new.parquet")
    assert read_arrivals(tmp_path / "new.parquet")["title"].to_pylist() == ["Red mug"]


def test_a_lone_string_is_a_list_of_one(tmp_path):
    """Not of its letters; one row may hold a string where the next holds a list."""
    rows = [
        {"item_id": "a", "title": "Red mug", "category": "cups", "attributes": {"Color": "red", "Brand": ""}},
        {"item_id": "b", "title": "Blue mug", "category": ["cups", "mugs"], "attributes": {"Color": ["blue", "navy"]}},
    ]
    table = read_arrivals(jsonl(tmp_path / "new.jsonl", rows))
    assert table["category"].to_pylist() == [["cups"], ["cups", "mugs"]]
    assert table["attributes"].to_pylist() == [[("Color", ["red"])], [("Color", ["blue", "navy"])]]
    (tmp_path / "new.csv").write_text("item_id,title,category,brand\n1,Red mug,cups,Hexa\n2,Blue mug,,\n", "utf-8")
    table = read_arrivals(tmp_path / "new.csv")
    assert table["category"].to_pylist() == [["cups"], None]
    assert table["brand"].to_pylist() == ["Hexa", None]


def test_ids_and_titles_stay_as_they_are_written(tmp_path):
    """Neither a number nor a date is read into them; a JSON number is an ID too, beside one that is not."""
    (tmp_path / "new.csv").write_text("item_id,title\n007,2024-01-01\n", "utf-8")
    assert read_arrivals(tmp_path / "new.csv").select(["item_id", "title"]).to_pylist() == [
        {"item_id": "007", "title": "2024-01-01"}
    ]
    rows = [{"item_id": "2024-01-01", "title": "2024-01-02"}, {"item_id": 7, "title": "Red mug"}]
    table = read_arrivals(jsonl(tmp_path / "new.jsonl", rows))
    assert table["item_id"].to_pylist() == ["2024-01-01", "7"]
    assert table["title"].to_pylist() == ["2024-01-02", "Red mug"]


def test_attributes_of_parquet_are_a_map_or_a_struct(tmp_path):
    """A struct's fields that a row lacks are null, and no attribute."""
    columns = {"item_id": ["a", "b"], "title": ["Red mug", "Hexa mug"]}
    rows = [[("Color", ["red"])], [("Brand", ["Hexa"])]]
    for attributes in (
        pa.array(rows, ITEMS.field("attributes").type),
        pa.array([dict(row) for row in rows]),
    ):
        pq.write_table(pa.table({**columns, "attributes": attributes}), tmp_path / "new.parquet")
        assert read_arrivals(tmp_path / "new.parquet")["attributes"].to_pylist() == rows


def test_queries_are_normalised_and_distinct(tmp_path):
    path = jsonl(tmp_path / "q.jsonl", [{"query": "Red  Mug"}, {"query": "red mug"}, {"query": None}, {"query": "cup"}])
    assert read_queries(path) == ["red mug", "cup"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"item_id": "a"}], "lacks the column 'title'"),
        ([ROWS[0], {"item_id": "b", "title": " "}], "line 2: no title"),
        ([ROWS[1], ROWS[1]], "line 2: item_id 'b' came before"),
        ([{**ROWS[1], "attributes": {"Colour": ["red"]}}], "line 1: 'Colour' is no attribute type"),
        ([ROWS[0], {**ROWS[1], "attributes": "red"}], "line 2: 'attributes' names no types"),
        ([{**ROWS[1], "attributes": ["red"]}], "line 1: 'attributes' names no types"),
        ([{**ROWS[1], "attributes": 7}], "line 1: 'attributes' names no types"),
        ([ROWS[1], ["b"]], "line 2: not a JSON object"),
        ([{**ROWS[1], "price": "cheap"}], "line 1: price is not a number"),
        ([{**ROWS[1], "available": "soon"}], "line 1: available is not yes or no"),
    ],
)
def test_a_mistake_names_the_line(tmp_path, rows, sentence):
    with pytest.raises(UserError, match=sentence):
        read_arrivals(jsonl(tmp_path / "new.jsonl", rows))


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"new.jsonl does not exist"):
        read_arrivals(tmp_path / "new.jsonl")
    (tmp_path / "new.txt").write_text("item_id", "utf-8")
    with pytest.raises(UserError, match=r"new.txt ends in '.txt'"):
        read_arrivals(tmp_path / "new.txt")
    (tmp_path / "new.jsonl").write_text("{broken\n", "utf-8")
    with pytest.raises(UserError, match=r"line 1: not JSON\. Mend the line"):
        read_arrivals(tmp_path / "new.jsonl")
    with pytest.raises(UserError, match="lacks the column 'query'"):
        read_queries(jsonl(tmp_path / "q.jsonl", ROWS))


def test_numbers_and_flags_of_csv_are_such(tmp_path):
    (tmp_path / "new.csv").write_text("item_id,title,price,available\n1,Red mug,3.50,no\n2,Cup,,\n", "utf-8")
    table = read_arrivals(tmp_path / "new.csv")
    assert table["price"].to_pylist() == [3.5, None]
    assert table["available"].to_pylist() == [False, None]
