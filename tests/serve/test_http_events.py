"""What shoppers do changes what they get, and is there after a restart."""

import asyncio
import os
import threading

import inside
import pytest

from onesearch.serve.http.app import create_app
from onesearch.serve.settings import Batching


def test_an_event_changes_the_next_search(client):
    """Somebody new clicks green things: their next answer differs from that of nobody, and is theirs alone."""
    nobody = inside.found(client, query="lamp", k=10)
    before = inside.found(client, query="lamp", user_id="newcomer", k=10)
    assert before["hits"] == nobody["hits"]
    assert not before["user_known"]
    assert client.get("/users/newcomer").status_code == 404
    clicks = [
        {"user_id": "newcomer", "kind": "click", "item_id": f"i{row:02d}", "query": "green"} for row in (2, 8, 14)
    ]
    orders = [{"user_id": "newcomer", "kind": "order", "item_id": "i20", "time": "2024-05-01T10:00:00Z"}]
    assert client.post("/events", json={"events": clicks + orders}).json() == {"accepted": 4}
    after = inside.found(client, query="lamp", user_id="newcomer", k=10)
    assert after["user_known"]
    assert [hit["score"] for hit in after["hits"]] != [hit["score"] for hit in before["hits"]]
    assert inside.found(client, query="lamp", k=10)["hits"] == nobody["hits"]
    known = client.get("/users/newcomer").json()
    assert known["recent_queries"] == ["green"]
    assert [item["item_id"] for item in known["recent_clicks"]] == ["i14", "i08", "i02"]
    assert [item["item_id"] for item in known["orders"]] == ["i20"]


def test_a_restart_has_the_events(make_service, tmp_path):
    """Another service over the same file gives the same scores."""
    first = make_service(events=tmp_path / "events.jsonl")
    http = inside.http(create_app(first))
    event = {"user_id": "me", "kind": "click", "item_id": "i07", "query": "blue sandals"}
    assert http.post("/events", json={"events": [event]}).status_code == 200
    want = http.post("/search", json={"query": "rug", "user_id": "me"}).json()["hits"]
    first.close()
    again = inside.http(create_app(make_service(events=tmp_path / "events.jsonl")))
    got = again.post("/search", json={"query": "rug", "user_id": "me"}).json()
    assert got["user_known"]
    assert [hit["item_id"] for hit in got["hits"]] == [hit["item_id"] for hit in want]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"kind": "click", "item_id": "i99"}, r"events[0]: there is no item 'i99'."),
        ({"kind": "click"}, "A click needs the item_id of what it was on."),
        ({"kind": "search"}, "A search has a query and no item_id."),
        ({"kind": "search", "query": "rug", "item_id": "i01"}, "A search has a query and no item_id."),
        ({"kind": "click", "item_id": "i01", "query": " "}, "The query holds no word"),
        ({"kind": "click", "item_id": "i01", "time": "2999-01-01T00:00:00Z"}, "its time lies ahead"),
        ({"kind": "click", "item_id": "i01", "time": "0001-01-01T00:00:00+14:00"}, "its time lies before 1970"),
        ({"kind": "click", "item_id": "i01", "time": "9999-12-31T23:59:59-14:00"}, "its time lies ahead"),
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


def test_nobody_else_waits_for_the_disk(make_service, monkeypatch):
    """With a disk that hangs, 50 requests wait, the one after is refused, and a search is answered meanwhile."""
    service, go = make_service(batching=Batching(max_queue=50)), threading.Event()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (go.wait(20), fsync(file)))
    events = {"events": [{"user_id": "patient", "kind": "click", "item_id": "i01"}]}

    async def ask():
        async with inside.asynchronous(create_app(service)) as http:
            writing = [asyncio.create_task(http.post("/events", json=events)) for _ in range(50)]
            await inside.until(lambda: service._num_writing == 50)
            refused = await http.post("/events", json=events)
            answered = await asyncio.wait_for(http.post("/search", json={"query": "rug"}), 10)
            waits = not any(task.done() for task in writing)
            go.set()
            taken = {answer.status_code for answer in await asyncio.gather(*writing)}
            return refused.status_code, answered.status_code, waits, taken

    try:
        assert asyncio.run(ask()) == (503, 200, True, {200})
    finally:
        go.set()
    assert len(service.events.of("patient")) == 50
