import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.keywords.folding import fold, fold_with_positions


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
