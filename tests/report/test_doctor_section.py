"""What the doctor found, as the page says it."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from leftovers import SPEC, add_doctor, add_lexicon
from walked import Walked

from handful import fingerprint
from onesearch.artifacts import write_json, writing
from onesearch.metrics.doctor import Catalogue, diagnose
from onesearch.report import doctor
from onesearch.report.usage import points
from onesearch.sid.spec import SidSpec


@pytest.fixture
def examined(tmp_path):
    add_doctor(tmp_path)
    return tmp_path


def walked(run):
    return Walked(doctor.section(run).html)


def rewrite(run, **changed):
    path = run / "doctor.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changed), "utf-8")


def test_a_codebook_that_nobody_examined_says_how(tmp_path):
    add_doctor(tmp_path)
    (tmp_path / "doctor.json").unlink()
    text = "".join(walked(tmp_path).text)
    assert f"onesearch validate -c configs/quantizer.yaml -c configs/RECIPE/quantizer.yaml --run {tmp_path}" in text


def test_a_diagnosis_of_an_earlier_codebook_is_not_shown(examined):
    """Level 1 had 4 codes when it was examined, and has 5 now."""
    write_json(examined / "quantizer" / "spec.json", {"rq_sizes": [5, 2], "opq_sizes": [2]})
    text = "".join(walked(examined).text)
    assert "fitted anew" in text
    assert "CUR" not in text


def test_a_codebook_of_the_same_shape_is_told_by_its_fingerprint(examined):
    """What was examined is shown as long as it is what stands there; one other code makes it another codebook."""
    for codes, is_shown in (("0 1", True), ("0 2", False)):
        with writing(examined / "quantizer", "quantizer") as folder:
            write_json(folder / "spec.json", asdict(SPEC))
            (folder / "codes").write_text(codes, "utf-8")
        if is_shown:
            rewrite(examined, quantizer=fingerprint(examined, "quantizer"))
        text = "".join(walked(examined).text)
        assert ("CUR" in text) is is_shown
        assert ("fitted anew after it was examined: onesearch validate" in text) is not is_shown


def test_curves_have_as_many_points_as_the_doctor_takes():
    """Of a level of 300 codes he looks at fewer."""
    spec = SidSpec((300, 7), ())
    embeddings = np.eye(3, dtype=np.float32)
    codes = np.array([[0, 0], [1, 1], [299, 6]])
    found = diagnose(Catalogue(codes, spec.rq_sizes, (), embeddings, embeddings, ["a", "b", "c"], ["", "", ""]))
    assert points(spec) == [len(curve) for curve in found.usage]


@pytest.mark.parametrize(
    ("grades", "color", "word"),
    [
        ([], "good", "good"),
        (["watch"], "watch", "to be improved"),
        (["watch", "poor"], "poor", "to be improved"),
        (["poor", "collapsed", "watch"], "collapsed", "collapsed"),
    ],
)
def test_the_verdict_has_the_colour_of_the_gravest_advice(grades, color, word, examined):
    """And every sentence stands beneath it."""
    rewrite(examined, advice=[{"grade": grade, "sentence": f"It is {grade}; 1.5 < 2."} for grade in grades])
    html = doctor.section(examined).html
    assert f'class="verdict {color}"' in html
    found = walked(examined)
    assert f"The tokenizer is {word}." in found.bold
    assert [text for text in found.text if "It is" in text] == [f" It is {grade}; 1.5 < 2." for grade in grades]


def test_figures_stand_beside_their_meaning(examined):
    """8 items over 4 · 2 | 2 codes: 3 of 4 first codes and 5 of 8 pairs in use; 5 items are alone, in 5 of 6 SIDs.

    Code 0 holds the four kettles, the other codes lamps. The second codebook is the first. Embeddings of length 1
    decode to half of themselves: (1/2)² is lost.
    """
    values = {row[0]: row[1] for row in walked(examined).rows if len(row) == 2}
    found = {name.split(" ↑")[0].split(" ↓")[0]: value for name, value in values.items()}
    assert found["CUR, level 1"] == "75.00%"
    assert found["CUR, levels 1·2"] == "62.50%"
    assert found["ICR, of items"] == "62.50%"
    assert found["ICR, of SIDs"] == "83.33%"
    assert found["Largest bucket"] == "3"
    assert found["Reconstruction error"] == "0.2500"
    assert found["Twins"] == "0.00%"
    assert found["Stability of level 1"] == "1.000"
    assert found["Category purity, level 1"] == "100.0%"


def test_a_figure_that_was_not_found_is_left_out(examined):
    """Without a second fit there is no stability."""
    figures = json.loads((examined / "doctor.json").read_text("utf-8"))["figures"]
    rewrite(examined, figures={name: value for name, value in figures.items() if not name.startswith("stability")})
    assert "Stability" not in "".join(walked(examined).text)


def test_what_few_items_can_reach_is_said(examined):
    """4 items cannot use 8 pairs."""
    figures = json.loads((examined / "doctor.json").read_text("utf-8"))["figures"]
    assert "can reach" not in "".join(walked(examined).text)
    rewrite(examined, figures=figures | {"num_items": 4})
    assert "4 items can reach 50.00%" in "".join(walked(examined).text)


def test_levels_have_a_line_each(examined):
    """Code 3 of level 1 is unused; the perplexity of (4, 3, 1)/8 is e^0.974; of (2, 6)/8 e^0.562; so is level 3."""
    rows = {row[0]: row[1:4] for row in walked(examined).rows if len(row) == 5}
    assert rows["1 · residual"] == ["4", "1", "2.6"]
    assert rows["2 · residual"] == ["2", "0", "1.8"]
    assert rows["3 · product"] == ["2", "0", "1.8"]


def test_the_largest_bucket_shows_what_its_titles_share(examined):
    """Three titles share `kettle` in no spelling but one: 'kettle,' is another word, 'Red' and 'red' are one."""
    found = walked(examined)
    assert "<a_0><b_0><c_0>" in "".join(found.text)
    assert [word for word in found.bold if word.lower() in ("red", "kettle")] == ["red", "red", "Red"]


def test_titles_that_are_not_shown_are_counted(examined):
    bucket = {"sid": [0, 0, 0], "num_items": 1300, "titles": ["a kettle", "a lamp"]}
    rewrite(examined, largest=[bucket])
    text = "".join(walked(examined).text)
    assert "1,300 items" in text
    assert "and 1,298 more" in text


def test_without_collisions_and_categories_there_is_neither_part(examined):
    rewrite(examined, largest=[], categories=[])
    text = "".join(walked(examined).text)
    assert "largest buckets" not in text
    assert "Purity by category" not in text


def test_a_run_without_quantizer_has_no_such_section(tmp_path):
    add_lexicon(tmp_path)
    assert doctor.section(tmp_path) is None
