"""The page of a run, as `onesearch report` writes it."""

import json
import re

import pytest
from leftovers import INPUTS
from walked import Walked

from handful import refusal
from onesearch.main import main
from onesearch.report.run import write_report


def test_the_verb_writes_a_page_of_all_sections_and_names_it(full, capsys):
    """In their order, each linked once from the contents; the path on one line, however long."""
    main(["report", "--run", str(full)])
    assert capsys.readouterr().out == f"{full}/report.html\n"
    walked = Walked((full / "report.html").read_text("utf-8"))
    assert [name for name in walked.ids if name in INPUTS] == list(INPUTS)
    assert [link for link in walked.links if link[1:] in INPUTS] == [f"#{name}" for name in INPUTS]


@pytest.mark.parametrize("name", INPUTS)
def test_a_section_comes_with_its_input_alone(name, tmp_path):
    INPUTS[name](tmp_path)
    walked = Walked(write_report(tmp_path).read_text("utf-8"))
    assert [found for found in walked.ids if found in INPUTS] == [name]


def test_what_people_wrote_is_text(full):
    """A title, a category, a note and the name of the run look like markup; none is."""
    page = write_report(full).read_text("utf-8")
    walked = Walked(page)
    text = "".join(walked.text)
    assert "script" not in walked.tags
    assert "<script" not in page
    for written in (
        "<script>alert(1)</script> red kettle",
        "kettle, red & loud",
        "lamps <i>",
        "variant < reads",
        "a <run>",
    ):
        assert written in text


def test_the_page_needs_no_network_and_no_id_is_given_twice(full):
    """Every reference leads into the page: its links, and those of the figures to their parts."""
    page = write_report(full).read_text("utf-8")
    walked = Walked(page)
    assert len(walked.ids) == len(set(walked.ids))
    referred = {link.removeprefix("#") for link in walked.links if link.startswith("#")}
    referred |= set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'xlink:href="#([^"]+)"', page))
    assert referred <= set(walked.ids)
    assert all(link.startswith("#") for link in walked.links)
    assert set(re.findall(r"https?://[^\s\"<]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not {"link", "img", "script", "iframe"} & set(walked.tags)
    assert "@import" not in page


def test_the_same_run_is_the_same_page(full):
    first = write_report(full).read_bytes()
    assert write_report(full).read_bytes() == first


def test_a_run_without_anything_says_what_to_run(tmp_path, capsys):
    """A missing folder too; nothing is written."""
    for run in (tmp_path, tmp_path / "gone"):
        sentence = refusal(capsys, "report", "--run", str(run))
        assert sentence.startswith(f"{run} holds nothing to report on")
        assert f"onesearch pipeline --run {run} --until quantizer" in sentence
        assert "onesearch validate -c configs/quantizer.yaml -c configs/RECIPE/quantizer.yaml" in sentence
        assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", ["doctor.json", "compare.json", "tokenizers.json"])
def test_a_file_that_was_cut_short_is_named(name, full, capsys):
    path = full / name
    path.write_text(path.read_text("utf-8")[:-10], "utf-8")
    assert refusal(capsys, "report", "--run", str(full)).startswith(f"{path} is no JSON")


def test_a_diagnosis_of_another_version_is_named(full, capsys):
    content = json.loads((full / "doctor.json").read_text("utf-8"))
    content["largest"][0]["colour"] = "red"
    (full / "doctor.json").write_text(json.dumps(content), "utf-8")
    sentence = refusal(capsys, "report", "--run", str(full))
    assert sentence.startswith(f"{full}/doctor.json was written by another version")
    assert "onesearch validate" in sentence
