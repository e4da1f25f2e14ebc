"""The doctor's figures in words: what each means, and which way is better."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple

from markupsafe import Markup

from onesearch.report.elements import element, note, table
from onesearch.sid.spec import SidSpec

UP, DOWN = "↑", "↓"


class Meaning(NamedTuple):
    """A figure of `metrics.doctor`, for a reader who does not know it."""

    name: str
    title: str
    better: str  # an arrow, or nothing
    form: str  # a format specification
    sentence: str


MEANINGS = (
    Meaning("icr_items", "ICR, of items", UP, ".2%", "Items that are alone in their SID, of all items."),
    Meaning("icr_sids", "ICR, of SIDs", UP, ".2%", "SIDs that stand for one item only, of all SIDs in use."),
    Meaning("largest_bucket", "Largest bucket", DOWN, ",.0f", "The most items that share one SID; 1 is ideal."),
    Meaning(
        "reconstruction_error",
        "Reconstruction error",
        DOWN,
        ".4f",
        "Squared distance from an embedding of length 1 to what its SID decodes to: 0 loses nothing, 1 knows nothing.",
    ),
    Meaning("twins", "Twins", DOWN, ".2%", "Items whose embedding is exactly another's: no codebook tells them apart."),
    Meaning(
        "stability_l1",
        "Stability of level 1",
        UP,
        ".3f",
        "Agreement of its groups with those of a codebook that is fitted on half of the texts (adjusted Rand index): "
        "1 is the same groups, 0 is chance.",
    ),
    Meaning(
        "stability_l1_pairs",
        "Pairs kept",
        UP,
        ".1%",
        "Pairs of items with one first code that share one in that second codebook too.",
    ),
    Meaning(
        "stability_sid", "Stable SIDs", UP, ".1%", "Items that share their whole SID with exactly the same items there."
    ),
    Meaning("reproduced", "Reproduced", UP, ".2%", "Items that get the same SID when they are encoded again."),
    Meaning(
        "purity_l1", "Category purity, level 1", UP, ".1%", "Items in the most frequent category of their first code."
    ),
    Meaning("purity_l2", "Category purity, levels 1·2", UP, ".1%", "The same of their first two codes."),
    Meaning("largest_category", "Largest category", "", ".1%", "What that purity would be with one code for all."),
)


def figures_table(figures: Mapping[str, float], spec: SidSpec) -> Markup:
    """A line a figure, with its meaning under its name; figures that are not there are left out."""
    meanings = [*utilisation(spec, int(figures["num_items"])), *MEANINGS]
    rows = [
        (
            element("span", meaning.title, f" {meaning.better}") + element("small", meaning.sentence),
            format(figures[meaning.name], meaning.form),
        )
        for meaning in meanings
        if meaning.name in figures
    ]
    legend = note(f"{UP} higher is better, {DOWN} lower is better.")
    return table(("figure", "value"), rows, class_="figures meanings") + legend


def utilisation(spec: SidSpec, num_items: int) -> Iterator[Meaning]:
    """CUR of each depth, with the most that so many items can reach."""
    for depth in range(1, len(spec.rq_sizes) + 1):
        levels = [str(level) for level in range(1, depth + 1)]
        combinations = prod(spec.rq_sizes[:depth])
        sentence = f"Used codes of {combinations:,}." if depth == 1 else f"Combinations in use, of {combinations:,}."
        if num_items < combinations:
            sentence += f" {num_items:,} items can reach {num_items / combinations:.2%}."
        title = f"CUR, level{'s' if depth > 1 else ''} {'·'.join(levels)}"
        yield Meaning("cur_" + "_".join(f"l{level}" for level in levels), title, UP, ".2%", sentence)


def levels_table(figures: Mapping[str, float], spec: SidSpec) -> Markup:
    """A line a level: its codes, how many are unused, and how evenly the others are used."""
    rows = [
        (
            f"{level} · {'residual' if level <= len(spec.rq_sizes) else 'product'}",
            f"{size:,}",
            f"{figures[f'dead_l{level}']:,.0f}",
            f"{figures[f'perplexity_l{level}']:,.1f}",
            f"{figures[f'gini_l{level}']:.3f}",
        )
        for level, size in enumerate(spec.sizes, start=1)
    ]
    legend = "Perplexity: so many codes, used alike, would be as even; best near the number of codes. "
    return table(("level", "codes", "unused", "perplexity", "Gini"), rows) + note(
        legend + "Gini: 0 is even use; towards 1, few codes serve most items."
    )
