"""Answers are kept for as long as what they depend on stays the same."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import onesearch
from onesearch.ablation.answers import answers
from onesearch.artifacts import writing
from onesearch.types import SearchContext

SEARCH = SearchContext("s", "u", "boots", 5, (), (), (), (), (), (), "", (1,), (), None)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A trial of empty folders, a system that notes how often it is asked, and a copy of the code that can be changed.

    Called with the number of beams, it answers and says how often the system has been asked so far.
    """
    code = Path(shutil.copytree(Path(onesearch.__file__).parent, tmp_path / "onesearch"))
    monkeypatch.setattr(onesearch, "__file__", str(code / "__init__.py"))
    for name in ("log", "quantizer", "sft_align"):
        with writing(tmp_path / name, name):
            pass
    lengths = []

    def rank(contexts, k):
        assert all(context.clicked == () for context in contexts)
        lengths.append(k)
        return [[3, 2] for _ in contexts]

    monkeypatch.setattr("onesearch.ablation.answers.OneSearch", lambda *_: SimpleNamespace(rank=rank))
    for name in ("SearchEngine", "Khqe"):
        monkeypatch.setattr(f"onesearch.ablation.answers.{name}", SimpleNamespace(open=lambda *_: None))

    def ask(num_beams=4):
        assert answers(tmp_path, "sft_align", [SEARCH], num_beams)[0].tolist()[:3] == [3, 2, -1]
        return len(lengths)

    return ask


def test_other_beams_and_longer_lists_are_asked_for_anew(asked, monkeypatch):
    assert [asked(), asked(), asked(num_beams=8)] == [1, 1, 2]
    monkeypatch.setattr("onesearch.ablation.answers.DEPTH", 20)
    assert [asked(num_beams=8), asked(num_beams=8)] == [3, 3]


@pytest.mark.parametrize(
    ("file", "is_asked_anew"),
    [
        ("evaluate/onesearch.py", True),
        ("evaluate/compare.py", True),
        ("ablation/answers.py", True),
        ("decoding/beam.py", True),
        ("ablation/averages.py", False),
        ("report/studies.py", False),
    ],
)
def test_code_that_asks_counts_and_code_that_judges_does_not(file, is_asked_anew, asked, tmp_path):
    assert asked() == 1
    with (tmp_path / "onesearch" / file).open("a") as source:
        source.write("# changed\n")
    assert asked() == 1 + is_asked_anew
