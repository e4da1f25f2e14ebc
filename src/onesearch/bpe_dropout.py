"""BPE dropout (Provilkov et al. 2020, arXiv 1910.13267), seeded: other tokens for the same text, as chance has it.

    A piece begins as its characters. Its merges stand in a queue by priority; each that is taken out is dropped with
    probability p, until one is not. That one is done, what was dropped goes back into the queue, and so on until it is
    empty: what is dropped last is never done.

This is the queue of the `tokenizers` library, down to the proportions of the segmentations. In it a merge that has lost
a half to another is taken out, too, and brings back what was dropped; in the paper it does not, so that its texts come
out longer at the same p. But the library draws from a generator of each thread that takes no seed: no fit could be
repeated. Here the draws hang on (chance, text) alone, where `chance` names the example, such as "seed/epoch/number": a
text is cut in the same way in any process, in any order, and in a fit that goes on.

A pre-tokenizer, last in line, cuts each piece into the tokens; the model is then told to look up what it is given
(`ignore_merges`), and the library still does all the rest: offsets, special tokens, padding.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise
from typing import Any

from tokenizers import NormalizedString, PreTokenizedString, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from onesearch.types import UserError

Ranks = Mapping[tuple[str, str], int]
"""Two neighbours → the priority of their merge, the lowest first."""


class BpeDropout:
    """Cuts pieces into tokens of a BPE vocabulary, without some of the merges.

    Args:
        ranks: the merges.
        rate: p.
    """

    def __init__(self, ranks: Ranks, rate: float) -> None:
        self.ranks = ranks
        self.rate = rate
        self.chance: str | None = None

    def install(self, backend: Tokenizer) -> None:
        """Cut, from now on, whatever `backend` reads."""
        before = [backend.pre_tokenizer] if backend.pre_tokenizer is not None else []
        backend.pre_tokenizer = pre_tokenizers.Sequence([*before, pre_tokenizers.PreTokenizer.custom(self)])
        backend.model.ignore_merges = True

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        """Cut all pieces of a text; called by the library, from several threads at a time."""
        pieces = "\0".join(piece for piece, *_ in text.get_splits())
        draw = random.Random(f"{self.chance}/{pieces}").random

        def cut(_: int, piece: NormalizedString) -> list[NormalizedString]:
            tokens = segment(piece.normalized, self.ranks, self.rate, draw)
            if len(tokens) == 1:
                return [piece]
            ends = accumulate(map(len, tokens), initial=0)
            parts = (piece[start:end] for start, end in pairwise(ends))
            return [part for part in parts if part is not None]

        text.split(cut)


def segment(piece: str, ranks: Ranks, rate: float, draw: Callable[[], float]) -> list[str]:
    """Tokens of a piece.

    Args:
        piece: as the pre-tokenizers before left it.
        ranks: the merges.
        rate: p, 0 to 1.
        draw: a uniform number of [0, 1).
    """
    tokens, end = list(piece), len(piece)
    left, right = list(range(-1, end - 1)), list(range(1, end + 1))
    queue = [(ranks[pair], place) for place, pair in enumerate(pairwise(piece)) if pair in ranks]
    heapify(queue)
    dropped: list[tuple[int, int]] = []
    while queue:
        rank, place = best = heappop(queue)
        if draw() < rate:
            dropped.append(best)
            continue
        while dropped:
            heappush(queue, dropped.pop())
        there = right[place]
        if there == end or ranks.get((tokens[place], tokens[there])) != rank:
            continue  # one of the two has gone into another merge
        tokens[place] += tokens[there]
        tokens[there] = ""
        beyond, before = right[there], left[place]
        right[place] = beyond
        if beyond < end:
            left[beyond] = place
            if (next_rank := ranks.get((tokens[place], tokens[beyond]))) is not None:
                heappush(queue, (next_rank, place))
        if before >= 0 and (next_rank := ranks.get((tokens[before], tokens[place]))) is not None:
            heappush(queue, (next_rank, before))
    return [token for token in tokens if token]


def set_bpe_dropout(tokenizer: PreTrainedTokenizerBase, rate: float) -> None:
    """Drop BPE merges with probability `rate` once a chance is drawn; a tokenizer without merges stays as it is.

    Raises:
        UserError: the tokenizer's merges are of another kind.
    """
    backend: Tokenizer = tokenizer.backend_tokenizer
    if not rate or not isinstance(backend.model, models.BPE):
        return
    model: dict[str, Any] = json.loads(backend.to_str())["model"]
    if model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        raise UserError(
            f"The tokenizer {tokenizer.name_or_path} marks where words go on or end, and BPE dropout is not made for "
            "that: set bpe_dropout to 0."
        )
    ranks = {(one, two): rank for rank, (one, two) in enumerate(model["merges"])}
    tokenizer.bpe_dropout = BpeDropout(ranks, rate)  # where `draw_segmentation` finds it


def draw_segmentation(tokenizer: PreTrainedTokenizerBase, chance: str) -> None:
    """Cut texts from now on as `chance` has it; nothing to a tokenizer that drops nothing."""
    dropout = getattr(tokenizer, "bpe_dropout", None)
    if dropout is None:
        return
    if dropout.chance is None:
        dropout.install(tokenizer.backend_tokenizer)  # so late: a worker may be handed a pickle, and this is none
    dropout.chance = chance


@contextmanager
def whole_words(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """No dropout for a while: what every prompt holds is cut the same way every time, in training as in serving."""
    dropout = getattr(tokenizer, "bpe_dropout", None) or BpeDropout({}, 0)
    rate, dropout.rate = dropout.rate, 0
    try:
        yield
    finally:
        dropout.rate = rate
