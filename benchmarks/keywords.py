"""Core keywords: how fast they are found in titles, and how fast embeddings are fused with them.

    python -m benchmarks.keywords [--titles 100000] [--keywords 50000] [--json FILE]    # pip install -e '.[bench]'

Matching, from titles as they are written to matches with their places in them. The peer is pyahocorasick, which finds
all matches; those that cut a word and those that overlap are dropped in Python. It does not fold: it is given folded
titles, and the time of folding them is not in its figure; it is in ours.

Fusion, from matches to unit vectors. The peer takes, text by text, numpy's mean of a list of the keywords' vectors,
once with the vectors as numpy's arrays and once as Python's lists.

Titles are synthetic (see `titles`). One thread, median of five rounds by turns, in seconds of the processor: what else
runs on the machine disturbs those less than the clock's.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.table import Row, show
from benchmarks.titles import draw_keywords, write_titles
from onesearch.keywords.folding import Folded, fold_with_positions
from onesearch.keywords.fusion import fuse
from onesearch.keywords.matcher import KeywordMatcher

try:
    import ahocorasick
except ModuleNotFoundError:
    raise SystemExit("The peer is missing: pip install -e '.[bench]'") from None

ROUNDS = 5
WIDTH = 768  # of an embedding
Place = tuple[int, int, int, int]  # text, keyword, start, end


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--titles", type=int, default=100_000)
    parser.add_argument("--keywords", type=int, default=50_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = (arguments.titles, arguments.keywords)
    rows = [measure_matching(language, *size) for language in ("English", "Chinese")] + measure_fusion(*size)
    show(f"{size[0]:,} titles, {size[1]:,} keywords", rows, arguments.json)


def measure_matching(language: str, num_titles: int, num_keywords: int) -> Row:
    """Seconds to find the keywords in all titles."""
    rng = np.random.default_rng(0)
    titles = write_titles(language, num_titles, rng)
    keywords = draw_keywords(titles, num_keywords, rng)
    matcher, peer = KeywordMatcher(("Entity", keyword) for keyword in keywords), Peer(keywords)
    folded = [fold_with_positions(title) for title in titles]
    (ours, found), (theirs, expected) = median_of(lambda: places(matcher, titles), lambda: peer.find_all(folded))
    assert found == expected, "the two do not find the same"
    return Row(f"matching, {language}", "CPU s", ours, theirs, "pyahocorasick, filtered in Python, without folding")


def places(matcher: KeywordMatcher, titles: list[str]) -> list[Place]:
    """Our matches as tuples, like the peer's; whoever fuses takes the arrays as they are."""
    texts, keywords, starts, ends = (column.tolist() for column in matcher.find_all(titles))
    return list(zip(texts, keywords, starts, ends, strict=True))


def measure_fusion(num_texts: int, num_keywords: int) -> list[Row]:
    """Texts fused in a second: up to five keywords each, none in one of six."""
    rng = np.random.default_rng(0)
    num_texts, num_keywords = min(num_texts, 20_000), min(num_keywords, 10_000)  # vectors of more fill the memory
    texts, keywords = (torch.from_numpy(rng.standard_normal((n, WIDTH), np.float32)) for n in (num_texts, num_keywords))
    found = [rng.choice(num_keywords, count, replace=False) for count in rng.integers(0, 6, num_texts)]
    text_rows = torch.repeat_interleave(torch.tensor([len(drawn) for drawn in found]))
    keyword_rows = torch.from_numpy(np.concatenate(found))
    rows = []
    for kind, vectors in (("arrays", list(keywords.numpy())), ("lists", keywords.tolist())):
        (ours, fused), (theirs, expected) = median_of(
            lambda: fuse(texts, keywords, text_rows, keyword_rows),
            partial(fuse_lists, texts.numpy(), vectors, [drawn.tolist() for drawn in found]),
        )
        assert np.allclose(fused.numpy(), expected, atol=1e-5), "the two do not give the same"
        case = f"fusion, {WIDTH} dimensions, {kind}"
        rows.append(Row(case, "texts per CPU s", num_texts / ours, num_texts / theirs, "numpy's mean, text by text"))
    return rows


def median_of(ours: Callable[[], Any], peer: Callable[[], Any]) -> tuple[tuple[float, Any], tuple[float, Any]]:
    """The median seconds and a result of each, run by turns."""
    rounds = [(_timed(ours), _timed(peer)) for _ in range(ROUNDS)]
    mine, theirs = zip(*rounds, strict=True)
    return _median(mine), _median(theirs)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def _median(timed: Sequence[tuple[float, Any]]) -> tuple[float, Any]:
    return sorted(timed, key=itemgetter(0))[len(timed) // 2]


class Peer:
    """All matches of pyahocorasick, then whole words only, then leftmost-longest."""

    def __init__(self, keywords: list[str]) -> None:
        self.automaton = ahocorasick.Automaton()
        for row, keyword in enumerate(keywords):
            self.automaton.add_word(keyword, (row, len(keyword) - 1))
        self.automaton.make_automaton()

    def find_all(self, texts: list[Folded]) -> list[Place]:
        """The matches in all texts, at their places in the originals."""
        return [place for row, folded in enumerate(texts) for place in self.find(row, *folded)]

    def find(self, row: int, text: str, starts: list[int], ends: list[int]) -> Iterator[Place]:
        """The matches in one text."""
        whole = []
        for last, (keyword, before) in self.automaton.iter(text):
            first = last - before
            if not (_joins(text, first) or _joins(text, last + 1)):
                whole.append((first, -last, keyword))
        behind = 0
        for first, minus_last, keyword in sorted(whole):
            if first >= behind:
                yield row, keyword, starts[first], ends[-minus_last]
                behind = 1 - minus_last


def _joins(text: str, place: int) -> bool:
    return 0 < place < len(text) and text[place - 1] in _SPACED and text[place] in _SPACED


_SPACED = frozenset(filter(str.isalnum, map(chr, range(0x250))))  # all the letters of these titles that are not Han


def fuse_lists(texts: NDArray[np.float32], vectors: Sequence[Any], found: list[list[int]]) -> NDArray[np.float32]:
    """½·e + ½·mean of the keywords, text by text, to length 1."""
    fused = []
    for text, rows in zip(texts, found, strict=True):
        vector = 0.5 * text + 0.5 * np.mean([vectors[row] for row in rows], axis=0) if rows else text
        fused.append(vector / np.linalg.norm(vector))
    return np.stack(fused)


if __name__ == "__main__":
    main()
