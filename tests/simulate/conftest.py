"""A small marketplace, played once for all tests."""

import pytest

from onesearch.log.schema import Tables
from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.simulator import simulate
from onesearch.simulate.truth import Truth

SMALL = Marketplace(num_items=600, num_users=350, num_searches=4_000, num_recommendations=2_000, num_judgments=400)


@pytest.fixture(scope="session")
def config() -> Marketplace:
    return SMALL


@pytest.fixture(scope="session")
def tables(config: Marketplace) -> Tables:
    return simulate(config)


@pytest.fixture(scope="session")
def searches(tables: Tables) -> list[dict]:
    return tables["searches"].to_pylist()


@pytest.fixture(scope="session")
def truth(config: Marketplace) -> Truth:
    return Truth(config)
