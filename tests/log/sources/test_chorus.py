import json
import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.report import LogError
from onesearch.log.sources import Chorus, icecat
from onesearch.log.sources.chorus import GRADED, STRUCTURED
from onesearch.log.split import Split
from onesearch.types import ATTRIBUTE_TYPES


def sheet(number: int, title: str, name: str, supplier: str = "Acme", **more: Any) -> dict[str, Any]:
    return {"id": str(number), "title": title, "name": name, "supplier": supplier, "price": 4995, **more}


TONERS = [sheet(n, f"Acme T{n} toner cartridge Original", f"T{n}") for n in (1, 2, 3)]
"""Three titles that hold the same words in small letters after the name: a kind."""


def write(folder: Path, *archives: list[Any], ratings: str = "ink,1,3\nink,2,1\n") -> Chorus:
    for number, products in enumerate(archives, 1):
        with zipfile.ZipFile(folder / f"{number}.zip", "w") as archive:
            archive.writestr(f"{number}.json", json.dumps(products))
    (folder / "Broad_Query_Set_rated.csv").write_text("query,docid,rating\n" + ratings)
    return Chorus(folder)


def items(source: Chorus) -> dict[str, Any]:
    return {row["item_id"]: row for row in source.read().tables["items"].to_pylist()}


def test_a_sheet_becomes_an_item(tmp_path):
    """Cents become 49.95, lists are cut at commas, a flag gives its name, a number its unit; no brands."""
    attributes = {
        "attr_t_product_colour": "Black,Silver",
        "attr_t_housing_material": "Steel",
        "attr_n_display_diagonal": 15.6,
        "attr_n_ssd_capacity": 0.0,
        "attr_n_package_width": 212.0,
        "attr_n_quantity": 3.0,
        "attr_b_bluetooth": True,
        "attr_b_touchscreen": False,
        "attr_t_processor_family": "Intel Core i7-10xxx",
        "attr_t_country_of_origin": "China",
        "attr_t_type": "Original",
        "attr_t_finish_type": "No",
        "attr_t_purpose": "2",
        "attr_t_compatibility": "ACME,Phaser 7500",
    }
    item = items(write(tmp_path, [*TONERS, sheet(4, "Acme T4 toner cartridge", "T4", **attributes)]))["4"]
    assert (item["brand"], item["category"], item["price"]) == ("Acme", ["toner cartridge"], 49.95)
    assert dict(item["attributes"]) == {
        "Brand": ["Acme"],
        "Model": ["T4"],
        "Color": ["Black", "Silver"],
        "Specifications": ['15.6"'],
        "Material": ["Steel"],
        "Series": ["Intel Core i7"],
        "Entity": ["toner cartridge"],
        "Function": ["Bluetooth"],
        "Scene": ["Phaser 7500"],
        "Modifier": ["Original"],
        "Location": ["China"],
    }
    assert item["attributes"][1][0] == "Model"  # early: the encoder reads so many tokens only


@pytest.mark.parametrize(
    ("product", "kind"),
    [
        (sheet(9, "Acme T9 toner cartridge black", "T9"), "toner cartridge"),  # the longest beginning that is known
        (sheet(9, "Acme X1 Black", "X1", attr_t_product_type="Notebook"), "notebook"),
        (sheet(9, "Acme Cat6 Patch Cable for Switch", "Cat6 Patch Cable for Switch"), "networking cable"),
        (sheet(9, "Acme 72 Original 1 pc(s)", "72", attr_t_printing_colours="Grey"), None),  # no PC
        (
            sheet(9, "Acme 72", "72", attr_t_printing_colours="Grey", attr_t_print_technology="Inkjet printing"),
            "ink cartridge",
        ),
        (sheet(9, "Acme 72", "72", short_description="A light bulb"), "light bulb"),
    ],
)
def test_the_kind_of_a_product(product, kind):
    assert icecat.Catalogue([*TONERS, product]).kind_of(product) == kind


def test_a_kind_that_two_titles_hold_is_an_accident():
    """Three toners make a kind, two do not; its words are in no table."""
    blobs = [sheet(n, f"Acme B{n} glowing blob", f"B{n}") for n in (1, 2, 3)]
    assert icecat.Catalogue(blobs).kind_of(blobs[0]) == "glowing blob"
    assert icecat.Catalogue(blobs[:2]).kind_of(blobs[0]) is None


def test_every_mapping_is_to_one_of_the_types():
    assert {*icecat.TYPE_OF.values()} <= set(ATTRIBUTE_TYPES)


def test_of_a_product_listed_twice_the_first_stays(tmp_path):
    raw = write(tmp_path, TONERS, [sheet(1, "Acme other", "other"), sheet(4, "Acme Z", "Z"), {"id": "5"}]).read()
    assert raw.tables["items"]["title"].to_pylist()[0] == "Acme T1 toner cartridge Original"
    assert raw.tables["items"]["item_id"].to_pylist() == ["1", "2", "3", "4"]
    assert raw.findings["products listed more than once: the first is kept"] == 1
    assert (raw.files["2.zip"].accepted, raw.files["2.zip"].rejected) == (2, 1)
    assert [(record.file, record.line, record.reason) for record in raw.rejected] == [("2.zip", 3, "no title")]


