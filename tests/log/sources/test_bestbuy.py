import os
from pathlib import Path

import pytest

from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.report import LogError
from onesearch.log.sources import BestBuy
from onesearch.log.split import Split

PRODUCT = """<product><sku>{sku}</sku><name>{name}</name><salePrice>19.99</salePrice>
<categoryPath><category><name>Best Buy</name></category><category><name>Games</name></category></categoryPath>
<manufacturer>City</manufacturer><modelNumber>80</modelNumber><platform>Xbox 360</platform><format/>
<esrbRating>M=Mature</esrbRating><orderable>{orderable}</orderable>
<details><detail><name>Genre</name><value>Shooters</value></detail></details></product>"""
CLICKS = """user,sku,category,query,click_time,query_time
u,2,c,Halo,2011-08-11 04:00:30,2011-08-11 04:00:00.27
u,1,c,Halo,2011-08-11 04:00:20,2011-08-11 04:00:00.27
u,2,c,Halo,2011-08-11 04:00:40,2011-08-11 04:00:00.27
u,1,c,Rage,2011-08-10 04:00:20,2011-08-10 04:00:00
"""


def _write(folder: Path, products: str) -> BestBuy:
    (folder / "products.xml").write_text(f"<products>{products}</products>")
    (folder / "clicks.csv").write_text(CLICKS)
    return BestBuy(folder, availability=True)


def test_a_search_is_a_user_at_a_query_time_and_copies_of_products_merge(tmp_path):
    """Clicks in click order 1, 2, 2: two distinct ones. Item 1 is listed twice, and once more with another name."""
    one = PRODUCT.format(sku=1, name="Halo", orderable="Available")
    two = PRODUCT.format(sku=2, name="Rage", orderable="SoldOut")
    other = PRODUCT.format(sku=1, name="Not Halo", orderable="Available")
    raw = _write(tmp_path, one + two + one + other + PRODUCT.format(sku="", name="x", orderable="")).read()
    rage, halo = raw.tables["searches"].to_pylist()
    assert (halo["clicked"], halo["query"], halo["impressed"], halo["purchased"]) == (["1", "2"], "Halo", None, None)
    assert rage["time"] < halo["time"]
    assert raw.findings["equal copies of a product merged"] == 1
    assert raw.tables["items"]["title"].to_pylist() == [
        "Halo",
        "Rage",
        "Not Halo",
    ]  # validation counts the duplicate ID
    assert (raw.files["products.xml"].accepted, raw.files["products.xml"].rejected) == (4, 1)
    item = raw.tables["items"].to_pylist()[0]
    assert item["category"] == ["Games", "Shooters"]
    assert dict(item["attributes"]) == {
        "Brand": ["City"],
        "Model": ["80"],
        "Specifications": ["Xbox 360"],
        "Audience": ["Mature"],
        "Style": ["Shooters"],
    }
    assert (item["brand"], item["price"], item["available"]) == ("City", 19.99, True)
    assert raw.tables["items"]["available"].to_pylist() == [True, False, True]
    # The product file is younger than the log: unless asked for, its availability is not recorded.
    assert BestBuy(tmp_path).read().tables["items"]["available"].to_pylist() == [None] * 3


def test_broken_xml_names_its_line(tmp_path):
    source = _write(tmp_path, "\n\n<product><sku>1</product>")
    with pytest.raises(LogError, match=r"products\.xml, line 3: not well-formed XML"):
        source.read()


def test_missing_products_name_the_file(tmp_path):
    with pytest.raises(LogError, match=r"products\.xml does not exist"):
        BestBuy(tmp_path).read()


@pytest.mark.skipif("ONESEARCH_REAL_DATA" not in os.environ, reason="ONESEARCH_REAL_DATA names no folder")
def test_the_real_log(tmp_path):
    """From 2011-09-24 on, 6,887 searches, 920 of them with a query never seen before."""
    from datetime import date

    source = BestBuy(Path(os.environ["ONESEARCH_REAL_DATA"]) / "bestbuy")
    report = prepare(source, tmp_path / "log", Split(test_from=date(2011, 9, 24)))
    assert report.rows["items"] == 437
    assert report.findings["equal copies of a product merged"] == 437
    log = Log.open(tmp_path / "log")
    test = log.contexts("test")
    seen = set(log.queries["query"].to_pylist())
    assert len(test) == 6887
    assert sum(context.query not in seen for context in test) == 920
