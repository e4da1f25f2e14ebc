from collections.abc import Callable
from itertools import count

import pytest

from onesearch.types import SearchContext


@pytest.fixture
def make_search() -> Callable[..., SearchContext]:
    """A search with nothing known but its query and what a test names."""

    numbers = count()

    def make(query: str = "", clicked: tuple[int, ...] = (), **known: object) -> SearchContext:
        nothing = dict.fromkeys(SearchContext._fields, ())
        named = {"search_id": f"s{next(numbers)}", "user_id": "", "day": 0, "profile": "", "impressed": None}
        return SearchContext(**(nothing | named | {"query": query, "clicked": clicked} | known))

    return make