def test_items_of_one_title_are_told_apart(tmp_path):
    """Two mounts share a title: each takes its description; what has a title of its own does not."""
    mounts = [sheet(n, "Acme mount", "mount", short_description=f"for {n}0 inches") for n in (4, 5)]
    lone = sheet(6, "Acme lone", "lone", short_description="alone")
    found = items(write(tmp_path, [*mounts, lone]))
    assert [found[key]["title"] for key in "456"] == [
        "Acme mount, for 40 inches",
        "Acme mount, for 50 inches",
        "Acme lone",
    ]


def test_grades_become_judgments_and_pseudo_searches(tmp_path):
    """Shown are the rated items in their order, clicked those of grade 2 and 3; a rating of 4 is refused."""
    source = write(tmp_path, TONERS, ratings="ink,1,0\nInk,2,2\nink,3,3\nlamp,1,4\n")
    raw = source.read()
    assert [tuple(row.values()) for row in raw.tables["judgments"].to_pylist()] == [
        ("ink", "1", 0),
        ("Ink", "2", 2),
        ("ink", "3", 3),
    ]
    structured, graded = raw.tables["searches"].to_pylist()
    assert (structured["entrance"], structured["query"]) == (STRUCTURED, "acme toner cartridge")
    assert (structured["clicked"], structured["impressed"], structured["split"]) == (["1", "2", "3"], None, "train")
    assert (graded["entrance"], graded["query"], graded["user_id"]) == (GRADED, "ink", None)
    assert (graded["impressed"], graded["clicked"]) == (["1", "2", "3"], ["2", "3"])
    assert raw.rejected[0].reason == "rating is not 0, 1, 2 or 3"
    without = Chorus(tmp_path, pseudo_searches=False, structured_queries=False).read()
    assert without.tables["searches"].num_rows == 0
    assert without.tables["judgments"] == raw.tables["judgments"]


def test_no_query_is_in_two_parts_and_the_split_by_time_agrees(tmp_path):
    """Of 20 graded queries 0.2 are the test and half of that the validation: 14, 2, 4, on later and later days."""
    source = write(tmp_path, TONERS, ratings="".join(f"q{n},1,3\nQ{n},2,0\n" for n in range(20)))
    searches = source.read().tables["searches"].to_pylist()
    graded = [search for search in searches if search["entrance"] == GRADED]
    assert len({search["query"].casefold() for search in graded}) == len(graded) == 20
    days = {part: {s["time"].day for s in graded if s["split"] == part} for part in ("train", "validation", "test")}
    assert days == {"train": {2}, "validation": {3}, "test": {4}}
    assert [sum(s["split"] == part for s in graded) for part in days] == [14, 2, 4]
    others = Chorus(tmp_path, seed=1).read().tables["searches"].to_pylist()
    assert {s["query"] for s in others if s["split"] == "test"} != {s["query"] for s in graded if s["split"] == "test"}
    report = prepare(source, tmp_path / "log", Split())
    assert report.split["test from"].startswith("2024-01-04")
    assert datetime(2024, 1, 1, tzinfo=UTC) == searches[0]["time"]


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(LogError, match=r"holds no \.zip of products"):
        Chorus(tmp_path).read()
    source = write(tmp_path, TONERS)
    (tmp_path / "2.zip").write_bytes(b"no zip")
    with pytest.raises(LogError, match=r"2\.zip is no zip of JSON"):
        source.read()
    with zipfile.ZipFile(tmp_path / "2.zip", "w") as archive:
        archive.writestr("a.json", "{}")
    with pytest.raises(LogError, match=r"2\.zip, a\.json: not a JSON list"):
        source.read()
    with pytest.raises(LogError, match="test_share is 0"):
        Chorus(tmp_path, test_share=0)


@pytest.mark.skipif("ONESEARCH_REAL_DATA" not in os.environ, reason="ONESEARCH_REAL_DATA names no folder")
def test_the_real_catalogue(tmp_path):
    """19,406 items, 135 queries, 3,668 ratings of which 1,853, 238, 105 and 1,472 are 0 to 3."""
    report = prepare(Chorus(Path(os.environ["ONESEARCH_REAL_DATA"]) / "chorus"), tmp_path / "log")
    assert (report.rows["items"], report.rows["judgments"]) == (19406, 3668)
    log = Log.open(tmp_path / "log")
    grades = log.judgments["grade"].to_pylist()
    assert [grades.count(grade) for grade in range(4)] == [1853, 238, 105, 1472]
    assert len({row["query"] for row in log.judgments.to_pylist()}) == 135
    rows = log.items.to_pylist()
    assert sum(bool(row["category"]) for row in rows) > 0.9 * len(rows)
    toner = next(row for row in rows if row["item_id"] == "3920564")
    assert (toner["brand"], toner["category"], toner["price"]) == ("Xerox", ["toner cartridge"], 49.95)
    assert len(log.contexts("test")) == 27
