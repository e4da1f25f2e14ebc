"""Schemathesis against the service's own OpenAPI: what it promises is what it does, whatever it is sent."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from onesearch.serve.http.app import create_app

OPERATIONS = (
    "POST /search",
    "GET /search",
    "POST /events",
    "GET /users",
    "GET /users/{user_id}",
    "GET /items/{item_id}",
    "GET /sids",
    "GET /filters",
    "GET /health",
    "GET /health/live",
    "GET /metrics",
    "POST /admin/reload",
)

ANYTHING_GOES = ("GET /health", "GET /health/live", "GET /metrics", "GET /items/{item_id}")
"""They ask for nothing that could be wrong in form."""
NAMING = ("POST /search", "GET /search", "POST /events", "GET /sids")
"""They name stages, items or codes, which a schema does not know: what there is not is refused with 422."""


@pytest.fixture(scope="module")
def operations(service):
    """Operations by name."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(service))
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


def test_all_operations_are_tried(operations):
    assert set(operations) == set(OPERATIONS)


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, GenerationMode.POSITIVE) for name in OPERATIONS]
    + [(name, GenerationMode.NEGATIVE) for name in OPERATIONS if name not in ANYTHING_GOES],
)
def test_it_keeps_its_promises(operations, name, mode):
    """No failure of ours, nothing in the answer that is not promised; what is right is taken, what is wrong is not."""
    excluded = [positive_data_acceptance] if name in NAMING else []

    @settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operations[name].as_strategy(generation_mode=mode))
    def check(case):
        case.call_and_validate(excluded_checks=excluded)

    check()


def test_limits_are_told(client, service):
    """The schema has the limits that the service was started with."""
    found = client.get("/openapi.json").json()
    fields = found["components"]["schemas"]["SearchRequest"]["properties"]
    assert (fields["k"]["maximum"], fields["query"]["maxLength"]) == (service.limits.k, service.limits.query_length)
    of_url = {one["name"]: one["schema"] for one in found["paths"]["/search"]["get"]["parameters"]}
    assert of_url["k"]["maximum"] == service.limits.k
    beams = [one["maximum"] for one in of_url["num_beams"]["anyOf"] if one["type"] == "integer"]
    assert beams == [service.limits.num_beams]
    of_filter = found["components"]["schemas"]["SearchFilter"]["properties"]
    assert of_filter["brand"]["maxItems"] == of_url["brand"]["maxItems"] == service.limits.filter_names
    assert of_filter["block"]["maxItems"] == service.limits.filter_items
    for path, methods in found["paths"].items():
        for told in methods.values():
            assert told["description"], path
