"""A service over the tiny run, and clients of it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def judged_run(tiny_run: Path, tiny_khqe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_run` with a reward model that was not trained, but told that orders are known; read only."""
    import torch

    from onesearch.artifacts import writing
    from onesearch.models.reward import RewardModel

    run = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("judged") / tiny_run.name))
    torch.manual_seed(0)
    model = RewardModel(tiny_khqe.item_embeddings.shape[1], tiny_khqe.spec.sizes)
    model.orders_known.fill_(True)
    with writing(run / "reward", "reward", [run / "log", run / "quantizer"]) as folder:
        model.save(folder)
    return run


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
def service(make_service, judged_run):
    """The service that tests share: they tell apart their shoppers by name, so none disturbs another."""
    from onesearch.serve.settings import Limits

    return make_service(judged_run, limits=Limits(rate=0))


@pytest.fixture(scope="session")
def client(service):
    """Talks to `service` inside this process."""
    from fastapi.testclient import TestClient

    from onesearch.serve.http.app import create_app

    return TestClient(create_app(service), raise_server_exceptions=False)
