"""Preference lists: which item should stand above which others for a search (PARS, OneSearch §4.2–4.4).

level   L1 bought after search · L2 bought in recommendation, same category · L3 clicked ·
L4 shown, not clicked · L5 same category, not shown · L6 other
soft    every item of a beam with its share of being the best one, by the reward model: p_i = s_i^γ/Σ_j s_j^γ
risen   items of a beam, re-sorted by the reward model: risen or clicked above fallen or low
logged  items of levels L1–L3 above items of levels L4–L6

Below all of them stand SIDs that no item has (`serve.invalid`): there is nothing to show. A generator that is never
told so gives them what the rejected items lose.

One SID is one candidate, whatever the items behind it: rejected items of the chosen one's SID, or of an earlier
rejected one's, are no candidates, nor are those that share the SID of anything else that was clicked or bought; the
shares of a SID's items are one share, and the likeliest SID is the chosen one.

The soft lists are ours (Luce's choice rule, Individual Choice Behavior, 1959, with the reward as worth); the paper
has the risen ones. These know only that an item rose: what stands high in a beam is rejected and what stands low is
chosen, so that a generator learns to distrust itself. docs/experiments.md, 2026-11-28, has the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesearch.metrics.preference_gate import Judgement, judge, new_places
from onesearch.types import SearchContext, UserError

BOUGHT, RECOMMENDED, CLICKED, SHOWN, SAME_CATEGORY, OTHER = range(6)
"""Levels L1 to L6 as positions in `losses.LEVEL_WEIGHTS`."""


@dataclass(frozen=True)
class Preference:
    """Of the preference lists and their loss; no value is published, these are ours.

    Args:
        beta: β > 0, how firmly the policy is held to the reference; None: 1 of soft lists, where it multiplies nothing
            (π ∝ π_ref·s^γ is their optimum), 0.1 of hard ones, as S-DPO has it.
        delta: δ, margin that the chosen item must keep.
        alpha: α, weight of the likelihood of the chosen item.
        max_weight: w_max, clip of the reward gap's weight.
        num_rejected: most rejected items of a list.
        list_size: items of a beam that the reward model re-sorts, in phase 1.
        labels: what phase 1 makes of a re-sorted beam: the chance of each item to be the best (soft), or one that rose
            or was clicked above those that fell or are low (risen, as published). See `tasks.preference`.
        sharpness: γ of the soft ones, not below 0.
        num_invalid: most SIDs that no item has, rejected in a list of either phase beside its items: the most probable
            ones among beams of the reference that nothing forbids; 0: lists hold items alone.
    """

    beta: float | None = None
    delta: float = 0.0
    alpha: float = 0.1
    max_weight: float = 3.0
    num_rejected: int = 6
    list_size: int = 20
    labels: Literal["soft", "risen"] = "soft"
    sharpness: float = 1.0
    num_invalid: int = 20

    def __post_init__(self) -> None:
        if self.beta is not None and not 0 < self.beta < float("inf"):
            raise UserError(f"preference.beta is {self.beta:g}: give more than 0, or leave it out for the default.")
        if not 0 <= self.sharpness < float("inf"):
            raise UserError(
                f"preference.sharpness is {self.sharpness:g}: below 0 it would prefer what the reward model deems the "
                "worst; give 0 (all items alike) or more."
            )

    def beta_of(self, is_soft: bool) -> float:
        """β of soft or of hard lists."""
        return self.beta if self.beta is not None else 1.0 if is_soft else 0.1


class PreferenceList(NamedTuple):
    """One item above several others, none where nothing is to be learnt; items by row."""

    context: SearchContext
    chosen: int
    rejected: tuple[int, ...]
    levels: tuple[int, ...]  # of the chosen item, then of each rejected one
    judgement: Judgement | None = None  # of the reward model on the beam that the list comes from
    shares: tuple[float, ...] = ()  # chance of each to be the best, the chosen one's first; none: the chosen one is it

    def of_distinct_sids(self, item_codes: NDArray[np.int64], positives: Sequence[int] = ()) -> "PreferenceList":
        """Without rejected items whose SID another candidate of the list has; of a soft list, the likeliest SID first.

        Args:
            item_codes: SIDs of the catalogue, [N, C].
            positives: items that are right for the search; a list without shares rejects no SID of theirs.
        """
        items = np.array([self.chosen, *self.rejected])
        first_of: dict[tuple[int, ...], int] = {}  # SID → its first place in the list
        place_of = [first_of.setdefault(tuple(sid), place) for place, sid in enumerate(item_codes[items].tolist())]
        kept = np.array(list(first_of.values()))
        if self.shares:
            shares = np.bincount(place_of, self.shares, len(items))
            kept = kept[np.argsort(-shares[kept], kind="stable")]  # several items may outweigh the likeliest one
            return self._of(kept, items[kept], tuple(shares[kept].tolist()))
        right = {tuple(sid) for sid in item_codes[list(positives)].tolist()}
        is_wrong = [place == 0 or sid not in right for sid, place in first_of.items()]
        return self._of(kept[is_wrong], items[kept[is_wrong]])

    def _of(
        self, kept: NDArray[np.int64], items: NDArray[np.int64], shares: tuple[float, ...] = ()
    ) -> "PreferenceList":
        chosen, *rejected = items.tolist()
        levels = tuple(self.levels[place] for place in kept)
        return self._replace(chosen=chosen, rejected=tuple(rejected), levels=levels, shares=shares)


class Levels:
    """Places items on the six levels of a search.

    Args:
        categories: number of each item's leaf category, [N], -1 where unknown.
        bought_outside: user → items bought in recommendation, with the day.
        horizon: for how many days after a search a purchase in recommendation still answers it.
    """

    def __init__(
        self,
        categories: NDArray[np.int64],
        bought_outside: dict[str, list[tuple[int, int]]],
        horizon: int = 7,
    ) -> None:
        self.categories = categories
        self.bought_outside = bought_outside
        self.horizon = horizon
        self.members = {int(c): np.flatnonzero(categories == c) for c in np.unique(categories) if c >= 0}

    def wanted(self, context: SearchContext) -> set[int]:
        """The categories that the search was after: those of its clicks."""
        return {int(self.categories[item]) for item in context.clicked + context.purchased} - {-1}

    def recommended(self, context: SearchContext) -> set[int]:
        """Items of a wanted category that the user bought in recommendation soon after the search (L2)."""
        wanted = self.wanted(context)
        return {
            item
            for item, day in self.bought_outside.get(context.user_id, ())
            if context.day <= day <= context.day + self.horizon and int(self.categories[item]) in wanted
        }

    def of(self, context: SearchContext, items: Sequence[int]) -> tuple[int, ...]:
        """The level of each item, 0 for L1 to 5 for L6."""
        wanted, recommended = self.wanted(context), self.recommended(context)
        shown = set(context.impressed or ())

        def level(item: int) -> int:
            if item in context.purchased:
                return BOUGHT
            if item in recommended:
                return RECOMMENDED
            if item in context.clicked:
                return CLICKED
            if item in shown:
                return SHOWN
            return SAME_CATEGORY if int(self.categories[item]) in wanted else OTHER

        return tuple(map(level, items))

    def positives(self, context: SearchContext) -> list[int]:
        """Items of levels L1 to L3, best level first."""
        items = dict.fromkeys([*context.purchased, *sorted(self.recommended(context)), *context.clicked])
        return list(items)

    def negatives(self, context: SearchContext, count: int, rng: np.random.Generator) -> list[int]:
        """At most `count` items of levels L4 to L6.

        Half shown ones where the log knows them, then half of the wanted categories, then any.
        """
        positive = set(self.positives(context))
        shown = [item for item in context.impressed or () if item not in positive]
        drawn = rng.permutation(shown)[: count // 2].tolist() if shown else []
        for category in sorted(self.wanted(context)):
            drawn += rng.permutation(self.members[category])[: count // 2].tolist()
        drawn += rng.integers(len(self.categories), size=count).tolist()
        return [item for item in dict.fromkeys(drawn) if item not in positive][:count]


def soft_list(
    context: SearchContext, items: Sequence[int], scores: NDArray[np.floating], levels: Levels, sharpness: float
) -> PreferenceList | None:
    """All items of a beam, each with the chance that it is the best of them; the likeliest is called the chosen one.

    Args:
        context: the search.
        items: the beam's items in the generator's order, [X].
        scores: the reward of each, not below zero, [X].
        levels: of the logged behaviour.
        sharpness: γ; 0 makes all items alike, much of it leaves the first one.

    Returns:
        None where the beam is empty.
    """
    if len(items) == 0:
        return None
    judgement = _judged(context, items, scores)
    logits = sharpness * np.log(np.maximum(np.asarray(scores, np.float64), _LEAST_WORTH))
    worth = np.exp(logits - logits.max())  # the powers themselves leave what a float can hold
    chosen = int(worth.argmax())
    places = [chosen, *(place for place in range(len(items)) if place != chosen)]
    kept = [items[place] for place in places]
    shares = tuple((worth[places] / worth.sum()).tolist())
    return PreferenceList(context, kept[0], tuple(kept[1:]), levels.of(context, kept), judgement, shares)


_LEAST_WORTH = 1e-6
"""A reward below this is taken for it: no item is impossible."""


def _judged(context: SearchContext, items: Sequence[int], scores: NDArray[np.floating]) -> Judgement:
    """How the reward model did on a beam.

    Raises:
        UserError: a score is no number.
    """
    if not np.isfinite(scores).all():
        raise UserError(
            f"The reward model's scores of search {context.search_id!r} are not all finite: nothing can be preferred "
            "by them; run the 'reward' stage again, with a lower rate."
        )
    return judge(np.asarray(scores, np.float64), np.isin(items, context.clicked))


def risen_list(
    context: SearchContext, items: Sequence[int], scores: NDArray[np.floating], levels: Levels, count: int
) -> PreferenceList | None:
    """The preference list of one re-sorted beam: without rejected items where the reward model changed nothing.

    Args:
        context: the search.
        items: the beam's items in the generator's order, [X].
        scores: the reward model's score of each, [X].
        levels: of the logged behaviour.
        count: most rejected items.

    Returns:
        None where the beam is empty.
    """
    if len(items) == 0:
        return None
    judgement = _judged(context, items, scores)
    after = new_places(scores)
    risen = np.arange(len(items)) - after  # places gained
    answers = set(levels.positives(context))
    clicked = [place for place, item in enumerate(items) if item in answers]
    # A click is better evidence than a rise; among several the one that the reward model places highest.
    chosen = min(clicked, key=lambda place: int(after[place])) if clicked else int(risen.argmax())
    lower = [place for place in range(len(items)) if items[place] not in answers and after[place] > after[chosen]]
    lower = [place for place in lower if risen[place] < 0 or after[place] >= len(items) // 2]
    rejected = sorted(lower, key=lambda place: int(risen[place]))[:count] if risen.any() else []
    kept = [items[chosen], *(items[place] for place in rejected)]
    level = levels.of(context, kept)
    # An item that rose without a click is taken at the level of a click: the reward model vouches for it.
    return PreferenceList(context, kept[0], tuple(kept[1:]), (min(level[0], CLICKED), *level[1:]), judgement)


def logged_list(context: SearchContext, levels: Levels, count: int, rng: np.random.Generator) -> PreferenceList | None:
    """The preference list of one logged search, or None where nothing was clicked or nothing else is known."""
    positives = levels.positives(context)
    rejected = levels.negatives(context, count, rng)
    if not positives or not rejected:
        return None
    kept = [positives[0], *rejected]
    return PreferenceList(context, kept[0], tuple(rejected), levels.of(context, kept))
