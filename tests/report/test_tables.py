"""Sections that are tables: variants of the tokenizer, keywords, tagger, baselines, versions of the catalogue."""

import json
import math
import re
import shutil

import pytest
from leftovers import add_catalogue, add_comparison, add_lexicon, add_studies, add_tagger, add_tokenizers
from rich.console import Console
from walked import Walked

from onesearch.artifacts import write_json
from onesearch.keywords.lexicon import Keyword, Lexicon
from onesearch.report import catalogue, comparison, lexicon, studies, tagger, tokenizers
from onesearch.report.differences import write_picture
from onesearch.report.terminal import study_tables
from onesearch.types import ATTRIBUTE_TYPES


def test_variants_stand_above_the_published_rows(tmp_path):
    """The best of a column is bold, and both where they are printed alike; what does not exist is a dash."""
    add_tokenizers(tmp_path)
    walked = Walked(tokenizers.section(tmp_path).html)
    rows = {row[0]: row[1:] for row in walked.rows}
    assert rows["RQ"] == [
        "50.00%",
        "25.00%",
        "10.00%",
        "40.00%",
        "95.00%",
        "0.30000.2900–0.3100",
        "0.10000.0900–0.2000",
    ]
    assert rows["OPQ alone"] == ["–", "–", "–", "20.00%", "95.00%", "–", "–"]
    assert rows["+ balanced L3 (published)"] == ["–", "–", "7.03%", "68.08%", "–", "0.2844", "0.1038"]
    tied = ["50.00%", "25.00%", "10.00%"]
    assert walked.bold == [*tied, "95.00%", "0.3000", *tied, "90.00%", "95.00%", "0.3000", "0.2000", "95.00%"]
    assert "1,234 searches" in "".join(walked.text)
    (tmp_path / "ablation").mkdir()
    shutil.move(tmp_path / "tokenizers.json", tmp_path / "ablation")  # where it is written now
    assert Walked(tokenizers.section(tmp_path).html).rows == walked.rows


def test_keywords_are_the_ten_most_viewed_of_a_type(tmp_path):
    """Of twelve entities, two are not shown; a bar is as long as the logarithm of its views, 10^12 at most."""
    add_lexicon(tmp_path)
    html = lexicon.section(tmp_path).html
    text = "".join(Walked(html).text)
    assert "13 keywords in 2 of 18 attribute types" in text
    assert "kettle 3" in text
    assert "kettle 2" not in text
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", html)]
    hexa = 100 * math.log(1 + 7) / math.log(10**12)
    assert widths == pytest.approx([*(100 * n / 12 for n in range(12, 2, -1)), hexa], abs=0.06)


def test_types_without_keywords_are_named_in_one_line(tmp_path):
    add_lexicon(tmp_path)
    missing = ", ".join(type_ for type_ in ATTRIBUTE_TYPES if type_ not in ("Entity", "Brand"))
    assert f"Without keywords: {missing}." in "".join(Walked(lexicon.section(tmp_path).html).text)
    Lexicon(tuple(Keyword(type_, "x", 0) for type_ in ATTRIBUTE_TYPES)).save(tmp_path / "quantizer" / "lexicon.json")
    assert "Without" not in lexicon.section(tmp_path).html
    Lexicon(()).save(tmp_path / "quantizer" / "lexicon.json")
    assert f"Without keywords: {', '.join(ATTRIBUTE_TYPES)}." in lexicon.section(tmp_path).html


def test_the_tagger_has_a_line_for_each_type_it_met(tmp_path):
    add_tagger(tmp_path)
    assert Walked(tagger.section(tmp_path).html).rows[1:] == [
        ["all types", "1,500", "0.800", "0.600"],
        ["Entity", "1,000", "0.750", "0.250"],
        ["Color", "500", "0.500", "–"],
    ]


