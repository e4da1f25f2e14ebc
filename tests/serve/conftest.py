"""A service over the tiny run, and clients of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def make_service(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., object]]:
    """`make_service(run=…, limits=…, …)`: a service with events in a file of its own; all are closed at the end."""
    from onesearch.serve.service import Service

    made: list[Service] = []

    def make(run: Path = tiny_run, **options: object) -> Service:
        options.setdefault("events", tmp_path_factory.mktemp("events") / "events.jsonl")
        made.append(Service(run, num_beams=10, **options))
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.fixture(scope="session")
def service(make_service):
    """The service that tests share: they tell apart their shoppers by name, so none disturbs another."""
    from onesearch.serve.settings import Limits

    return make_service(limits=Limits(rate=0))


@pytest.fixture(scope="session")
def client(service):
    """Talks to `service` inside this process."""
    from fastapi.testclient import TestClient

    from onesearch.serve.http.app import create_app

    return TestClient(create_app(service), raise_server_exceptions=False)
