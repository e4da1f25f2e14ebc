import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from jsonargparse import ArgumentParser

from onesearch.log.report import LogError
from onesearch.log.sources import FileMapping, Mapped, Source

ITEMS = FileMapping(
    "items.csv",
    {"item_id": "sku", "title": "name", "price": "cost", "category": ["dept", "shelf"], "available": "live"},
    attributes={"Color": "colour"},
    separator="|",
    delimiter=";",
)
CATALOGUE = "sku;name;cost;dept;shelf;colour;live\n1;Kettle;9.5;Home;Kettles;red|blue;yes\n2;Mug;;Home;;;0\n"
SEARCHES = FileMapping(
    "searches.csv", {"search_id": "id", "time": "at", "query": "q", "clicked": "hits"}, separator=" "
)


def _read(folder, searches: FileMapping, content: str, **more):
    (folder / "items.csv").write_text(CATALOGUE)
    (folder / searches.path).write_text(content)
    return Mapped(folder, ITEMS, searches, **more).read()


def test_columns_lists_and_attributes(tmp_path):
    raw = _read(tmp_path, SEARCHES, "id,at,q,hits\na,2024-03-01 10:00,mug,2 1\nb,2024-03-01 11:00,cup,\n")
    kettle, mug = raw.tables["items"].to_pylist()
    assert (kettle["price"], kettle["category"], kettle["available"]) == (9.5, ["Home", "Kettles"], True)
    assert kettle["attributes"] == [("Color", ["red", "blue"])]
    assert (mug["price"], mug["category"], mug["attributes"], mug["available"]) == (None, ["Home"], [], False)
    first, second = raw.tables["searches"].to_pylist()
    assert (first["clicked"], second["clicked"]) == (["2", "1"], [])
    assert first["impressed"] is None


def test_one_row_an_impression_becomes_a_search(tmp_path):
    """Rows of a search share user, time and query; display order is row order; a missing flag is a no."""
    mapping = FileMapping(
        "shown.csv",
        {"user_id": "u", "time": "at", "query": "q", "item_id": "sku", "clicked": "c", "purchased": "p"},
        row="impression",
        time="ms",
    )
    lines = ["u,at,q,sku,c,p", "ann,1000,mug,2,0,0", "ann,1000,mug,1,1,1", "ann,2000,mug,1,,"]
    first, second = _read(tmp_path, mapping, "\n".join(lines)).tables["searches"].to_pylist()
    assert (first["impressed"], first["clicked"], first["purchased"]) == (["2", "1"], ["1"], ["1"])
    assert (second["impressed"], second["clicked"], second["purchased"]) == (["1"], [], [])
    assert first["time"] == dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)


def test_one_row_a_click_records_neither_impressions_nor_purchases(tmp_path):
    mapping = FileMapping(
        "c.csv", {"user_id": "u", "time": "at", "query": "q", "item_id": "sku"}, row="click", time="s"
    )
    (search,) = _read(tmp_path, mapping, "u,at,q,sku\nann,5,mug,2\nann,5,mug,1\n").tables["searches"].to_pylist()
    assert (search["impressed"], search["clicked"], search["purchased"]) == (None, ["2", "1"], None)


def test_times_without_a_zone_are_those_of_the_mapping(tmp_path):
    """10:00 in Berlin in winter is 9:00 UTC; a time that names its zone keeps it."""
    mapping = FileMapping(
        "s.jsonl", {"user_id": "u", "time": "at", "query": "q"}, zone="Europe/Berlin", time="%d.%m.%Y %H:%M%z"
    )
    iso = FileMapping("s.jsonl", mapping.columns, zone="Europe/Berlin")
    content = '{"u": 1, "at": "2024-01-05 10:00", "q": "mug"}\n{"u": 1, "at": "2024-01-05T10:00:00Z", "q": "mug"}\n'
    hours = [time.hour for time in _read(tmp_path, iso, content).tables["searches"]["time"].to_pylist()]
    assert hours == [9, 10]
    (time,) = (
        _read(tmp_path, mapping, '{"u": 1, "at": "05.01.2024 10:00+0300", "q": "m"}\n')
        .tables["searches"]["time"]
        .to_pylist()
    )
    assert time.hour == 7


