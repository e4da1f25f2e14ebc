"""Searches, events, items, shoppers and SIDs over HTTP."""

import asyncio
import json

import httpx
import pytest

from onesearch.serve.http.app import create_app
from onesearch.serve.service import Service


def found(client, **body):
    answer = client.post("/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_it_answers_as_the_engine(client, service, tiny_log):
    """For a shopper, for nobody and for an earlier stage: items, SIDs and scores are those of `SearchEngine.search`."""
    for stage in ("sft_personalize", "sft_align"):
        for user in ("u3", None):
            want = service.generation.engines[stage].search(tiny_log, "Green BOOTS", user, 5)
            got = found(client, query="Green BOOTS", user_id=user, k=5, stage=stage)
            assert [(hit["item_id"], hit["title"], hit["sid"]) for hit in got["hits"]] == [hit[:3] for hit in want]
            assert [hit["score"] for hit in got["hits"]] == pytest.approx([hit.score for hit in want], abs=1e-4)
            assert [hit["position"] for hit in got["hits"]] == [1, 2, 3, 4, 5]
            assert (got["stage"], got["reads_users"], got["user_known"]) == (
                stage,
                stage != "sft_align",
                user is not None,
            )


def test_get_is_post_in_a_url(client):
    params = {"q": "blue kettle", "user_id": "u1", "k": 3, "num_beams": 4, "explain": "true"}
    got = client.get("/search", params=params).json()
    want = found(client, query="blue kettle", user_id="u1", k=3, num_beams=4, explain=True)
    assert got["hits"] == want["hits"]
    assert (got["num_beams"], len(got["hits"])) == (4, 3)


def test_many_at_once_are_batched_and_answered_as_if_alone(make_service):
    """24 searches of six shoppers at the same time: fewer batches than searches, and the answers of one at a time."""
    service = make_service()
    app = create_app(service)
    bodies = [{"query": query, "user_id": f"u{user}", "k": 4} for query in ("rug", "red lamp") for user in range(12)]

    async def ask(together: bool) -> list[list[str]]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            if together:
                answers = await asyncio.gather(*(http.post("/search", json=body) for body in bodies))
            else:
                answers = [await http.post("/search", json=body) for body in bodies]
        return [[hit["item_id"] for hit in answer.json()["hits"]] for answer in answers]

    alone = asyncio.run(ask(together=False))
    before = service.metrics.registry.get_sample_value("onesearch_batch_size_count")
    assert asyncio.run(ask(together=True)) == alone
    assert service.metrics.registry.get_sample_value("onesearch_batch_size_count") - before < len(bodies) / 2


def test_a_hit_says_why(client, service):
    """The levels' log-probabilities add up to the score, prefixes grow by a token, and what matches is in the title."""
    hits = found(client, query="red boots", k=5, explain=True)["hits"]
    for hit in hits:
        why = hit["explanation"]
        assert sum(level["log_probability"] for level in why["levels"]) == pytest.approx(hit["score"], abs=1e-3)
        assert why["score_parts"]["sid_log_probability"] == pytest.approx(hit["score"], abs=1e-3)
        assert why["levels"][-1]["prefix"] == hit["sid"] == "".join(level["token"] for level in why["levels"])
        assert why["levels"][-1]["num_items"] >= 1
        words = {hit["title"][start:end].lower() for start, end in why["highlights"]}
        assert words == {word for word in ("red", "boots") if word in hit["title"].lower()}
        assert {keyword["value"] for keyword in why["matched"]} == words
    assert any(hit["explanation"]["matched"] for hit in hits)
    assert found(client, query="red boots", k=1)["hits"][0]["explanation"] is None


def test_an_event_changes_the_next_search(client):
    """Somebody new clicks green things: their next answer differs from that of nobody, and is theirs alone."""
    nobody = found(client, query="lamp", k=10)
    before = found(client, query="lamp", user_id="newcomer", k=10)
    assert before["hits"] == nobody["hits"]
    assert not before["user_known"]
    assert client.get("/users/newcomer").status_code == 404
    clicks = [
        {"user_id": "newcomer", "kind": "click", "item_id": f"i{row:02d}", "query": "green"} for row in (2, 8, 14)
    ]
    orders = [{"user_id": "newcomer", "kind": "order", "item_id": "i20", "time": "2024-05-01T10:00:00Z"}]
    assert client.post("/events", json={"events": clicks + orders}).json() == {"accepted": 4}
    after = found(client, query="lamp", user_id="newcomer", k=10)
    assert after["user_known"]
    assert [hit["score"] for hit in after["hits"]] != [hit["score"] for hit in before["hits"]]
    assert found(client, query="lamp", k=10)["hits"] == nobody["hits"]
    known = client.get("/users/newcomer").json()
    assert known["recent_queries"] == ["green"]
    assert [item["item_id"] for item in known["recent_clicks"]] == ["i14", "i08", "i02"]
    assert [item["item_id"] for item in known["orders"]] == ["i20"]


def test_a_restart_has_the_events(make_service, tmp_path):
    """Another service over the same file gives the same scores."""
    first = make_service(events=tmp_path / "events.jsonl")
    http = httpx.Client(transport=_Inside(create_app(first)), base_url="http://test")
    event = {"user_id": "me", "kind": "click", "item_id": "i07", "query": "blue sandals"}
    assert http.post("/events", json={"events": [event]}).status_code == 200
    want = http.post("/search", json={"query": "rug", "user_id": "me"}).json()["hits"]
    again = httpx.Client(
        transport=_Inside(create_app(make_service(events=tmp_path / "events.jsonl"))), base_url="http://test"
    )
    got = again.post("/search", json={"query": "rug", "user_id": "me"}).json()
    assert got["user_known"]
    assert [hit["item_id"] for hit in got["hits"]] == [hit["item_id"] for hit in want]


class _Inside(httpx.BaseTransport):
    """A synchronous client of an application in this process."""

    def __init__(self, app) -> None:
        self.inner = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def answer() -> httpx.Response:
            content = request.read()
            asked = httpx.Request(request.method, request.url, headers=request.headers, content=content)
            response = await self.inner.handle_async_request(asked)
            return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

        return asyncio.run(answer())


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"kind": "click", "item_id": "i99"}, r"events[0]: there is no item 'i99'."),
        ({"kind": "click"}, "A click needs the item_id of what it was on."),
        ({"kind": "search"}, "A search has a query and no item_id."),
        ({"kind": "search", "query": "rug", "item_id": "i01"}, "A search has a query and no item_id."),
        ({"kind": "click", "item_id": "i01", "query": " "}, "The query holds no word"),
        ({"kind": "click", "item_id": "i01", "time": "2999-01-01T00:00:00Z"}, "its time lies ahead"),
        ({"kind": "look", "item_id": "i01"}, "kind"),
        ({"kind": "click", "item_id": "i01", "time": "yesterday"}, "time"),
    ],
)
def test_events_that_cannot_be_are_refused_together(client, event, message):
    """None of the request is taken, not even the good one beside."""
    good = {"user_id": "careless", "kind": "click", "item_id": "i01"}
    answer = client.post("/events", json={"events": [{"user_id": "careless", **event}, good]})
    assert answer.status_code == 422
    assert message in answer.json()["error"]["message"]
    assert client.get("/users/careless").status_code == 404


