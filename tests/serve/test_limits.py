"""Who is let in: keys, rates, sizes, and what happens when too many wait."""

import asyncio
import json
import threading
import weakref
from contextlib import contextmanager

import httpx
import pytest
from fastapi.testclient import TestClient
from inside import asynchronous, http, until

from onesearch.serve.generation import Generation
from onesearch.serve.http.app import create_app
from onesearch.serve.http.guards import TokenBuckets
from onesearch.serve.http.server import read_key
from onesearch.serve.settings import Batching, Limits
from onesearch.serve.telemetry import JsonLines
from onesearch.types import UserError

SCHEMES = ("Bearer", "bearer")
KEY = "a-key-of-24-characters.."
SEARCH = {"query": "red boots", "k": 2}


@pytest.fixture(scope="module")
def locked(service):
    """A client of a service that asks for a key."""
    return TestClient(create_app(service, KEY))


@pytest.mark.parametrize("headers", [{"x-api-key": KEY}, *({"authorization": f"{n} {KEY}"} for n in SCHEMES)])
def test_a_key_opens(locked, headers):
    assert locked.post("/search", json=SEARCH, headers=headers).status_code == 200
    assert locked.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize("key", [None, "", "wrong", KEY[:-1], KEY + "x", KEY.upper(), "ключ".encode()])
def test_without_its_key_it_stays_shut(locked, key):
    """All but the page and the health; a wrong key tells nothing of the right one."""
    headers = {} if key is None else {"x-api-key": key}
    for method, path in (("POST", "/search"), ("GET", "/items/i01"), ("GET", "/metrics"), ("POST", "/admin/reload")):
        answer = locked.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text
    for path in ("/", "/page/page.js", "/health", "/health/live"):
        assert locked.get(path).status_code == 200


def test_nobody_reloads_a_service_without_a_key(client):
    assert client.post("/admin/reload", json={}).json()["error"]["code"] == "forbidden"


def test_a_key_is_read_from_a_file_or_the_environment(tmp_path, monkeypatch):
    (tmp_path / "key").write_text(KEY + "\n")
    monkeypatch.delenv("ONESEARCH_API_KEY", raising=False)
    assert read_key(None) is None
    assert read_key(tmp_path / "key") == KEY
    monkeypatch.setenv("ONESEARCH_API_KEY", KEY[::-1])
    assert read_key(None) == KEY[::-1]
    assert read_key(tmp_path / "key") == KEY


@pytest.mark.parametrize("text", ["", "short", "ключ из многих букв"])
def test_a_key_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "key").write_text(text)
    with pytest.raises(UserError, match="key: an API key needs 16 or more"):
        read_key(tmp_path / "key")
    with pytest.raises(UserError, match="missing cannot be read"):
        read_key(tmp_path / "missing")


def test_buckets_by_hand():
    """Two a second, three at once: after the burst a half second is to be waited, then there is one token again."""
    now = [100.0]
    buckets = TokenBuckets(rate=2, burst=3, most=10, clock=lambda: now[0])
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.wait("b") == 0
    now[0] += 0.25
    assert buckets.wait("a") == pytest.approx(0.25)  # to be refused costs nothing
    now[0] += 0.25
    assert [buckets.wait("a") for _ in range(2)] == [0, 0.5]
    now[0] += 100
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_buckets_are_few_and_may_be_off():
    buckets = TokenBuckets(rate=1, burst=1, most=2, clock=lambda: 0.0)
    assert [buckets.wait(client) for client in "abca"] == [0, 0, 0, 0]  # `a` was forgotten
    assert buckets.wait("a") == 1
    assert [TokenBuckets(0, 1, 1).wait("a") for _ in range(9)] == [0] * 9


