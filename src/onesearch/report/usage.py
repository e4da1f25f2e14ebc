"""Two figures of a codebook: how evenly each layer uses its codes, and how many items a SID has."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from onesearch.report.charts import COLORS, INK, svg
from onesearch.sid.spec import SidSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_CURVE = 200  # points of the doctor's curves


def points(spec: SidSpec) -> list[int]:
    """How many points the curve of each layer has."""
    return [min(size, _CURVE) for size in spec.sizes]


def usage_curves(usage: Sequence[Sequence[int]], spec: SidSpec, num_items: int) -> Markup:
    """Layers' codes from the most to the least used, beside even use.

    Args:
        usage: a layer: counts of its codes, falling, at most 200 evenly spaced ones.
        spec: sizes of the layers.
        num_items: N.
    """

    def draw(axes: "Axes") -> None:
        for layer, (counts, size) in enumerate(zip(usage, spec.sizes, strict=True)):
            style = "-" if layer < len(spec.rq_sizes) else "--"
            label = f"level {layer + 1}, {size:,} codes"
            axes.plot(*curve(counts, size, num_items), style, color=COLORS[layer % len(COLORS)], label=label)
        axes.axhline(1, color=INK, linewidth=0.8, linestyle=":", zorder=0)
        _times_even(axes)
        axes.set(xlim=(0, 1), xlabel="codes of the level, most used first", ylabel="use, relative to even use")
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.grid(axis="y", linewidth=0.6)
        axes.legend(fontsize=9, handlelength=1.6)

    return svg(
        draw,
        "How evenly codes are used: the flatter, the better. The dotted line is even use; a line that ends early has "
        "unused codes; product layers are dashed.",
    )


def curve(counts: Sequence[int], size: int, num_items: int) -> tuple[list[float], list[float]]:
    """The share of codes that are used at least as much, and the use of each relative to even use; unused codes end it.

    Args:
        counts: of codes, falling, at most 200 evenly spaced ones.
        size: K, codes of the layer.
        num_items: N; with even use each code has N / K.
    """
    ranks = np.linspace(0, size - 1, len(counts)).astype(int)  # as `metrics.doctor` spaces them
    used = [(int(rank) + 1, count) for rank, count in zip(ranks, counts, strict=True) if count]
    return [rank / size for rank, _ in used], [count * size / num_items for _, count in used]


def _times_even(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(lambda times, _: f"{times:g}×")
    axes.minorticks_off()


def bucket_histogram(bucket_sizes: Mapping[int, int]) -> Markup:
    """How many SIDs have how many items.

    Args:
        bucket_sizes: items of a SID → number of such SIDs.
    """
    bins = binned(bucket_sizes)

    def draw(axes: "Axes") -> None:
        bars = axes.barh(list(bins), list(bins.values()), color=COLORS[0], height=0.65)
        axes.bar_label(bars, [f"{count:,}" if count else "" for count in bins.values()], fontsize=9, padding=3)
        axes.set_xscale("log")
        axes.set_xlim(0.5, 8 * max(bins.values()))  # a bar of one SID is seen, and the longest has room for its figure
        axes.set_ylim(max(len(bins), 6) - 0.4, -0.6)
        axes.xaxis.set_major_formatter(lambda count, _: f"{count:,.0f}" if count >= 1 else "")
        axes.minorticks_off()
        axes.set(xlabel="SIDs", ylabel="items that share a SID")
        axes.grid(axis="x", linewidth=0.6)

    return svg(draw, "How many SIDs have one item, two, and so on: a SID of the first bar names one item.")


def binned(bucket_sizes: Mapping[int, int]) -> dict[str, int]:
    """SIDs by size: 1, 2, 3, 4, then doublings (5–8, 9–16, ..) up to the largest."""
    highs = [1]
    while highs[-1] < max(bucket_sizes):
        highs.append(highs[-1] + 1 if highs[-1] < 4 else 2 * highs[-1])
    counts = [0] * len(highs)
    for size, count in bucket_sizes.items():
        counts[bisect_left(highs, size)] += count
    lows = [1, *(high + 1 for high in highs)]
    names = [f"{low:,}" if low == high else f"{low:,}–{high:,}" for low, high in zip(lows, highs, strict=False)]
    return dict(zip(names, counts, strict=True))
