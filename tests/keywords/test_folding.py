import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.keywords.folding import fold, fold_all, fold_with_positions, text_of


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Ｂｌｕ－Ｒａｙ  Player!", "blu ray player"),  # full width, punctuation
        ("STRASSE Straße", "strasse strasse"),
        ("ﬁne", "fine"),  # ligature
        ("cafe\u0301", "café"),  # combining accent
        ("ｶﾞﾗｽ", "ガラス"),  # half-width kana with its voice mark
        ("snake_case", "snake case"),
        (" ?! ", ""),
    ],
)
def test_fold(text, folded):
    assert fold(text) == folded


def test_positions_lead_back_to_the_original():
    """ﬁ folds to two characters of one place; the run `, ` folds to one space at its first character."""
    folded = fold_with_positions("ﬁ, Ｘ")
    assert folded == ("fi x", [0, 0, 1, 3], [1, 1, 2, 4])


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_folding_twice_is_folding_once(text):
    once = fold(text)
    assert fold(once) == once
    assert not re.search(r"^ | $|  ", once)


HARD = st.text(st.sampled_from([*"aZ 裙-_\n\t", *"Ａßﬁ™½｡ｶﾞﾟハがİ", "\u0301", "\u0323", "\u1100", "\u1161", "\ud800"]))


@settings(max_examples=400, deadline=None)
@given(st.lists(HARD | st.text(), max_size=4))
def test_many_texts_fold_as_each_does(texts):
    """The table of characters gives what the clusters give, positions included, whatever stands in the other texts."""
    codes, starts, ends, origins = fold_all(texts)
    each = [fold_with_positions(text) for text in texts]
    assert text_of(codes) == "".join(f"{folded.text}\n" for folded in each)
    inside = codes != ord("\n")
    assert origins.tolist() == [len("".join(texts[:row])) + row for row in range(len(texts))]  # a break behind each
    begin = np.repeat(origins, [len(folded.text) for folded in each])
    assert (starts[inside] - begin).tolist() == [start for folded in each for start in folded.starts]
    assert (ends[inside] - begin).tolist() == [end for folded in each for end in folded.ends]


def test_every_character_folds_as_it_does_alone():
    """Every 97th code point as a text of its own: the table against the long way."""
    characters = [chr(code) for code in range(0, 0x110000, 97)]
    folded = text_of(fold_all(characters).codes).split("\n")[:-1]
    assert folded == [fold(character) for character in characters]
