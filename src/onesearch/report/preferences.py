"""What preference lists are worth, in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

BLOCKS = " ▁▂▃▄▅▆▇█"


def show_gate(figures: Mapping[str, Any], problems: Sequence[str], console: Console | None = None) -> None:
    """Print figures, the histograms of margins, and what lies beyond a threshold.

    Args:
        figures: from `metrics.preference_gate`.
        problems: a sentence each.
        console: where to; None: the terminal.
    """
    out = console or Console(markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("preference lists")
    table.add_column("value", justify="right")
    for name, value in _lines(figures):
        table.add_row(name, value)
    out.print(table)
    for name, title in (("reward_gap", "reward gap"), ("reference_margin", "log π_ref(chosen)/π_ref(rejected)")):
        if name not in figures:  # soft lists have no rewards by counts
            continue
        edges = figures[name]["edges"]
        out.print(f"{title:>34} {edges[0]:8.2f} {histogram(figures[name]['counts'])} {edges[-1]:.2f}")
    for problem in problems:
        out.print(f"• {problem}", style="bold red")


def _lines(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    lists, searches = figures["num_lists"], figures["num_searches"]
    lines = [
        ("lists / searches", f"{lists:,} / {searches:,}"),
        ("rejected items a list", f"{figures['rejected_a_list']:.2f}"),
        ("SIDs of no item a list", f"{figures['invalid_a_list']:.2f}"),
        ("lists of one SID, dropped", f"{figures['degenerate']:.1%}"),
        *(
            (title, f"{figures[name]:.1%}")
            for name, title in (
                ("zero_weight", "lists that weigh nothing"),
                ("full_weight_pairs", "pairs of full weight"),
            )
            if name in figures
        ),
        ("log π_ref of chosen, 10% 50% 90%", _spread(figures["chosen_log_prob"])),
        ("log π_ref of rejected", _spread(figures["rejected_log_prob"])),
        *([("log π_ref of SIDs of no item", _spread(invalid))] if (invalid := figures["invalid_log_prob"]) else []),
        ("pairs that the reference ranks so", f"{figures['reference_accuracy']:.1%}"),
    ]
    if "changed" in figures:
        lines.append(("beams that the reward re-sorts", f"{figures['changed']:.1%}"))
        for split, found in figures["agreement"].items():
            of = f"{found['value']:.1%} ({found['low']:.1%}–{found['high']:.1%})"
            lines.append((f"clicked above others, {split}", of))
            lines.append(("  of the generator's order", f"{found['of_generator']:.1%}"))
            gain = f"{found['gain']['value']:+.1%} ({found['gain']['low']:+.1%}–{found['gain']['high']:+.1%})"
            lines.append(("  gain of re-sorting", gain))
            items = found["clicked_items"]
            lines.append(("  clicked items risen / fallen", f"{items['risen']:,} / {items['fallen']:,}"))
    return lines


def _spread(found: Mapping[str, float]) -> str:
    return f"{found['p10']:.1f} {found['p50']:.1f} {found['p90']:.1f}"


def histogram(counts: Sequence[int]) -> str:
    """Bars of eighths; what is not nothing is seen."""
    most = max(counts)
    return "".join(BLOCKS[-(-8 * count // most)] if count else BLOCKS[0] for count in counts)
