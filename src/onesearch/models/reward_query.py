"""What a query says of a candidate in words, and what the shopper's day says of the search: counted, not learned.

    in title, in facts   Σ_w rarity(w)·[w in the text]/Σ_w rarity(w)   over the terms w of the query
    session              the same over terms of the shopper's queries just before this one that it does not repeat

Just before: on the day of the search, each within half an hour of the next. A shopper who broadens a query still wants
what the narrower one said. The time of the search itself is no part of its context.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onesearch.keywords.terms import terms
from onesearch.models.reward_items import ItemFacts
from onesearch.types import SearchContext

NUM_WORD_MATCHES = 4
NUM_SHOPPER = 9
_PAUSE = 30 * 60 * 1_000_000  # microseconds that end a session
_DAY = 86_400_000_000


def match_words(facts: ItemFacts, context: SearchContext, candidates: Sequence[int]) -> NDArray[np.float32]:
    """Shares of the query in title and facts, of the session's other words in facts, and whether it has any: [X, 4]."""
    asked = terms(context.query)
    other = {word for query in session_queries(context) for word in terms(query)} - set(asked)
    words, weights = _weighed(facts, asked)
    others, their_weights = _weighed(facts, sorted(other))
    rows = [
        (
            _share(words, weights, facts.title_terms[item]),
            _share(words, weights, facts.terms[item]),
            _share(others, their_weights, facts.terms[item]),
            float(bool(others)),
        )
        for item in candidates
    ]
    return np.array(rows, np.float32).reshape(len(rows), NUM_WORD_MATCHES)


def session_queries(context: SearchContext) -> list[str]:
    """The queries just before a search, oldest first."""
    times = context.recent_query_times
    if not times or times[-1] // _DAY != context.day:
        return []
    first = len(times) - 1
    while first and times[first] - times[first - 1] <= _PAUSE:
        first -= 1
    return list(context.recent_queries[first:])


def describe_shopper(context: SearchContext) -> list[float]:
    """How much the shopper has done, how readily, and what has happened today: NUM_SHOPPER figures."""
    asked, session = len(context.recent_queries), session_queries(context)
    since = context.recent_query_times[0] if context.recent_query_times else 0
    clicked = sum(time >= since for time in context.recent_click_times) if asked else 0
    began = context.recent_query_times[-len(session)] if session else None
    return [
        float(np.log1p(len(context.long_clicks))),
        float(np.log1p(asked)),
        (clicked + 1) / (asked + 2),
        float(np.log1p(len(context.long_orders))),
        (len(context.long_orders) + 1) / (len(context.long_clicks) + 10),
        float(len(session)),
        float(context.query in session),
        float(sum(time >= began for time in context.recent_click_times) if began is not None else 0),
        float(len(terms(context.query))),
    ]


def _weighed(facts: ItemFacts, words: Sequence[str]) -> tuple[Sequence[str], list[float]]:
    """Words with their rarities; those of no item, such as typing errors, say nothing about which item is meant."""
    known = [word for word in words if word in facts.rarity]
    return known, [facts.rarity[word] for word in known]


def _share(words: Sequence[str], weights: Sequence[float], found: frozenset[str]) -> float:
    total = sum(weights)
    if not total:
        return 0.0
    return sum(weight for word, weight in zip(words, weights, strict=True) if word in found) / total
