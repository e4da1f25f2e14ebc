"""Schemathesis against the service's own OpenAPI: what it promises is what it does, whatever it is sent."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from onesearch.serve.http.app import create_app

CALM = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def described(service):
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(service))


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@CALM
def test_it_keeps_its_promises(case):
    """No failure of ours, no status, type or body that is not promised, and no nonsense that is taken."""
    case.call_and_validate()


def test_limits_are_told(client, service):
    """The schema has the limits that the service was started with."""
    found = client.get("/openapi.json").json()
    fields = found["components"]["schemas"]["SearchRequest"]["properties"]
    assert (fields["k"]["maximum"], fields["query"]["maxLength"]) == (service.limits.k, service.limits.query_length)
    of_url = {one["name"]: one["schema"] for one in found["paths"]["/search"]["get"]["parameters"]}
    assert of_url["k"]["maximum"] == service.limits.k
    beams = [one["maximum"] for one in of_url["num_beams"]["anyOf"] if one["type"] == "integer"]
    assert beams == [service.limits.num_beams]
    for path, methods in found["paths"].items():
        for told in methods.values():
            assert told["description"], path
