"""Spans to tags and back: hand-made cases, the round trip as a property, the best path against all paths."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onesearch.models.bio import NO_TEXT, TAGS, best_paths, spans_of, tags_of, trim
from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.types import ATTRIBUTE_TYPES, Span

TAG = {tag: number for number, tag in enumerate(TAGS)}
WORDS = [(0, 3), (4, 6), (6, 9), (10, 13), (0, 0)]  # "red bo|ots men" and the token that closes the text


def named(tags):
    return [TAGS[tag] if tag != NO_TEXT else None for tag in tags]


def test_tags_of_every_type():
    """O, then B and I of each of the 18 types."""
    assert len(TAGS) == 37
    assert TAGS[:3] == ("O", "B-Entity", "I-Entity")
    for type_ in ATTRIBUTE_TYPES:
        tags = tags_of([Span(type_, 0, 6)], WORDS)
        assert named(tags) == [f"B-{type_}", f"I-{type_}", "O", "O", None]


def test_first_and_inner_tokens():
    """Neighbours of one type stay two spans."""
    spans = [Span("Color", 0, 3), Span("Entity", 4, 9), Span("Entity", 10, 13)]
    assert named(tags_of(spans, WORDS)) == ["B-Color", "B-Entity", "I-Entity", "B-Entity", None]


@pytest.mark.parametrize("edge", [(5, 13), (4, 8), (1, 2)])
def test_a_token_across_an_edge_is_outside(edge):
    """(5, 13) cuts "bo" and holds "ots" and "men"; (4, 8) holds "bo" and cuts "ots"; (1, 2) lies inside "red"."""
    want = {
        (5, 13): ["O", "O", "B-Brand", "I-Brand", None],
        (4, 8): ["O", "B-Brand", "O", "O", None],
        (1, 2): ["O", "O", "O", "O", None],
    }
    assert named(tags_of([Span("Brand", *edge)], WORDS)) == want[edge]


@pytest.mark.parametrize(
    ("tags", "want"),
    [
        (["I-Color", "O", "O", "O", "O"], [("Color", 0, 3)]),  # an I without its B begins a span
        (["B-Color", "I-Brand", "I-Brand", "O", "O"], [("Color", 0, 3), ("Brand", 4, 9)]),
        (["B-Color", "B-Color", "I-Color", "O", "O"], [("Color", 0, 3), ("Color", 4, 9)]),
        (["I-Color", "I-Color", "O", "I-Color", "O"], [("Color", 0, 6), ("Color", 10, 13)]),
        (["O", "O", "O", "O", "B-Color"], []),  # the last token covers no text
    ],
)
def test_spans_of_any_sequence(tags, want):
    assert spans_of([TAG[tag] for tag in tags], WORDS) == [Span(*span) for span in want]


def test_a_token_without_text_inside_a_span_is_passed_over():
    offsets = [(0, 3), (3, 3), (4, 9)]
    tags = tags_of([Span("Series", 0, 9)], offsets)
    assert named(tags) == ["B-Series", None, "I-Series"]
    assert spans_of(tags, offsets) == [Span("Series", 0, 9)]


def test_a_character_of_two_tokens_belongs_to_the_first():
    """Bytes of one Chinese character in two tokens, marked as two things: the second is left with what follows."""
    both = [TAG["B-Color"], TAG["B-Entity"]]
    assert spans_of(both, [(0, 1), (0, 2)]) == [Span("Color", 0, 1), Span("Entity", 1, 2)]
    assert spans_of(both, [(0, 1), (0, 1)]) == [Span("Color", 0, 1)]


def test_white_space_is_not_of_the_word():
    """As SentencePiece counts: the space before the word is the token's."""
    assert trim("a red  b", [(0, 1), (1, 5), (5, 7), (6, 8), (0, 0)]) == [(0, 1), (2, 5), (7, 7), (7, 8), (0, 0)]


@st.composite
def aligned(draw):
    """Tokens of 0 to 3 characters with gaps between them, and spans over some runs of tokens, from text to text."""
    offsets, spans, place = [], [], 0
    for _ in range(draw(st.integers(0, 6))):
        run = []
        for width in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)):
            place += draw(st.integers(0, 1))
            run.append((place, place + width))
            place += width
        text = [(start, end) for start, end in run if start < end]
        if text and draw(st.booleans()):
            spans.append(Span(draw(st.sampled_from(ATTRIBUTE_TYPES[:3])), text[0][0], text[-1][1]))
        offsets += run
    return spans, offsets


@given(aligned())
def test_round_trip(example):
    """Spans that begin and end with tokens come back as they were."""
    spans, offsets = example
    assert spans_of(tags_of(spans, offsets), offsets) == spans


@given(st.lists(st.integers(0, 36), max_size=8), st.data())
def test_whatever_the_tags_spans_are_in_order_and_mean_themselves(tags, data):
    """Spans never overlap, and writing them as tags and reading them again changes nothing."""
    offsets = [(2 * place, 2 * place + data.draw(st.integers(0, 2))) for place in range(len(tags))]
    spans = spans_of(tags, offsets)
    assert all(one.end <= two.start for one, two in itertools.pairwise(spans))
    assert spans_of(tags_of(spans, offsets), offsets) == spans


@pytest.mark.parametrize("text", ["Red  Boots MW3-X", "白色台灯 red 台灯", "ｉＰｈｏｎｅ 5s"])
def test_words_survive_the_runs_own_tokenizer(text):
    """Each word of a text, cut into bytes by an untrained BPE, is found again where it stands."""
    tokenizer = train_tokenizer(["a"], 260)
    offsets = trim(text, tokenizer(text, return_offsets_mapping=True)["offset_mapping"])
    starts = [place for place in range(len(text)) if text[place] != " " and (place == 0 or text[place - 1] == " ")]
    spans = [Span("Entity", start, start + len(text[start:].split()[0])) for start in starts]
    assert len(spans) > 1
    assert spans_of(tags_of(spans, offsets), offsets) == spans


def test_best_path_against_all_paths():
    """All 37³ sequences of three tags, scored in float64; valid: each I follows a B or an I of its type."""
    valid = torch.tensor(
        [[after[0] != "I" or (before[0] in "BI" and before[2:] == after[2:]) for after in TAGS] for before in TAGS]
    )
    starts = torch.tensor([tag[0] != "I" for tag in TAGS])
    logits = torch.randn(8, 3, 37, generator=torch.Generator().manual_seed(0))
    logits[:4, :, 2::2] += 3  # so that the best tags by themselves are no valid sequence
    for path, z in zip(best_paths(logits).tolist(), logits.double(), strict=True):
        scores = z[0][:, None, None] + z[1][:, None] + z[2]
        scores[~(starts[:, None, None] & valid[:, :, None] & valid)] = -torch.inf
        best = scores.argmax().item()
        assert path == [best // 37**2, best // 37 % 37, best % 37]


def test_what_follows_a_text_changes_nothing():
    """Zeros behind the end, as padding writes them."""
    logits = torch.randn(16, 4, 37, generator=torch.Generator().manual_seed(1))
    padded = torch.cat([logits, torch.zeros(16, 5, 37)], 1)
    assert torch.equal(best_paths(padded)[:, :4], best_paths(logits))