def test_baselines_stand_beside_us_on_one_scale(tmp_path):
    """From 0 (the low of .125) to .875 (the high of .75): .5 lies at 4/7, and .375 to .625 is 2/7 wide."""
    add_comparison(tmp_path)
    html = comparison.section(tmp_path).html
    walked = Walked(html)
    text = "".join(walked.text)
    assert "All searches 2,000 searches" in text
    assert "Unseen queries 30 searches" in text
    assert "shoppers" not in text
    assert ["BM25", "", "0.5000.375–0.625"] in walked.rows
    assert walked.bold == ["0.750", "0.250"]
    assert "left:42.9%;width:28.6%" in html
    assert 'class="grey mark" style="left:57.1%"' in html
    assert 'class="blue mark" style="left:85.7%"' in html


def test_orders_and_steps_stand_beside_the_comparison(tmp_path):
    """oNDCG@10 of the systems that have one, what it is, and a step whose interval leaves out 0 in bold."""
    add_comparison(tmp_path)
    content = json.loads((tmp_path / "compare.json").read_text("utf-8"))
    sold = {"metric": "oNDCG@10", "slice": "all", "value": 0.25, "low": 0.125, "high": 0.375}
    content["rows"].append(sold | {"system": "onesearch", "num_searches": 7})
    step = {"system": "onesearch-b", "baseline": "onesearch-a", "slice": "all", "metric": "HR@10"}
    content["differences"] = [
        step | {"value": 0.25, "low": 0.125, "high": 0.5},
        step | {"metric": "oNDCG@10", "value": -0.25, "low": -0.5, "high": 0.125},
        step | {"baseline": "BM25", "value": 0.75, "low": 0.5, "high": 1.0},
    ]
    write_json(tmp_path / "compare.json", content | {"orders": "Orders are <gains>."})
    walked = Walked(comparison.section(tmp_path).html)
    assert ["onesearch", "", "0.7500.625–0.875", "0.2500.125–0.375"] in walked.rows
    assert ["BM25", "", "0.5000.375–0.625", "–"] in walked.rows
    assert walked.rows[-2:] == [
        ["systems", "HR@10", "oNDCG@10"],
        ["onesearch-b less onesearch-a", "+0.250+0.125 to +0.500", "−0.250−0.500 to +0.125"],
    ]
    assert walked.bold[-1] == "+0.250"
    assert "Orders are <gains>." in "".join(walked.text)


def test_a_comparison_without_the_metric_is_left_out(tmp_path):
    write_json(tmp_path / "compare.json", {"rows": [], "differences": []})
    assert comparison.section(tmp_path) is None


def test_variants_of_a_study_stand_beside_the_first(tmp_path):
    """A difference is bold where interval and seeds leave out zero: -.25 ± .125 does, 0 ± .125, .0625 ± .125 do not.

    A study without generators is left out.
    """
    add_studies(tmp_path)
    html = studies.section(tmp_path).html
    walked = Walked(html)
    rows = walked.rows
    assert rows[1] == [
        "all <views>",
        "0.6250.500–0.750seeds 0.500 to 0.750",
        "0.2500.125–0.375seeds 0.250 to 0.250",
        "–",
        "–",
    ]
    lost, kept = "−0.250−0.375 to −0.125seeds −0.250 to −0.250", "+0.000−0.125 to +0.125seeds +0.000 to +0.000"
    assert rows[2][3:] == [lost, kept]
    assert rows[3] == ["HR@10 of", "unseen queries, 1,200"]
    assert rows[5] == ["no-short", "0.375+0.062 (−0.062 to +0.188)"]
    assert walked.bold == ["0.625", "0.250", "0.250", "−0.250", "0.625"]
    text = "".join(walked.text)
    assert "views 2,400 searches" in text
    assert "the same budget & seeds" in text
    assert "HR@10 less that of “all <views>”" in text
    assert "alone" not in text


