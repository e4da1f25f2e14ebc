"""Typos are one slip away from the text, fragments are words of the title, babble has the letters of real queries."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.tasks.noise import NEIGHBOURS, Babbler, fragment, typo


def distance(a, b):
    """Damerau–Levenshtein distance (optimal string alignment), the textbook table."""
    rows = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@settings(max_examples=200, deadline=None)
@given(text=st.text("abc xyz红9", max_size=12), seed=st.integers(0, 10**6))
def test_a_typo_is_at_most_one_slip(text, seed):
    assert distance(text, typo(text, random.Random(seed))) <= 1


def test_short_texts_are_left_alone():
    assert {typo("tv", random.Random(seed)) for seed in range(50)} == {"tv"}


def test_all_kinds_of_slips_occur():
    """Shorter, longer, swapped, a neighbouring key, a space lost and one let in, over 300 seeds."""
    slips = {typo("red rug", random.Random(seed)) for seed in range(300)}
    assert {"rd rug", "redd rug", "erd rug", "redrug", "re d rug"} <= slips
    assert slips & {"rex rug", "rec rug", "tes rug", "ted rug", "rwd rug", "rsd rug"}


def test_keys_lie_beside_each_other_both_ways():
    """All 26 letters; a key is never its own neighbour."""
    assert len(NEIGHBOURS) == 26
    assert all(key not in beside for key, beside in NEIGHBOURS.items())


@settings(max_examples=200, deadline=None)
@given(words=st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True), seed=st.integers(0, 10**6))
def test_a_fragment_is_words_in_the_order_of_the_title(words, seed):
    found = fragment(words, random.Random(seed), max_words=3).split()
    places = [words.index(word) for word in found]
    assert 1 <= len(found) <= 3
    assert places == sorted(set(places))


def test_fragments_differ_and_an_empty_title_has_none():
    drawn = {fragment(["red", "wool", "rug"], random.Random(seed)) for seed in range(100)}
    assert {"red", "rug", "red wool", "wool rug", "red rug", "red wool rug"} <= drawn
    assert fragment([], random.Random(0)) == ""


@pytest.mark.parametrize("make", [lambda rng: typo("red boots", rng), lambda rng: fragment(list("abcdef"), rng)])
def test_noise_repeats_with_the_seed(make):
    assert [make(random.Random(seed)) for seed in range(20)] == [make(random.Random(seed)) for seed in range(20)]


def test_babble_follows_real_letters():
    """Each three letters of it, ends included, stand in a real query; with one query it is that query."""
    queries = ["red boots", "blue boots", "wool rug"]
    triples = {("  " + query + "\n")[i : i + 3] for query in queries for i in range(len(query) + 1)}
    babbler, rng = Babbler(queries), random.Random(0)
    written = [babbler.write(rng, longest=40) for _ in range(200)]
    for text in written:
        assert {("  " + text)[i : i + 3] for i in range(len(text))} <= triples
        assert 0 < len(text) <= 40
    assert set(written) - set(queries)
    assert Babbler(["rug"]).write(rng) == "rug"


def test_babble_ends():
    """Of two letters that only follow each other, at most as many as are allowed, and as many do occur."""
    babbler = Babbler(["abababababababab"])
    assert max(len(babbler.write(random.Random(seed), longest=12)) for seed in range(300)) == 12
