"""How far a catalogue has moved away from the codebook that it was fitted with.

    residual ratio = mean ‖e° − decode(encode(e°))‖² of new items / the same of the items of the fit

A frozen codebook codes new items as near as it can. When they are unlike anything that it was fitted on, they are coded
coarsely and crowd into few codes: then it is time for another fit, and for another generator.
"""

import numpy as np
from numpy.typing import NDArray

from onesearch.metrics.codebook import codebook_report
from onesearch.metrics.grouping import groups

Codes = NDArray[np.int64]

COARSE = 1.5
"""A residual ratio from which new items are coded too coarsely."""
CROWDED = 0.9
"""A share of the fit's ICR below which new items crowd."""


def drift(
    fitted: Codes,
    added: Codes,
    fitted_errors: NDArray[np.floating],
    added_errors: NDArray[np.floating],
    rq_sizes: tuple[int, ...],
    opq_sizes: tuple[int, ...],
) -> dict[str, float]:
    """Figures of what was added.

    Args:
        fitted: [N, C] codes of the fit's items.
        added: [A, C] codes of the items that came later.
        fitted_errors: [N] squared distances of the fit's items to what their codes decode to.
        added_errors: [A] the same of the later ones.
        rq_sizes: codes of each residual layer.
        opq_sizes: codes of each product layer.
    """
    before = codebook_report(fitted, rq_sizes, opq_sizes)
    after = codebook_report(np.concatenate([fitted, added]), rq_sizes, opq_sizes)
    changes = {f"{name}_change": after[name] - before[name] for name in before if name.startswith(("cur_", "icr_"))}
    return {
        "num_added": len(added),
        "mean_residual": float(added_errors.mean()),
        "residual_ratio": float(added_errors.mean() / max(float(fitted_errors.mean()), 1e-12)),
        "new_sids": _share_new(fitted, added),
        "new_prefixes": _share_new(fitted[:, :2], added[:, :2]),
        "icr_items": after["icr_items"],
        "icr_items_of_fit": before["icr_items"],
        **changes,
    }


def drift_advice(figures: dict[str, float]) -> list[str]:
    """What to do about it, if anything."""
    ratio, icr, of_fit = figures["residual_ratio"], figures["icr_items"], figures["icr_items_of_fit"]
    rules = [
        (
            ratio >= COARSE,
            f"New items are coded {ratio:.1f} times as coarsely as those of the fit: fit the quantizer again, and the "
            "stages after it.",
        ),
        (
            icr < CROWDED * of_fit,
            f"{icr:.1%} of all items are alone in their SID, {of_fit:.1%} were at the fit: fit the quantizer again "
            "with larger layers.",
        ),
    ]
    return [sentence for holds, sentence in rules if holds]


def _share_new(known: Codes, later: Codes) -> float:
    """The share of `later` rows that occur in none of `known`."""
    numbers = groups(np.concatenate([known, later]))
    return float(1 - np.isin(numbers[len(known) :], numbers[: len(known)]).mean())