@pytest.mark.parametrize(
    ("seeds", "is_bold"),
    [
        ([-0.25], False),  # what another seed would change is not known
        ([-0.5, 0.0], False),
        ([-0.625, 0.125], False),
        ([-0.375, -0.125], True),
    ],
)
def test_a_difference_is_bold_where_the_seeds_agree_too(seeds, is_bold, tmp_path):
    """-.25 ± .125 over users, by seeds whose average it is."""
    add_studies(tmp_path)
    path = tmp_path / "ablation" / "views.json"
    content = json.loads(path.read_text("utf-8"))
    content["rows"][1]["differences"]["HR@10"]["seeds"] = seeds
    write_json(path, content)
    assert ("−0.250" in Walked(studies.section(tmp_path).html).bold) == is_bold


def test_a_study_is_printed_within_80_columns(tmp_path, capsys):
    """Each figure over its interval, over its seeds; the tokenizer is not varied, so its figures are not shown."""
    add_studies(tmp_path)
    rows = json.loads((tmp_path / "ablation" / "views.json").read_text("utf-8"))["rows"]
    console = Console(width=80, force_terminal=False)
    for table in study_tables(rows):
        console.print(table)
    out = capsys.readouterr().out
    assert "…" not in out
    assert "CUR" not in out
    lines = [line.split() for line in out.splitlines()]
    place = next(number for number, line in enumerate(lines) if line[:1] == ["no-short"])
    assert lines[place] == ["no-short", ".375", ".250", "-.250", "+.000"]
    assert lines[place + 1] == [".250–.500", ".125–.375", "-.375", "to", "-.125", "-.125", "to", "+.125"]
    assert lines[place + 2][:2] == ["[.250–.500]", "[.250–.250]"]
    assert ["no-short", "+.062"] in lines


def test_orders_make_a_table_of_differences_of_their_own(tmp_path, capsys):
    """Six columns would not fit into 80: figures first, then what lies between them, also of oNDCG@10."""
    add_studies(tmp_path)
    rows = json.loads((tmp_path / "ablation" / "views.json").read_text("utf-8"))["rows"]
    for row in rows:
        row["metrics"]["oNDCG@10"] = row["metrics"]["MRR@10"]
        if row["differences"]:
            row["differences"]["oNDCG@10"] = row["differences"]["HR@10"]
    console = Console(width=80, force_terminal=False)
    console.print(*study_tables(rows))
    out = capsys.readouterr().out
    assert "…" not in out
    lines = [line.split() for line in out.splitlines()]
    assert ["no-short", ".375", ".250", ".250"] in lines
    assert ["no-short", "-.250", "+.000", "-.250"] in lines
    write_json(tmp_path / "ablation" / "views.json", {"rows": rows, "note": ""})
    assert Walked(studies.section(tmp_path).html).rows[0][3] == "oNDCG@10"


def test_a_picture_needs_something_to_compare(tmp_path):
    add_studies(tmp_path)
    rows = json.loads((tmp_path / "ablation" / "views.json").read_text("utf-8"))["rows"]
    write_picture(rows, tmp_path / "views.png")
    assert (tmp_path / "views.png").read_bytes().startswith(b"\x89PNG")
    write_picture(rows[:1], tmp_path / "views.png")
    assert not (tmp_path / "views.png").exists()


def test_versions_of_the_catalogue_come_in_their_order(tmp_path):
    """2 before 10, without that of an older codebook, with the figures that there are."""
    add_catalogue(tmp_path)
    header, *rows = Walked(catalogue.section(tmp_path).html).rows
    assert header[:3] == ["version", "items added", "residual ratio ↓"]
    assert [row[:3] for row in rows] == [["2", "2,000", "1.20"], ["10", "10,000", "2.00"]]
    assert [row[header.index("ICR, of items ↑")] for row in rows] == ["20.00%", "100.00%"]
    assert [row[header.index("new SIDs")] for row in rows] == ["–", "–"]
    assert [row[-1] for row in rows] == ["–", "Fit it again."]


def test_a_catalogue_without_versions_is_left_out(tmp_path):
    """Nothing was added to this codebook."""
    add_catalogue(tmp_path)
    for version in (2, 10):
        shutil.rmtree(tmp_path / "catalogue" / f"{version:04d}")
    assert catalogue.section(tmp_path) is None
