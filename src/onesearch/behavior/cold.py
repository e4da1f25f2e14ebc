"""Default sequences for shoppers without history: the items most clicked for their query (arXiv 2509.03236)."""

from collections.abc import Sequence


def with_default(history: Sequence[int], cold_start: Sequence[int], size: int) -> Sequence[int]:
    """The latest `size` behaviours, or where there is none the `size` most clicked items of the query.

    The default stands in reverse, weakest first: sequences run from oldest to newest and every reader of them weighs
    the newest most, so the most clicked item takes that place.

    Args:
        history: item rows from oldest to newest, maybe empty.
        cold_start: item rows most clicked for the query, best first.
        size: the most that is returned.
    """
    return history[-size:] if len(history) else tuple(cold_start[:size])[::-1]
