"""Logs and metrics: enough to run it, nothing of anybody; and memory that stays as it is."""

import json

import inside
import pytest

from onesearch.serve.http.app import create_app
from onesearch.serve.service import Service


def test_an_unforeseen_failure_is_told_without_its_words(client, service, monkeypatch, caplog):
    """500 with a number under which the log has the place, but not the message, which may be personal."""

    def fails(*_: object) -> None:
        raise RuntimeError("of somebody secret")

    monkeypatch.setattr(Service, "ask", fails)
    with caplog.at_level("INFO", logger="onesearch.serve"):
        answer = client.post("/search", json={"query": "secret query", "user_id": "secret user"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    lines = [json.loads(_formatted(record)) for record in caplog.records]
    assert "RuntimeError" in [line.get("error") for line in lines]
    assert "secret" not in json.dumps(lines)


def _formatted(record) -> str:
    from onesearch.serve.telemetry import JsonLines

    return JsonLines().format(record)


@pytest.mark.parametrize("asked_for", [False, True])
def test_logs_name_nobody(service, caplog, asked_for):
    """A line a request: route, status and time; the query only where it was asked for, the shopper never."""
    http = inside.http(create_app(service, log_queries=asked_for))
    with caplog.at_level("INFO", logger="onesearch.serve"):
        assert http.post("/search", json={"query": "purple rain boots", "user_id": "u7"}).status_code == 200
        http.get("/users/u7")
    line, other = (json.loads(_formatted(record)) for record in caplog.records)
    assert (line["route"], line["method"], line["status"], other["route"]) == (
        "/search",
        "POST",
        200,
        "/users/{user_id:path}",
    )
    assert line.get("query") == ("purple rain boots" if asked_for else None)
    assert "u7" not in json.dumps([line, other]).replace(line["request_id"], "").replace(other["request_id"], "")


def test_metrics_count(client, service):
    """A search and a refusal more: the counters of both, the histogram and the queue are there."""
    value = service.metrics.registry.get_sample_value
    labels = {"route": "/search", "method": "POST"}
    before = [value("onesearch_requests_total", labels | {"status": status}) or 0 for status in ("200", "422")]
    inside.found(client, query="rug")
    client.post("/search", json={})
    after = [value("onesearch_requests_total", labels | {"status": status}) for status in ("200", "422")]
    assert after == [before[0] + 1, before[1] + 1]
    text = client.get("/metrics").text
    for name in ("request_seconds_bucket", "batch_size_sum", "queue_seconds_count", "queue_length 0.0", "known_texts"):
        assert f"onesearch_{name}" in text
    assert 'onesearch_served{run="tiny",stage="sft_personalize"' in text


def test_memory_holds_what_it_was_told_to(make_service):
    """30 queries that nobody asked before leave as many as may stay, and the search goes on as before."""
    from onesearch.serve.settings import Memory

    service = make_service(memory=Memory(texts=20, shoppers=3, prefixes=5))
    known = len(service.generation.khqe.texts)
    http = inside.http(create_app(service))
    want = http.post("/search", json={"query": "red boots", "user_id": "u1"}).json()["hits"]
    for number in range(30):
        http.post(
            "/search", json={"query": f"word{number} number{number}", "user_id": f"u{number % 20}", "explain": True}
        )
    assert len(service.generation.khqe.texts) <= known + 20
    assert service.generation.shoppers._history.cache_info().currsize <= 3
    assert service.generation.meanings.of.cache_info().currsize <= 5
    assert http.post("/search", json={"query": "red boots", "user_id": "u1"}).json()["hits"] == want
