"""Whether preference lists are worth training on: what is measured of them before the first step.

    agreement    mean over searches of (1/|C||U|)·Σ_{c ∈ C, u ∈ U} [s_c > s_u] + ½·[s_c = s_u]
                 C: clicked items of a beam, U: its other items, s: the reward model's score
    gain         agreement − the same of the generator's own order
    interval     m ± 1.96·√(G/(G − 1)·Σ_u (Σ_{s of u} (v_s − m))²)/S, over S searches of G users, cut to what can be;
                 all that can be below 20 users, who may agree by chance

A user's searches are not independent, so users are what is counted (the variance of a clustered mean, Liang and Zeger
1986).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesearch.types import UserError

Floats = NDArray[np.float64]

LEARNT_FROM = "validation (learnt from)"
"""The validation split, judged by a reward model that has learnt from it: an upper bound."""

NUM_BINS = 20

FEWEST_USERS = 20
"""Users below whom their spread says too little: two who agree by chance would have no interval at all [ours]."""


@dataclass(frozen=True)
class Gate:
    """What lists must reach before anything learns from them; every threshold is ours.

    Args:
        min_changed: least share of beams that the reward model re-sorts.
        min_agreement: the share of pairs in which the reward model must put what was clicked above what was not; too
            little is an interval that lies below it as a whole.
        min_gain: how much more of these pairs it must put right than the generator's own order, with its interval
            likewise; 0 asks that re-sorting be not worse than leaving the beam alone, the default asks nothing, since
            a generator that has learnt from the same clicks is judged too well.
        max_degenerate: most of the lists whose rejected items all share the chosen one's SID.
        max_zero_weight: most of the lists that weigh nothing, since counts speak against the label of every pair.
        min_chosen_log_prob: least mean log-probability of the chosen item under the reference, in nats; the default is
            what a model that knows nothing gives at the published sizes.
        stop: whether to stop there; the figures are written and shown in any case.
    """

    min_changed: float = 0.02
    min_agreement: float = 0.5
    min_gain: float = -1.0
    max_degenerate: float = 0.5
    max_zero_weight: float = 0.9
    min_chosen_log_prob: float = -32.5
    stop: bool = True

    def check(self, name: str, figures: Mapping[str, Any]) -> None:
        """Refuse lists that nothing good can be learnt from.

        Args:
            name: of the stage.
            figures: from `list_figures` and `beam_figures`.

        Raises:
            UserError: a figure lies beyond its threshold, and `stop` is set; names both and the way out.
        """
        problems = self.problems(figures)
        if self.stop and problems:
            raise UserError(
                f"{name}: {problems[0]} Or lower the demand: 'model.init_args.gate'. The lists are in {name}_lists."
            )

    def problems(self, figures: Mapping[str, Any]) -> list[str]:
        """A sentence for each figure beyond its threshold, with the way out."""
        found = []
        if figures.get("changed") is not None and figures["changed"] < self.min_changed:
            found.append(
                f"the reward model re-sorts {figures['changed']:.1%} of the beams, below min_changed "
                f"{self.min_changed:.1%}: train it longer, or give it more to go by."
            )
        agreement = (figures.get("agreement") or {}).get(figures.get("judged_on"))
        if agreement and agreement["high"] < self.min_agreement:
            found.append(
                f"the reward model puts the clicked item above another in {agreement['value']:.1%} of the pairs "
                f"(95%: {agreement['low']:.1%} to {agreement['high']:.1%}, {figures['judged_on']} searches), below "
                f"min_agreement {self.min_agreement:.1%}: train it longer, or use dpo_logged alone."
            )
        if agreement and agreement["gain"]["high"] < self.min_gain:
            found.append(
                f"the reward model puts {agreement['gain']['value']:+.1%} of the pairs of a clicked and another item "
                f"right beside the generator's own order ({figures['judged_on']} searches), below min_gain "
                f"{self.min_gain:+.1%}: train it longer, or use dpo_logged alone."
            )
        if figures["degenerate"] > self.max_degenerate:
            found.append(
                f"in {figures['degenerate']:.1%} of the lists all rejected items share the chosen one's SID, above "
                f"max_degenerate {self.max_degenerate:.1%}: use a finer codebook, or a larger list_size."
            )
        if figures.get("zero_weight", 0.0) > self.max_zero_weight:
            found.append(
                f"{figures['zero_weight']:.1%} of the lists weigh nothing, above max_zero_weight "
                f"{self.max_zero_weight:.1%}: the counts speak against their labels; use a longer log."
            )
        if figures["chosen_log_prob"]["mean"] < self.min_chosen_log_prob:
            found.append(
                f"the chosen items have a mean log-probability of {figures['chosen_log_prob']['mean']:.1f} under the "
                f"reference, below min_chosen_log_prob {self.min_chosen_log_prob:.1f}: train the stage that "
                "'init_from' names longer."
            )
        return found


class Judgement(NamedTuple):
    """How the reward model re-sorted one beam, beside what was clicked in it."""

    is_changed: bool
    risen: int  # clicked items above where the generator had them
    fallen: int
    agreement: float  # NaN where nothing, or everything, was clicked
    of_generator: float


def judge(scores: Floats, clicked: NDArray[np.bool_]) -> Judgement:
    """Compare the reward model's scores [X] of a beam, in the generator's order, with what was clicked [X]."""
    places = np.arange(len(scores))
    risen = places - new_places(scores)
    ahead = scores[clicked][:, None] - scores[~clicked]
    before = places[~clicked] - places[clicked][:, None]
    has_pairs = ahead.size > 0
    return Judgement(
        bool(risen.any()),
        int((risen[clicked] > 0).sum()),
        int((risen[clicked] < 0).sum()),
        float((0.5 * (1 + np.sign(ahead))).mean()) if has_pairs else float("nan"),
        float((before > 0).mean()) if has_pairs else float("nan"),
    )


def new_places(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """The place [X] that each item takes when the highest score comes first; ties keep their order."""
    places = np.empty(len(scores), np.int64)
    places[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return places


class JudgedBeam(NamedTuple):
    """One beam that was re-sorted."""

    split: str  # "train", "validation" or `LEARNT_FROM`
    user: str  # "" where nobody is known
    judgement: Judgement


def beam_figures(beams: Sequence[JudgedBeam]) -> dict[str, Any]:
    """How many beams the reward model changes, and how it agrees with clicks, by split.

    `judged_on` is the split whose agreement counts: `validation`, under either name, where it has clicks inside beams.
    """
    figures: dict[str, Any] = {"num_beams": len(beams), "agreement": {}, "judged_on": None}
    figures["changed"] = float(np.mean([beam.judgement.is_changed for beam in beams]))
    for split in ("train", LEARNT_FROM, "validation"):
        inside = [beam for beam in beams if beam.split == split and not np.isnan(beam.judgement.agreement)]
        if inside:
            figures["agreement"][split] = _agreement(inside)
            figures["judged_on"] = split
    return figures


def _agreement(beams: Sequence[JudgedBeam]) -> dict[str, Any]:
    users = np.unique([beam.user or f"\n{place}" for place, beam in enumerate(beams)], return_inverse=True)[1]
    ours = np.array([beam.judgement.agreement for beam in beams])
    theirs = np.array([beam.judgement.of_generator for beam in beams])
    risen = sum(beam.judgement.risen for beam in beams)
    fallen = sum(beam.judgement.fallen for beam in beams)
    return {
        "num_searches": len(beams),
        **clustered_interval(ours, users, 0.0, 1.0),
        "of_generator": float(theirs.mean()),
        "gain": clustered_interval(ours - theirs, users, -1.0, 1.0),
        "clicked_items": {"risen": risen, "fallen": fallen},
    }


def clustered_interval(values: Floats, clusters: NDArray[np.int64], least: float, most: float) -> dict[str, float]:
    """The mean of values [S] and its 95% interval, clusters [S] being what is independent.

    Args:
        values: one a search.
        clusters: number of each search's user.
        least: what no mean can be below; the interval of fewer than `FEWEST_USERS` reaches from there ...
        most: ... to here.
    """
    mean = float(values.mean())
    number = len(np.unique(clusters))
    if number < FEWEST_USERS:
        return {"value": mean, "low": least, "high": most}
    sums = np.bincount(clusters, values - mean)
    error = 1.96 * float(np.sqrt(number / (number - 1) * (sums**2).sum())) / len(values)
    return {"value": mean, "low": max(least, mean - error), "high": min(most, mean + error)}


class PairColumns(NamedTuple):
    """Every rejected item of every list beside its chosen one, P pairs."""

    numbers: NDArray[np.int64]  # [P] of the list, 0 to B - 1, each at least once
    reward_gaps: Floats | None  # [P] r(q, chosen) - r(q, rejected); None: of soft lists, as the weights
    weights: Floats | None  # [P]
    chosen: Floats  # [P] log-probability under the reference
    rejected: Floats  # [P]


def list_figures(pairs: PairColumns, num_degenerate: int, max_weight: float) -> dict[str, Any]:
    """What lists hold: sizes, weights, margins, and what the reference says of them; no weights of soft ones.

    Args:
        pairs: of the lists that are left.
        num_degenerate: lists that were dropped since all of their items share a SID.
        max_weight: clip of the weights.
    """
    num_lists = int(pairs.numbers[-1]) + 1
    first = np.searchsorted(pairs.numbers, np.arange(num_lists))
    margins = pairs.chosen - pairs.rejected
    return {
        "num_lists": num_lists,
        "num_degenerate": num_degenerate,
        "degenerate": num_degenerate / (num_lists + num_degenerate),
        "rejected_a_list": len(pairs.numbers) / num_lists,
        **_weight_figures(pairs, num_lists, max_weight),
        "chosen_log_prob": _quantiles(pairs.chosen[first]),
        "rejected_log_prob": _quantiles(pairs.rejected),
        "reference_margin": _histogram(margins),
        "reference_accuracy": float((margins > 0).mean()),
    }


def _weight_figures(pairs: PairColumns, num_lists: int, max_weight: float) -> dict[str, Any]:
    if pairs.weights is None or pairs.reward_gaps is None:
        return {}
    heaviest = np.zeros(num_lists)
    np.maximum.at(heaviest, pairs.numbers, pairs.weights)
    return {
        "zero_weight": float((heaviest == 0).mean()),
        "zero_weight_pairs": float((pairs.weights == 0).mean()),
        "full_weight_pairs": float((pairs.weights >= max_weight).mean()),
        "reward_gap": _histogram(pairs.reward_gaps),
    }


def invalid_figures(log_probs: Floats, num_lists: int) -> dict[str, Any]:
    """How many SIDs that no item has are rejected beside the items, and what the reference says of them.

    Args:
        log_probs: of each of them, [Y].
        num_lists: over which they are spread.
    """
    return {
        "invalid_a_list": len(log_probs) / num_lists,
        "invalid_log_prob": _quantiles(log_probs) if len(log_probs) else None,
    }


def _quantiles(values: Floats) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
    return {"mean": float(values.mean()), "p10": low, "p50": median, "p90": high}


def _histogram(values: Floats) -> dict[str, Any]:
    counts, edges = np.histogram(values, NUM_BINS)
    return {"mean": float(values.mean()), "edges": edges.tolist(), "counts": counts.tolist()}