def test_parquet_events_users_and_judgments(tmp_path):
    events = {
        "u": [1.0, 2.0],
        "i": [1, 2],
        "at": pa.array([0, 1_000_000], pa.timestamp("us")),
        "k": ["click", "purchase"],
    }
    pq.write_table(pa.table(events), tmp_path / "events.parquet")
    (tmp_path / "users.tsv").write_text("u\tsex\n1\tUNKNOWN\n")
    (tmp_path / "grades.json").write_text('{"q": "mug", "i": 2, "g": 3}\n{"q": "mug", "i": 1, "g": 2.5}\n')
    raw = _read(
        tmp_path,
        SEARCHES,
        "id,at,q,hits\na,2024-03-01,mug,[2]\n",
        events=FileMapping("events.parquet", {"user_id": "u", "item_id": "i", "time": "at", "action": "k"}),
        users=FileMapping("users.tsv", {"user_id": "u", "gender": "sex"}),
        judgments=FileMapping("grades.json", {"query": "q", "item_id": "i", "grade": "g"}),
    )
    assert raw.tables["events"]["user_id"].to_pylist() == ["1", "2"]  # a column of floats still joins
    assert raw.tables["events"]["time"][1].as_py() == dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
    assert raw.tables["users"].to_pylist()[0]["gender"] is None
    assert raw.tables["judgments"]["grade"].to_pylist() == [3]
    assert [record.reason for record in raw.rejected] == ["grade is not a small whole number"]
    assert raw.tables["searches"]["clicked"].to_pylist() == [["2"]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [("3;Pot;dear;;;;1", "price is not a number"), ("3;Pot;1;;;;maybe", "available is not yes or no")],
)
def test_bad_fields_are_refused(tmp_path, line, reason):
    (tmp_path / "items.csv").write_text(CATALOGUE + line + "\n")
    (tmp_path / "searches.csv").write_text("id,at,q,hits\n")
    (record,) = Mapped(tmp_path, ITEMS, SEARCHES).read().rejected
    assert (record.line, record.reason) == (4, reason)


@pytest.mark.parametrize(
    ("searches", "sentence"),
    [
        (
            FileMapping("s.csv", {"search_id": "id", "time": "at", "query": "q", "hits": "c"}),
            "names the column 'hits'",
        ),
        (FileMapping("s.csv", {"search_id": "id", "query": "q"}), "The mapping of searches lacks 'time'"),
        (FileMapping("s.csv", {"time": "at", "query": "q"}), "needs 'search_id' or 'user_id'"),
        (
            FileMapping("s.csv", {"user_id": "u", "time": "at", "query": "q"}, row="click"),
            "The mapping of searches lacks 'item_id'",
        ),
    ],
)
def test_a_wrong_mapping_is_told_before_anything_is_read(tmp_path, searches, sentence):
    with pytest.raises(LogError, match=sentence):
        Mapped(tmp_path, ITEMS, searches)


def test_an_unknown_attribute_type_and_zone_are_told(tmp_path):
    with pytest.raises(LogError, match="'Colour' is no attribute type: use some of Entity"):
        Mapped(tmp_path, FileMapping("i.csv", ITEMS.columns, attributes={"Colour": "c"}), SEARCHES)
    with pytest.raises(LogError, match="'Mars/Base' is no time zone"):
        Mapped(tmp_path, ITEMS, FileMapping("s.csv", SEARCHES.columns, zone="Mars/Base"))
    with pytest.raises(LogError, match="'title' takes one column"):
        Mapped(tmp_path, FileMapping("i.csv", {"item_id": "a", "title": ["b", "c"]}), SEARCHES)


def test_the_documented_example_reads_the_documented_files(tmp_path):
    """The files of docs/data.md through configs/data/mapped_example.yaml."""
    (tmp_path / "products.csv").write_text(
        "sku,name,maker,price,department,aisle,shelf,colour,material\n"
        "A1,Steel kettle,Acme,29.90,Home,Kitchen,Kettles,silver|black,steel\n"
    )
    (tmp_path / "impressions.jsonl").write_text(
        '{"visitor": "v7", "at": 1711965600000, "q": "kettle", "sku": "A1", "clicked": 1, "bought": 0}\n'
    )
    (tmp_path / "visitors.csv").write_text("visitor,gender,age,region\nv7,F,31-40,Bavaria\n")
    event = {
        "visitor": ["v7"],
        "sku": ["A1"],
        "at": [dt.datetime(2024, 4, 1, 12)],
        "widget": ["home"],
        "kind": ["click"],
    }
    pq.write_table(pa.table(event), tmp_path / "recommendations.parquet")
    config = yaml.safe_load((Path(__file__).parents[3] / "configs/data/mapped_example.yaml").read_text())
    config["source"]["init_args"]["folder"] = str(tmp_path)
    parser = ArgumentParser()
    parser.add_subclass_arguments(Source, "source")
    source = parser.instantiate(parser.parse_object({"source": config["source"]})).source
    tables = source.read().tables
    (search,) = tables["searches"].to_pylist()
    assert search["time"] == dt.datetime(2024, 4, 1, 10, tzinfo=dt.UTC)
    assert (search["impressed"], search["clicked"], search["purchased"]) == (["A1"], ["A1"], [])
    assert tables["events"]["time"][0].as_py() == search["time"]  # noon in Berlin in summer
    assert dict(tables["items"].to_pylist()[0]["attributes"]) == {"Color": ["silver", "black"], "Material": ["steel"]}
