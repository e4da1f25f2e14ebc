"""What the figures of a codebook ask for, in words.

The thresholds are ours, from runs on four catalogues; each piece of advice says the figure that it rests on, so that a
reader can disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Grade = Literal["collapsed", "poor", "watch"]

SHOWN_OF_A_SID = 5
"""PRQ-KMeans: how many items of one SID search shows."""


@dataclass(frozen=True)
class Advice:
    """One thing to know, and what to change."""

    grade: Grade
    sentence: str


def advise(figures: Mapping[str, float], first_size: int) -> list[Advice]:
    """All advice that holds.

    Args:
        figures: of `doctor.diagnose`; what is missing is not judged.
        first_size: codes of level 1.
    """
    found = [*_collapses(figures, first_size), *_collisions(figures), *_first_level(figures, first_size)]
    return [Advice(grade, sentence) for grade, holds, sentence in found if holds]


Rule = tuple[Grade, bool, str]


def _collapses(f: Mapping[str, float], size: int) -> list[Rule]:
    alone, even = f["icr_items"], f["perplexity_l1"]
    return [
        (
            "collapsed",
            f["num_items"] > 1 and alone < 0.1 * (1 - f["twins"]),
            f"Only {alone:.1%} of the items are alone in their SID: enlarge the last layers, switch "
            "normalize_residuals on, and look whether the encoder's loss went down.",
        ),
        (
            "collapsed",
            even < min(size, f["num_items"]) ** 0.5 / 2,
            f"Level 1 uses its {size} codes as {even:.1f} even ones would be: the embeddings lie in a few heaps: "
            "train the encoder longer, or with a smaller temperature.",
        ),
    ]


def _collisions(f: Mapping[str, float]) -> list[Rule]:
    alone, apart = f["icr_items"], 1 - f["twins"]
    return [
        (
            "watch",
            f["twins"] > 0.01,
            f"{f['twins']:.1%} of the items have the same embedding as another one and cannot be told apart: give them "
            "a distinguishing attribute, or let the encoder read longer texts.",
        ),
        (
            "poor",
            0.1 * apart <= alone < 0.8 * apart,
            f"{alone:.1%} of the items are alone in their SID: larger product layers (opq_sizes) or a balanced last "
            "residual layer (slack) would keep more of them apart.",
        ),
        (
            "watch",
            f["largest_bucket"] > SHOWN_OF_A_SID,
            f"{f['largest_bucket']:.0f} items share one SID, of which search shows the first {SHOWN_OF_A_SID}: look at "
            "the largest buckets; true duplicates may stay together.",
        ),
    ]


def _first_level(f: Mapping[str, float], size: int) -> list[Rule]:
    pure, named = f.get("purity_l1", 1.0), f.get("largest_category", 0.0)
    again, dead = f.get("stability_l1", 1.0), f.get("dead_l1_with_queries", f["dead_l1"])
    return [
        (
            "watch",
            dead > 0.05 * size,
            f"{dead:.0f} of {size} codes of level 1 are unused: the catalogue is too small for them, halve the "
            "first size.",
        ),
        (
            "poor",
            pure - named < 0.2 * (1 - named),
            f"Codes of level 1 hardly know the categories: they name {pure:.0%} of them, the largest category alone "
            f"{named:.0%}. The encoder's neighbours are not alike: see val/recall@10 of its stage.",
        ),
        (
            "watch",
            again < 0.3,
            f"A second fit on half of the texts groups the items otherwise (adjusted Rand index {again:.2f}): level 1 "
            "is large for this catalogue. Keep this codebook frozen, and encode new items with it.",
        ),
    ]
