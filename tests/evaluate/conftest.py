from collections.abc import Callable

import pytest

from onesearch.types import SearchContext


@pytest.fixture
def make_search() -> Callable[..., SearchContext]:
    """A search with nothing known but its query and what a test names."""

    def make(query: str = "", clicked: tuple[int, ...] = (), **known: object) -> SearchContext:
        nothing = dict.fromkeys(SearchContext._fields, ())
        named = {"search_id": "", "user_id": "", "day": 0, "profile": "", "impressed": None}
        return SearchContext(**(nothing | named | {"query": query, "clicked": clicked} | known))

    return make
