"""Searches, items, shoppers and SIDs over HTTP."""

import asyncio

import httpx
import inside
import pytest

from onesearch.serve.http.app import create_app


def test_it_answers_as_the_engine(client, service, tiny_log):
    """For a shopper, for nobody and for an earlier stage: items, SIDs and scores are those of `SearchEngine.search`."""
    for stage in ("sft_personalize", "sft_align"):
        for user in ("u3", None):
            want = service.generation.engines[stage].search(tiny_log, "Green BOOTS", user, 5)
            got = inside.found(client, query="Green BOOTS", user_id=user, k=5, stage=stage)
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
    want = inside.found(client, query="blue kettle", user_id="u1", k=3, num_beams=4, explain=True)
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
    hits = inside.found(client, query="red boots", k=5, explain=True)["hits"]
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
    assert inside.found(client, query="red boots", k=1)["hits"][0]["explanation"] is None


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


MANY_DIGITS = b'{"query": "rug", "k": ' + b"9" * 5000 + b"}"
"""Python reads no number of so many digits."""

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
    got = inside.found(client, query=QUERIES[name], k=3, explain=True)
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


@pytest.mark.parametrize(
    "content", [b"{nope", b"", b"\xff\xfe", b'{"query": "rug"', b"NaN", b'"rug"', b"[" * 5000, MANY_DIGITS]
)
def test_malformed_json_is_refused_in_one_form(client, content):
    answer = client.post("/search", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["message"]


def test_half_a_surrogate_is_refused(client):
    """JSON can write what UTF-8 cannot, in values and in names: the refusal itself can be written."""
    for content in (b'{"query": "\\ud800"}', b'{"query": "rug", "\\ud800": 1}'):
        answer = client.post("/search", content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


def test_health_says_what_is_served(client):
    health = client.get("/health").json()
    assert (health["status"], health["ready"], health["run"], health["num_items"]) == ("ready", True, "tiny", 36)
    assert health["stages"] == ["sft_personalize", "sft_align"]
    assert client.get("/health/live").json() == {"live": True}