def test_events_that_cannot_be_written_are_not_taken(client, service, monkeypatch):
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service.events, "append", full)
    event = {"user_id": "unlucky", "kind": "click", "item_id": "i01"}
    answer = client.post("/events", json={"events": [event]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "not_kept")


def test_items_and_shoppers(client, tiny_log):
    item = client.get("/items/i08").json()
    assert (item["title"], item["category"], item["attributes"]["Color"]) == (
        "Green sandals by Kestrel",
        ["Shoes", "Sandals"],
        ["green"],
    )
    assert item["levels"][-1]["prefix"] == item["sid"]
    users = client.get("/users", params={"limit": 5}).json()["users"]
    assert len(users) == 5
    known = client.get(f"/users/{users[0]['user_id']}", params={"limit": 100}).json()
    context = tiny_log.context(users[0]["user_id"], "")
    assert known["recent_queries"] == list(context.recent_queries[::-1])
    assert [one["item_id"] for one in known["orders"]] == [tiny_log.item_ids[row] for row in context.long_orders[::-1]]
    assert known["profile"] == context.profile == users[0]["profile"]


def test_the_tree_can_be_walked_to_every_item(client, tiny_log):
    """From the root by its children, page by page, all 36 items are met, each once."""

    def walk(prefix: str) -> list[str]:
        params = {"prefix": prefix, "limit": 3}
        here = client.get("/sids", params=params).json()
        if not here["num_children"]:
            return [item["item_id"] for item in here["items"]]
        children = list(here["children"])
        while len(children) < here["num_children"]:
            children += client.get("/sids", params=params | {"offset": len(children)}).json()["children"]
        assert sum(child["num_items"] for child in children) == here["node"]["num_items"]
        return [item for child in children for item in walk(child["prefix"])]

    assert sorted(walk("")) == sorted(tiny_log.item_ids)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/items/none", 404),
        ("/items/../../etc/passwd", 404),
        ("/items/%2e%2e%2fx", 404),
        ("/users/nobody%20here", 404),
        ("/sids?prefix=<a_7><b_5><c_3>", 404),
        ("/sids?prefix=<b_1>", 422),
        ("/sids?prefix=<a_99>", 422),
        ("/sids?prefix=nonsense", 422),
        ("/sids?prefix=" + "<a_1>" * 9, 422),
        ("/users?limit=0", 422),
        ("/page/../service.py", 404),
        ("/page/%2e%2e/service.py", 404),
        ("/docs", 404),
        ("/search", 422),
        ("/search?q=boots&colour=red", 422),
    ],
)
def test_what_there_is_not_is_said(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["message"]
    assert error["code"] == {404: "not_found", 422: "invalid"}[status]


QUERIES = {
    "SQL": "'; DROP TABLE items; --",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "emoji": "👢❤️",
    "Chinese": "红色靴子",
    "right to left": "\u202eboots\u202c אדום",
    "controls": "red\x00\x07\nboots",
    "signs": "?!",
    "longest": "x" * 200,
    "path": "../../etc/passwd",
    "template": "{{7*7}} ${7*7} %s",
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_strange_query_is_a_query(client, name):
    """It is answered, and comes back as it was."""
    got = found(client, query=QUERIES[name], k=3, explain=True)
    assert got["query"] == QUERIES[name]
    assert len(got["hits"]) == 3


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"query": "rug", "k": 0}, "k", "greater than or equal to 1"),
        ({"query": "rug", "k": -5}, "k", "greater than or equal to 1"),
        ({"query": "rug", "k": "ten"}, "k", "integer"),
        ({"query": "rug", "k": 101}, None, "k is 101: ask for 1 to 100 items."),
        ({"query": "rug", "num_beams": 0}, "num_beams", "greater than or equal to 1"),
        ({"query": "rug", "num_beams": 10_000}, None, "num_beams is 10000: ask for 1 to 256 beams."),
        ({"query": "rug", "stage": "dpo_hybrid"}, None, "No stage 'dpo_hybrid' is served: use one of sft_personalize"),
        ({"query": "rug", "stage": "../log"}, None, "No stage '../log' is served"),
        ({"query": ""}, "query", "at least 1 character"),
        ({"query": " \n "}, None, "holds no word"),
        ({"query": "x" * 201}, None, "The query has 201 characters: 200 are allowed."),
        ({"query": None}, "query", "string"),
        ({"query": ["rug"]}, "query", "string"),
        ({"query": "rug", "user_id": ""}, "user_id", "at least 1 character"),
        ({"query": "rug", "colour": "red"}, "colour", "not permitted"),
        ({}, "query", "required"),
        ([], "body", "object"),
    ],
)
def test_a_wrong_field_is_named(client, body, field, message):
    answer = client.post("/search", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "invalid")
    assert message in error["message"]
    assert [one["field"] for one in error["fields"]] == ([] if field is None else [field])


