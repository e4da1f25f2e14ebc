"""Searches, items, shoppers and SIDs over HTTP."""

import asyncio
import shutil
from itertools import product

import httpx
import inside
import pytest

from onesearch.artifacts import ArtifactError
from onesearch.serve.filtering import Filter
from onesearch.serve.http.app import create_app
from onesearch.serve.reranking import Reranking


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


@pytest.fixture(scope="module")
def reranking_service(make_service, judged_run):
    """Re-sorts the first six items, or as many as are asked for, where a search does not say."""
    return make_service(judged_run, rerank=True, reranking=Reranking(6, 0.05))


def test_it_re_sorts_as_the_engine(reranking_service, tiny_log):
    """By default as the service is set: the hits of `SearchEngine.search`, and scores that their parts add up to.

    What is re-sorted depends on who asks, whatever the stage; what is not is the generator's list.
    """
    http = inside.http(create_app(reranking_service))
    generation = reranking_service.generation
    for stage in ("sft_personalize", "sft_align"):
        engine = generation.engines[stage]
        want = engine.search(tiny_log, "red boots", "u3", 4, generation.reranker)
        asked = {"query": "red boots", "user_id": "u3", "k": 4, "stage": stage, "explain": True}
        got = inside.found(http, **asked)
        assert [hit["item_id"] for hit in got["hits"]] == [hit.item_id for hit in want]
        assert (got["reranked"], got["reads_users"], got["score_weights"]["sid_log_probability"]) == (True, True, 0.05)
        for hit, judged in zip(got["hits"], want, strict=True):
            parts = hit["explanation"]["score_parts"]
            assert hit["score"] == pytest.approx(judged.judgement.score, abs=1e-4)
            assert {name: parts[name] for name in ("reward", "ctr", "cvr", "ctcvr", "relevance")} == pytest.approx(
                {name: part for name, part in judged.judgement._asdict().items() if name != "score"}, abs=1e-4
            )
            weighted = {name: weight * parts[name] for name, weight in got["score_weights"].items()}
            assert hit["score"] == pytest.approx(sum(weighted.values()), abs=1e-4)
            assert parts["reward"] == pytest.approx(hit["score"] - weighted["sid_log_probability"], abs=1e-4)
            assert parts["sid_log_probability"] == pytest.approx(judged.score, abs=1e-3)
        plain = inside.found(http, **asked, rerank=False)
        assert [hit["item_id"] for hit in plain["hits"]] == [
            hit.item_id for hit in engine.search(tiny_log, "red boots", "u3", 4)
        ]
        assert (plain["reranked"], plain["reads_users"]) == (False, stage != "sft_align")
        assert plain["score_weights"] == {"sid_log_probability": 1}
        assert list(plain["hits"][0]["explanation"]["score_parts"]) == ["sid_log_probability"]


def test_what_was_just_clicked_counts_when_lists_are_re_sorted(reranking_service):
    """The stage itself reads no behaviour: what changes after an event is what the reward model says."""
    http = inside.http(create_app(reranking_service))
    asked = {"query": "lamp", "user_id": "new here", "stage": "sft_align", "explain": True}
    before = inside.found(http, **asked)
    event = {"user_id": "new here", "kind": "click", "item_id": "i08"}
    assert http.post("/events", json={"events": [event]}).status_code == 200
    after = inside.found(http, **asked)
    ctr = [{hit["item_id"]: hit["explanation"]["score_parts"]["ctr"] for hit in one["hits"]} for one in (before, after)]
    assert ctr[0].keys() == ctr[1].keys()
    assert ctr[0] != ctr[1]
    assert (
        inside.found(http, **asked, rerank=False)["hits"]
        == inside.found(http, **asked | {"user_id": None}, rerank=False)["hits"]
    )


def test_without_a_reward_model_nothing_is_re_sorted(make_service):
    """It is said before the search waits for anything."""
    http = inside.http(create_app(make_service()))
    answer = http.post("/search", json={"query": "rug", "rerank": True})
    assert answer.status_code == 422
    assert "has no reward model to re-sort by" in answer.json()["error"]["message"]
    assert not inside.found(http, query="rug")["reranked"]
    health = http.get("/health").json()
    assert (health["can_rerank"], health["rerank"]) == (False, False)


def test_a_reward_model_that_cannot_be_used_keeps_no_search_from_being_answered(make_service, tiny_run_copy):
    """It is needed only where lists are re-sorted by default."""
    (tiny_run_copy / "reward").mkdir()
    http = inside.http(create_app(make_service(tiny_run_copy)))
    assert http.get("/health").json()["can_rerank"] is False
    assert inside.found(http, query="rug")["hits"]
    with pytest.raises(ArtifactError, match="reward holds no finished artefact"):
        make_service(tiny_run_copy, rerank=True)


def test_further_rounds_are_served(make_service, tiny_run_copy):
    """The generator of a second round answers, before the stages of the first."""
    shutil.copytree(tiny_run_copy / "sft_personalize", tiny_run_copy / "dpo_hybrid_2")
    service = make_service(tiny_run_copy)
    assert list(service.generation.engines) == ["dpo_hybrid_2", "sft_personalize", "sft_align"]


def test_get_is_post_in_a_url(client):
    params = {"q": "blue kettle", "user_id": "u1", "k": 3, "num_beams": 4, "explain": "true", "rerank": "true"}
    got = client.get("/search", params=params).json()
    want = inside.found(client, query="blue kettle", user_id="u1", k=3, num_beams=4, explain=True, rerank=True)
    assert got["hits"] == want["hits"]
    assert (got["num_beams"], len(got["hits"]), got["reranked"]) == (4, 3, True)