def test_a_client_that_asks_too_often_is_told_when_to_come_back(make_service):
    """Three at once, then 429 with Retry-After; the health does not count, and another client is not disturbed."""
    app = create_app(make_service(limits=Limits(rate=0.01, burst=3)))
    here, there = TestClient(app), TestClient(app, client=("10.0.0.7", 1))
    assert [here.get("/items/i01").status_code for _ in range(3)] == [200, 200, 200]
    refused = here.get("/items/i01")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
    assert 90 <= int(refused.headers["retry-after"]) <= 101
    assert here.get("/health").status_code == 200
    assert there.get("/items/i01").status_code == 200


def test_those_without_a_key_take_nothing_from_those_with_it(make_service):
    """After three guesses a fourth is told to wait, and whoever has the key at that address still has all of theirs."""
    http = TestClient(create_app(make_service(limits=Limits(rate=0.01, burst=3)), KEY))
    asked = [http.get("/items/i01", headers={"x-api-key": key}).status_code for key in ("a", "b", "c", "d", *[KEY] * 4)]
    assert asked == [401, 401, 401, 429, 200, 200, 200, 429]


def test_an_owner_of_many_addresses_is_one_client(make_service):
    """A /64 of IPv6 is one, the next one another; an IPv4 address written as IPv6 is itself."""
    app = create_app(make_service(limits=Limits(rate=0.01, burst=1)))
    addresses = ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1", "::ffff:10.0.0.1", "::ffff:10.0.0.2", "10.0.0.2")
    asked = [TestClient(app, client=(address, 1)).get("/items/i01").status_code for address in addresses]
    assert asked == [200, 429, 200, 200, 200, 429]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_megabyte_is_not_read(client, chunked):
    """Whether its length is told beforehand or not."""
    body = b'{"query": "' + b"x" * 1_000_000 + b'"}'
    content = iter([body[:50_000], body[50_000:]]) if chunked else body
    answer = client.post("/search", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert "131072 bytes" in answer.json()["error"]["message"]


def test_a_body_that_comes_after_the_question_is_bounded_too(client):
    """The query stands in the address, so the body is read while the search waits."""
    answer = client.request("GET", "/search?q=rug", content=iter([b"x" * 100_000, b"x" * 100_000]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("length", ["-1", "many"])
def test_a_length_that_is_none_is_refused(client, length):
    assert client.post("/search", content=b"{}", headers={"content-length": length}).status_code == 413


def test_many_events_at_once_are_refused(client):
    events = [{"user_id": "many", "kind": "click", "item_id": "i01"}] * 101
    assert "101 events: 100 are allowed" in client.post("/events", json={"events": events}).json()["error"]["message"]
    assert client.post("/events", json={"events": []}).status_code == 422


@contextmanager
def held(monkeypatch):
    """Searches are computed only when the event that this yields is set."""
    go, begun, answer = threading.Event(), threading.Event(), Generation.answer

    def wait(self, asks):
        begun.set()
        assert go.wait(20)
        return answer(self, asks)

    monkeypatch.setattr(Generation, "answer", wait)
    try:
        yield go, begun
    finally:
        go.set()


def test_when_too_many_wait_the_next_is_told_so(make_service, monkeypatch):
    """One is computed, two wait, the fourth is refused with Retry-After; the three are answered."""
    service = make_service(batching=Batching(max_batch=1, max_queue=2))

    async def ask():
        with held(monkeypatch) as (go, begun):
            async with asynchronous(create_app(service)) as http:
                first = asyncio.create_task(http.post("/search", json=SEARCH))
                await until(begun.is_set)
                others = [asyncio.create_task(http.post("/search", json=SEARCH)) for _ in range(2)]
                await until(lambda: len(service.batcher) == 2)
                refused = await http.post("/search", json=SEARCH)
                go.set()
                return refused, [(await task).status_code for task in (first, *others)]

    refused, answered = asyncio.run(ask())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]["code"] == "unavailable"
    assert answered == [200, 200, 200]


def test_a_search_that_takes_too_long_is_given_up(make_service, monkeypatch):
    """504 for both; the one that had not begun is never computed, and the next search, which has time, is answered."""
    service = make_service(batching=Batching(max_batch=1, timeout=0.2))

    async def ask():
        with held(monkeypatch) as (go, begun):
            async with asynchronous(create_app(service)) as http:
                first = asyncio.create_task(http.post("/search", json=SEARCH))
                await until(begun.is_set)
                late = [await http.post("/search", json=SEARCH), await first]
                assert len(service.batcher) == 0
                go.set()
                service.batching = Batching(max_batch=1)
                return late, await http.post("/search", json=SEARCH)

    late, after = asyncio.run(ask())
    assert [answer.status_code for answer in late] == [504, 504]
    assert late[0].json()["error"]["code"] == "timeout"
    assert after.status_code == 200
    assert service.metrics.registry.get_sample_value("onesearch_batch_size_sum") == 2


def test_who_goes_away_is_not_computed(make_service, monkeypatch):
    """While one is computed another client leaves: its search is taken out of the queue, and logged as 499."""
    service = make_service(batching=Batching(max_batch=1))
    app = create_app(service)
    scope = {"type": "http", "method": "GET", "path": "/search", "headers": [], "query_string": b"q=rug"}

    async def ask():
        leaves, sent = asyncio.Event(), []

        async def receive():
            if not sent:
                sent.append("asked")
                return {"type": "http.request", "body": b"", "more_body": False}
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message.get("status"))

        with held(monkeypatch) as (go, begun):
            async with asynchronous(app) as http:
                first = asyncio.create_task(http.post("/search", json=SEARCH))
                await until(begun.is_set)
                leaving = asyncio.create_task(app(dict(scope), receive, send))
                await until(lambda: len(service.batcher) == 1)
                leaves.set()
                await leaving
                go.set()
                return sent, (await first).status_code, (await http.post("/search", json=SEARCH)).status_code

    sent, *others = asyncio.run(ask())
    assert sent[1] == 499
    assert others == [200, 200]
    assert service.metrics.registry.get_sample_value("onesearch_batch_size_sum") == 2


def test_who_is_cut_off_is_not_computed(make_service, monkeypatch):
    """A request that is cancelled, as uvicorn does at the end, leaves the queue; after a drain the rest is refused.

    So the end of the process waits for no search that nobody waits for.
    """
    service = make_service(batching=Batching(max_batch=1))

    async def ask():
        with held(monkeypatch) as (go, begun):
            async with asynchronous(create_app(service)) as http:
                first, cut, last = [asyncio.create_task(http.post("/search", json=SEARCH)) for _ in range(3)]
                await until(lambda: begun.is_set() and len(service.batcher) == 2)
                cut.cancel()
                await until(lambda: len(service.batcher) == 1)
                await service.drain(0.01)
                refused = await last
                go.set()
                return refused.status_code, (await first).status_code

    assert asyncio.run(ask()) == (503, 200)
    service.close()
    assert service.metrics.registry.get_sample_value("onesearch_batch_size_sum") == 1


def test_draining_finishes_what_has_begun(make_service, monkeypatch):
    """The search that has begun is answered; further ones and the health say 503; then the drain is over."""
    service = make_service()

    async def ask():
        with held(monkeypatch) as (go, begun):
            async with asynchronous(create_app(service)) as http:
                first = asyncio.create_task(http.post("/search", json=SEARCH))
                await until(begun.is_set)
                draining = asyncio.create_task(service.drain(20))
                await until(lambda: service.is_draining)
                refused, health = await http.post("/search", json=SEARCH), await http.get("/health")
                alive = await http.get("/health/live")
                assert not draining.done()
                go.set()
                answered = await first
                await asyncio.wait_for(draining, 5)
                return refused, health, alive, answered

    refused, health, alive, answered = asyncio.run(ask())
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert refused.headers["retry-after"]
    assert refused.headers["connection"] == "close"
    assert (health.status_code, health.json()["status"], alive.status_code) == (503, "draining", 200)
    assert answered.status_code == 200
    assert len(answered.json()["hits"]) == 2


def test_a_reload_drops_no_request(make_service, tiny_run):
    """Searches go on while another stage is loaded: all are answered, first by the old one, in the end by the new."""
    service = make_service(stages=["sft_personalize"], limits=Limits(rate=0))
    headers = {"x-api-key": KEY}

    async def ask():
        async with asynchronous(create_app(service, KEY)) as http:

            async def keep_asking(answers: list[httpx.Response]):
                while not done.is_set():
                    answers.append(await http.post("/search", json=SEARCH, headers=headers))

            done = asyncio.Event()
            answers: list[list[httpx.Response]] = [[], [], []]
            shoppers = [asyncio.create_task(keep_asking(own)) for own in answers]
            await until(lambda: all(answers))
            reload = {"run": tiny_run.name, "stages": ["sft_align"]}
            reloading = asyncio.create_task(http.post("/admin/reload", json=reload, headers=headers))
            await until(lambda: service.is_reloading)
            assert (await http.get("/health")).json()["status"] == "reloading"
            second = await http.post("/admin/reload", json={}, headers=headers)
            reloaded = await reloading
            await until(lambda: all(own[-1].json().get("stage") == "sft_align" for own in answers))
            done.set()
            await asyncio.gather(*shoppers)
            return answers, reloaded, second

    answers, reloaded, second = asyncio.run(ask())
    assert (second.status_code, second.json()["error"]["code"]) == (409, "conflict")
    assert (reloaded.status_code, reloaded.json()["stages"]) == (200, ["sft_align"])
    for own in answers:
        assert {answer.status_code for answer in own} == {200}
        stages = [answer.json()["stage"] for answer in own]
        assert stages == sorted(stages, reverse=True)  # sft_personalize, then sft_align
        assert set(stages) == {"sft_personalize", "sft_align"}


def test_a_reload_lets_go_of_what_was_served(make_service, judged_run):
    """Of the run before nothing stays in memory, though its parts know one another, and the worker knew it last."""
    service = make_service(judged_run)
    assert http(create_app(service)).post("/search", json=SEARCH).status_code == 200
    served = service.generation
    before = [weakref.ref(part) for part in (served, served.khqe, served.log, served.reranker)]
    del served
    asyncio.run(service.reload())
    assert [part() for part in before] == [None] * 4


def test_a_reload_that_fails_says_why(service, caplog):
    """What the user can mend, in its own words."""
    with pytest.raises(UserError), caplog.at_level("INFO", logger="onesearch.serve"):
        asyncio.run(service.reload(stages=["dpo_hybrid"]))
    line = json.loads(JsonLines().format(caplog.records[-1]))
    assert (line["event"], line["error"]) == ("reload failed", "ArtifactError")
    assert "dpo_hybrid holds no finished artefact" in line["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"run": "nowhere"}, "There is no run folder"),
        ({"stages": ["dpo_hybrid"]}, "dpo_hybrid holds no finished artefact"),
        ({"stages": ["log"]}, "No stage 'log' answers searches"),
        ({"run": "../secret"}, "run"),
        ({"run": ".."}, "run"),
    ],
)
def test_a_reload_that_fails_leaves_what_is_served(service, locked, body, message):
    before = service.generation
    answer = locked.post("/admin/reload", json=body, headers={"x-api-key": KEY})
    assert answer.status_code == 422
    assert message in answer.json()["error"]["message"]
    assert service.generation is before
    assert not service.is_reloading
    assert locked.post("/search", json=SEARCH, headers={"x-api-key": KEY}).status_code == 200


def test_pages_come_with_headers_that_bind_them(client):
    """Nothing from elsewhere, no frame around it; answers are not guessed at."""
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert client.get("/items/i01").headers["x-content-type-options"] == "nosniff"
    for path in ("/", "/page/page.js", "/page/page.css", "/page/strings.js", "/page/icon.svg"):
        assert "http://" not in client.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in client.get(path).text
