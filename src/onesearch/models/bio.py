"""BIO: spans of characters as one tag a token, and back.

A tag is O, B-type or I-type; with the 18 attribute types there are 37. A span's first token is B, its others are I. A
token that crosses the edge of a span belongs to no span: it is O. Read back, a span begins at every B, and at every I
that continues no span of its type (the convention of CoNLL's scorer), so that any sequence of tags means something.

Decoding is the Viterbi path over the valid sequences: an I follows only a B or an I of its own type.

    t* = argmax_t Σ_l z_l[t_l]   over t with (t_{l-1}, t_l) valid, z the logits

Shapes: B texts, L tokens, T = 37 tags.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from onesearch.types import ATTRIBUTE_TYPES, Span

OUTSIDE = 0
TAGS = ("O", *(f"{part}-{type_}" for type_ in ATTRIBUTE_TYPES for part in "BI"))
"""Tag number → tag; B has the odd numbers, its I the next even one."""

NO_TEXT = -100
"""The tag of a token that covers no text (`</s>`, padding): no loss, no say."""

Offsets = Sequence[tuple[int, int]]
"""The characters that each token covers; start = end: none."""


def trim(text: str, offsets: Offsets) -> list[tuple[int, int]]:
    """Offsets without the white space around words, which some tokenizers count to the token."""
    trimmed = []
    for start, end in offsets:
        token = text[start:end]
        begin = start + len(token) - len(token.lstrip())
        trimmed.append((begin, max(begin, start + len(token.rstrip()))))
    return trimmed


def tags_of(spans: Sequence[Span], offsets: Offsets) -> list[int]:
    """Tags of the tokens of a text, `NO_TEXT` where a token covers no text.

    Args:
        spans: by start, without overlap.
        offsets: characters of each token, by start.
    """
    tags, last, place = [], -1, 0
    for start, end in offsets:
        if start == end:
            tags.append(NO_TEXT)
            continue
        while place < len(spans) and spans[place].end <= start:
            place += 1
        if place == len(spans) or start < spans[place].start or spans[place].end < end:
            tags.append(OUTSIDE)
            continue
        inside = place == last
        tags.append(_begin(spans[place].type) + int(inside))
        last = place
    return tags


def spans_of(tags: Sequence[int], offsets: Offsets) -> list[Span]:
    """The spans that tags mean, by start, without overlap.

    Args:
        tags: tag numbers; that of a token that covers no text is not read.
        offsets: characters of each token.
    """
    spans: list[Span] = []
    before = OUTSIDE
    for tag, (start, end) in zip(tags, offsets, strict=True):
        if start == end:
            continue
        if tag != OUTSIDE and _continues(before, tag):
            spans[-1] = spans[-1]._replace(end=max(end, spans[-1].end))
        elif tag != OUTSIDE:
            # Two tokens may share a character whose bytes they share: it belongs to the first.
            start = max(start, spans[-1].end) if spans else start
            if start == end:
                continue
            spans.append(Span(ATTRIBUTE_TYPES[(tag - 1) // 2], start, end))
        before = tag
    return spans


def best_paths(logits: Tensor) -> Tensor:
    """The best valid sequence of tags [B, L].

    Args:
        logits: [B, L, T], zero behind the end of a text: any tag may be followed by O, so that it changes nothing.
    """
    forbidden = _forbidden().to(logits.device, logits.dtype)
    scores = logits[:, 0].masked_fill(_is_inside().to(logits.device), -torch.inf)  # no text begins with an I
    sources = []
    for step in logits[:, 1:].unbind(1):
        best, source = (scores.unsqueeze(2) + forbidden).max(1)
        scores = best + step
        sources.append(source)
    path = [scores.argmax(1)]
    for source in reversed(sources):
        path.append(source.gather(1, path[-1].unsqueeze(1)).squeeze(1))
    return torch.stack(path[::-1], 1)


def _begin(type_: str) -> int:
    return 1 + 2 * ATTRIBUTE_TYPES.index(type_)


def _continues(before: int, tag: int) -> bool:
    return tag % 2 == 0 and before in (tag - 1, tag)


def _is_inside() -> Tensor:
    numbers = torch.arange(len(TAGS))
    return (numbers % 2 == 0) & (numbers != OUTSIDE)


def _forbidden() -> Tensor:
    """[T, T]: −∞ from a tag to an I that does not continue it, 0 elsewhere."""
    numbers = torch.arange(len(TAGS))
    before, tag = numbers.unsqueeze(1), numbers.unsqueeze(0)
    valid = (before == tag - 1) | (before == tag) | ~_is_inside()
    return torch.zeros(len(TAGS), len(TAGS)).masked_fill(~valid, -torch.inf)
