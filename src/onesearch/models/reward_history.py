"""What a shopper's past says of a candidate, counted: the part of SIM's general search that needs no embedding.

Of the n clicks in a window, for a candidate i:

    repeat      log(1 + clicks on i), 1/(1 + clicks since the last one), 1/(1 + days since)
    habit       log((n_a(v) + κ·p(v))/(n_a + κ)) − log p(v)   for each attribute a of which i has the value v
    at home     the same over the clicks in the top category of i alone: brands and materials go by department
    category    log(1 + clicks) in the leaf and in the top category of i
    latest      share of attributes alike in i and the latest click; the same where that was today
    price       log price of i less the mean of the clicks', both beside their category's median
    length      log(1 + n)

n_a(v) clicks on items with that value, n_a on items with any; p(v) the share of it in the catalogue, κ = 4 [ours]: a
habit of 0 is what chance would give. Each is computed over the whole long history, and over its latest clicks alone: no
others does a model without a search unit compare a candidate with. (Two things that it reads know the whole history all
the same: the user ID, and whether this very item was ever ordered.) `match_answers` counts the habits of a query in the
same way, over the items most clicked for it until the day before.

Shapes: X candidates, T clicks, A attributes, F = NUM_MATCHES features.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onesearch.models.reward_items import LEAF, NONE, NUM_ATTRIBUTES, TOP, ItemFacts
from onesearch.types import SearchContext

NUM_MATCHES = 2 * NUM_ATTRIBUTES + 9
NUM_ANSWERS = NUM_ATTRIBUTES + 2
NUM_WINDOWS = 2  # the whole history, its latest clicks
_PRIOR = 4.0  # κ
_HOME = 3 + NUM_ATTRIBUTES  # where the second habits begin


def match_history(
    facts: ItemFacts, context: SearchContext, candidates: NDArray[np.int64], longest: int, latest: int
) -> NDArray[np.float32]:
    """Features of candidates [X] against the past of one search: [X, 2, F].

    Args:
        facts: of all items.
        context: the search.
        candidates: item rows.
        longest: clicks of the whole window, the latest ones where there are more.
        latest: clicks of the second window.
    """
    features = np.zeros((len(candidates), NUM_WINDOWS, NUM_MATCHES), np.float32)
    clicks = np.array(context.long_clicks[-longest:], np.int64)
    if not len(clicks) or not len(candidates):
        features[:, :, -2] = facts.prices[candidates][:, None]
        return features
    days = np.array(context.long_click_days[-longest:], np.int64)
    theirs, values = facts.values[clicks], facts.values[candidates]  # [T, A], [X, A]
    same_item = candidates[:, None] == clicks  # [X, T]
    same_value = (values[:, None] == theirs) & (values != NONE)[:, None]  # [X, T, A]
    gaps = np.maximum(context.day - days, 0)
    alike = same_value[:, -1].sum(1) / max(1, (theirs[-1] != NONE).sum())
    for place, size in enumerate((longest, latest)):
        start = max(0, len(clicks) - size)
        part, recorded = same_value[:, start:], theirs[start:] != NONE
        counts = part.sum(1)  # [X, A]
        home = part[:, :, TOP].astype(np.float32)  # [X, T]
        row = features[:, place]
        row[:, :3] = _repeats(same_item[:, start:], gaps[start:])
        row[:, 3:_HOME] = _habits(facts, candidates, counts, recorded.sum(0))
        row[:, _HOME:-6] = _habits(facts, candidates, np.einsum("xta,xt->xa", part, home), home @ recorded)
        row[:, -6:-4] = np.log1p(counts[:, [LEAF, TOP]])
        row[:, -4], row[:, -3] = alike, alike * (gaps[-1] == 0)
        row[:, -2] = facts.prices[candidates] - facts.prices[clicks[start:]].mean()
        row[:, -1] = np.log1p(len(clicks) - start)
    return features


def match_answers(facts: ItemFacts, context: SearchContext, candidates: NDArray[np.int64]) -> NDArray[np.float32]:
    """Habits of the query's n most clicked items, 1/place of the candidate among them, log(1 + n): [X, A + 2]."""
    features = np.zeros((len(candidates), NUM_ANSWERS), np.float32)
    answers = np.array(context.cold_start, np.int64)
    if len(answers) and len(candidates):
        theirs, values = facts.values[answers], facts.values[candidates]
        counts = ((values[:, None] == theirs) & (values != NONE)[:, None]).sum(1)
        features[:, :NUM_ATTRIBUTES] = _habits(facts, candidates, counts, (theirs != NONE).sum(0))
        same = candidates[:, None] == answers
        features[:, -2] = same.any(1) / (1.0 + same.argmax(1))
        features[:, -1] = np.log1p(len(answers))
    return features


def _habits(
    facts: ItemFacts, candidates: NDArray[np.int64], counts: NDArray[Any], known: NDArray[Any]
) -> NDArray[np.float32]:
    """[X, A] of counts [X, A] among `known` [A] or [X, A] clicks; 0 where the candidate has no value."""
    share = facts.shares[candidates]
    habit = np.log((counts + _PRIOR * share) / ((known + _PRIOR) * share))
    return np.where(facts.values[candidates] != NONE, habit, 0.0).astype(np.float32)


def _repeats(same: NDArray[np.bool_], gaps: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often, how many clicks ago and how many days ago a candidate was clicked: [X, 3]."""
    counts = same.sum(1)
    since = same[:, ::-1].argmax(1)  # clicks after the last one
    ago = gaps[::-1][since]
    return np.stack([np.log1p(counts), (counts > 0) / (1.0 + since), (counts > 0) / (1.0 + ago)], 1)