FILTER = {"category": ["Shoes", "Kitchen > Kettle"], "brand": ["acme"], "price_max": 20, "in_stock": False}
EMPTY = {"price_min": 500}


def test_a_filter_is_the_engines(client, service, tiny_log):
    """Posted or in a URL: the hits of `SearchEngine.search`, what was asked, and how many items of the shop pass."""
    engine = service.generation.engines["sft_personalize"]
    want = engine.search(tiny_log, "red boots", None, 10, filter=Filter(**FILTER))
    got = inside.found(client, query="red boots", filter=FILTER)
    assert [hit["item_id"] for hit in got["hits"]] == [hit.item_id for hit in want]
    assert {hit["brand"] for hit in got["hits"]} == {"Acme"}
    assert got["num_passing"] == len(got["hits"]) == 4  # i00, i03, i06, i09
    assert got["filter"] == FILTER | {"seller": [], "price_min": None, "allow": None, "block": []}
    of_url = client.get("/search", params={"q": "red boots"} | FILTER).json()
    assert of_url["hits"] == got["hits"]
    assert inside.found(client, query="red boots")["num_passing"] == 35  # i05 is sold out


def test_an_id_that_is_unknown_is_passed_over(client):
    """Lists come from elsewhere; what they allow, or do not block, is shown."""
    some = {"allow": ["i01", "i02", "i03", "gone"], "block": ["i02", "never was"]}
    got = inside.found(client, query="boots", filter=some)
    assert sorted(hit["item_id"] for hit in got["hits"]) == ["i01", "i03"]
    assert inside.found(client, query="boots", filter={"allow": []})["hits"] == []


@pytest.mark.parametrize("rerank", [False, True])
def test_nothing_that_passes_is_an_empty_list(client, rerank):
    got = inside.found(client, query="boots", filter=EMPTY, explain=True, rerank=rerank)
    assert (got["hits"], got["num_passing"], got["reranked"]) == ([], 0, rerank)


def test_what_can_be_filtered_by(client):
    """Each category with what is below it, brands, prices from 10 to 45; with a limit those of the most items."""
    found = client.get("/filters").json()
    of_shop = {one["value"]: one["num_items"] for one in found["category"]}
    assert of_shop == {"Home": 12, "Kitchen": 12, "Shoes": 12} | dict.fromkeys(
        ("Home > Lamp", "Home > Rug", "Kitchen > Kettle", "Kitchen > Teapot", "Shoes > Boots", "Shoes > Sandals"), 6
    )
    assert list(of_shop) == sorted(of_shop)
    assert found["category"][1]["path"] == ["Home", "Lamp"]
    assert [one["value"] for one in found["brand"]] == ["Acme", "Kestrel", "Nordwind"]
    assert (found["seller"], found["price_min"], found["price_max"], found["num_sold_out"]) == ([], 10, 45, 1)
    few = client.get("/filters", params={"limit": 3}).json()["category"]
    assert [one["value"] for one in few] == ["Home", "Kitchen", "Shoes"]


def test_many_at_once_are_batched_and_answered_as_if_alone(reranking_service):
    """24 searches of 12 shoppers at the same time: fewer batches than searches, and the answers of one at a time.

    They ask for more or fewer items than are re-sorted, some for none to be, and some for another part of the shop:
    none may touch their neighbours.
    """
    service = reranking_service
    app = create_app(service)
    filters = [{}, {"category": ["Home"]}]
    bodies = [
        {
            "query": query,
            "user_id": f"u{user}",
            "k": 4 + 5 * (user % 2),
            "rerank": user % 3 != 0,
            "filter": filters[user // 6],
        }
        for query in ("rug", "red lamp")
        for user in range(12)
    ]

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


def test_a_prefix_that_no_item_has_is_not_found(client, tiny_khqe):
    """Of 192 prefixes the 36 items have 36 at most."""
    taken = {tuple(codes[:3]) for codes in tiny_khqe.item_codes.tolist()}
    a, b, c = next(prefix for prefix in product(range(8), range(6), range(4)) if prefix not in taken)
    assert client.get("/sids", params={"prefix": f"<a_{a}><b_{b}><c_{c}>"}).status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/items/none", 404),
        ("/items/../../etc/passwd", 404),
        ("/items/%2e%2e%2fx", 404),
        ("/users/nobody%20here", 404),
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
        ({"query": "rug", "rerank": "yes"}, "rerank", "boolean"),
        ({"query": "rug", "colour": "red"}, "colour", "not permitted"),
        ({"query": "rug", "filter": {"colour": "red"}}, "filter.colour", "not permitted"),
        ({"query": "rug", "filter": {"category": "Shoes"}}, "filter.category", "list"),
        ({"query": "rug", "filter": {"price_max": "20"}}, "filter.price_max", "number"),
        ({"query": "rug", "filter": {"price_min": -1}}, "filter.price_min", "greater than or equal to 0"),
        ({"query": "rug", "filter": {"price_min": 2, "price_max": 1}}, None, "no price lies between"),
        ({"query": "rug", "filter": {"category": ["Shoe"]}}, None, "no item has the category 'Shoe' (like it: 'Shoes'"),
        ({"query": "rug", "filter": {"brand": list("abcdefghijklmnopqrstu")}}, None, "21 values: 20 are allowed"),
        ({"query": "rug", "filter": {"block": [f"i{n}" for n in range(1001)]}}, None, "1001 values: 1000 are allowed"),
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
    assert (health["can_rerank"], health["rerank"]) == (True, False)
    assert client.get("/health/live").json() == {"live": True}