@pytest.mark.parametrize("content", [b"{nope", b"", b"\xff\xfe", b'{"query": "rug"', b"NaN", b'"rug"', b"[" * 5000])
def test_malformed_json_is_refused_in_one_form(client, content):
    answer = client.post("/search", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["message"]


def test_half_a_surrogate_is_refused(client):
    """JSON can write what UTF-8 cannot, in values and in names: the refusal itself can be written."""
    for content in (b'{"query": "\\ud800"}', b'{"query": "rug", "\\ud800": 1}'):
        answer = client.post("/search", content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


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
    http = httpx.Client(transport=_Inside(create_app(service, log_queries=asked_for)), base_url="http://test")
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
    found(client, query="rug")
    client.post("/search", json={})
    after = [value("onesearch_requests_total", labels | {"status": status}) for status in ("200", "422")]
    assert after == [before[0] + 1, before[1] + 1]
    text = client.get("/metrics").text
    for name in ("request_seconds_bucket", "batch_size_sum", "queue_seconds_count", "queue_length 0.0", "known_texts"):
        assert f"onesearch_{name}" in text
    assert 'onesearch_served{run="tiny",stage="sft_personalize"' in text


def test_health_says_what_is_served(client):
    health = client.get("/health").json()
    assert (health["status"], health["ready"], health["run"], health["num_items"]) == ("ready", True, "tiny", 36)
    assert health["stages"] == ["sft_personalize", "sft_align"]
    assert client.get("/health/live").json() == {"live": True}


def test_memory_holds_what_it_was_told_to(make_service):
    """30 queries that nobody asked before leave as many as may stay, and the search goes on as before."""
    from onesearch.serve.settings import Memory

    service = make_service(memory=Memory(texts=20, shoppers=3, prefixes=5))
    known = len(service.generation.khqe.texts)
    http = httpx.Client(transport=_Inside(create_app(service)), base_url="http://test")
    want = http.post("/search", json={"query": "red boots", "user_id": "u1"}).json()["hits"]
    for number in range(30):
        http.post(
            "/search", json={"query": f"word{number} number{number}", "user_id": f"u{number % 20}", "explain": True}
        )
    assert len(service.generation.khqe.texts) <= known + 20
    assert service.generation.shoppers._history.cache_info().currsize <= 3
    assert service.generation.meanings.of.cache_info().currsize <= 5
    assert http.post("/search", json={"query": "red boots", "user_id": "u1"}).json()["hits"] == want
