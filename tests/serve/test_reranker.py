"""The reward model in serving: what it is asked, in which order lists come out, and that no answer leaks into them."""

import json
import shutil

import numpy as np
import pytest
import torch

from onesearch.artifacts import ArtifactError, writing
from onesearch.models.reward import RewardModel, ScoreWeights
from onesearch.models.reward_features import NUM_COUNTS
from onesearch.models.reward_towers import RewardSize
from onesearch.serve.engine import Ranked
from onesearch.serve.reranker import Reranker, doubt, has_learnt_validation
from onesearch.serve.reranking import Reranking
from onesearch.types import UserError


@pytest.fixture(scope="module")
def searches(tiny_log):
    """Ten searches of the test period: known and unknown users, seen and unseen queries."""
    return tiny_log.contexts("test")[:10]


@pytest.fixture
def reranker(judged_run, tiny_khqe, tiny_log):
    return Reranker.open(judged_run, tiny_khqe, tiny_log)


def test_parts_are_what_the_model_says(reranker, searches):
    """Score, probabilities and relevance of each item, whatever else the list and the batch hold."""
    items = [list(range(place, place + place % 4)) for place in range(10)]
    found = reranker.judge(searches, items)
    queries = torch.stack([reranker.khqe.embedding_of(context.query) for context in searches])
    for place, (context, judgement) in enumerate(zip(searches, found, strict=True)):
        assert len(judgement.score) == len(items[place])
        if not items[place]:
            continue
        with torch.no_grad():
            output = reranker.model(reranker.features([context], [items[place]], queries[[place]]))
        for part in ("ctr", "cvr", "ctcvr"):
            np.testing.assert_allclose(getattr(judgement, part), getattr(output, part)[0].sigmoid(), rtol=1e-4)
        np.testing.assert_allclose(judgement.relevance, output.relevance[0], rtol=1e-5)
        np.testing.assert_allclose(judgement.score, reranker.model.score(output)[0], rtol=1e-4)
        np.testing.assert_array_equal(reranker.scores([context], [items[place]])[0].shape, judgement.score.shape)
    assert [len(part.score) for part in reranker.judge(searches[:2], [[], []])] == [0, 0]


def test_lists_are_sorted_by_reward_and_log_probability(reranker, searches):
    """s = reward + w·log π, the best k of the list; at w = 0 by the reward alone, at a large w as they were."""
    rng = np.random.default_rng(0)
    lists = [Ranked(rng.permutation(36)[:12], -np.sort(rng.gamma(2, size=12))) for _ in searches]
    rewards = reranker.scores(searches, [ranked.items.tolist() for ranked in lists])
    for weight in (0.0, 0.1, 1e6):
        reranker.settings = Reranking(12, weight)
        for ranked, reward, got in zip(lists, rewards, reranker.rerank(searches, lists, 5), strict=True):
            score = reward + weight * ranked.scores
            want = np.argsort(-score, kind="stable")[:5]
            np.testing.assert_array_equal(got.items, ranked.items[want])
            np.testing.assert_array_equal(got.scores, ranked.scores[want])
            np.testing.assert_allclose(got.judgement.score, score[want])
            np.testing.assert_allclose(got.judgement.reward, reward[want])
            if weight == 1e6:
                np.testing.assert_array_equal(got.items, ranked.items[:5])


def test_the_answer_is_not_read(reranker, searches):
    """Clicks, orders and impressions of the search itself change nothing."""
    items = [list(range(8)) for _ in searches]
    bare = [context._replace(clicked=(), purchased=(), impressed=None, search_id="") for context in searches]
    for one, two in zip(reranker.scores(searches, items), reranker.scores(bare, items), strict=True):
        np.testing.assert_array_equal(one, two)


def test_counts_are_those_of_the_day_before(reranker, tiny_log):
    """Before the first day nothing is counted, so that only what the shopper did tells; later the counts do, too.

    A day of the test knows no more than the first one of it: what happens from the test boundary on is no one's input.
    """
    context, items = tiny_log.contexts("test")[3], [[0, 7, 14]]
    boundary = tiny_log.item_counts.end
    days = {
        name: context._replace(day=day) for name, day in (("first", 0), ("test", boundary), ("later", boundary + 5))
    }
    rows = {name: reranker.features.rows([one], items).statistics for name, one in days.items()}
    assert not rows["first"][..., :3].any()
    assert rows["test"][..., :3].any()
    assert torch.equal(rows["test"][..., :NUM_COUNTS], rows["later"][..., :NUM_COUNTS])
    assert reranker.scores([days["first"]], items)[0].tolist() != reranker.scores([days["test"]], items)[0].tolist()


def test_search_re_sorts_a_longer_list(tiny_engine, tiny_log, reranker):
    """Of 20 items those with the best scores come first; without a reward model a hit has no parts."""
    reranker.settings = Reranking(20, 0.05)
    hits = tiny_engine.search(tiny_log, "red boots", "u0", 4, reranker)
    plain = tiny_engine.search(tiny_log, "red boots", "u0", 20)
    rewards = reranker.scores([tiny_log.context("u0", "red boots")], [[tiny_log.row_of[hit.item_id] for hit in plain]])[
        0
    ]
    score = {hit.item_id: reward + 0.05 * hit.score for hit, reward in zip(plain, rewards, strict=True)}
    assert [hit.item_id for hit in hits] == sorted(score, key=lambda item: -score[item])[:4]
    assert [hit.judgement.score for hit in hits] == pytest.approx(sorted(score.values(), reverse=True)[:4], abs=1e-4)
    assert {hit.item_id: hit.score for hit in plain}[hits[0].item_id] == pytest.approx(hits[0].score, abs=1e-4)
    assert all(0 < hit.judgement.ctr < 1 and 0 <= hit.judgement.relevance <= 1 for hit in hits)
    assert [hit.judgement for hit in plain] == [None] * 20


def test_weights_of_the_score_can_be_given(judged_run, tiny_khqe, tiny_log, searches):
    """With relevance alone the score is ten times w4 of it, and says so."""
    weights = ScoreWeights(ctr=0, cvr=0, ctcvr=0, relevance=0.5)
    reranker = Reranker.open(judged_run, tiny_khqe, tiny_log, weights, Reranking(generator_weight=0))
    (found,) = reranker.judge(searches[:1], [[1, 2, 3]])
    np.testing.assert_allclose(found.score, 5 * np.asarray(found.relevance), rtol=1e-5)
    assert reranker.formula == "score = 5·relevance"
    reranker.model.orders_known.fill_(False)
    assert list(reranker.weights) == ["ctr", "relevance", "sid_log_probability"]


def test_a_model_of_another_version_is_said(judged_run, tiny_run_copy, tiny_khqe, tiny_log):
    """Intact, but with settings that there are no more, or without some that there are by now."""
    told = json.loads((judged_run / "reward" / "config.json").read_text())
    for config in (told | {"size": {"layers": 3}}, {name: part for name, part in told.items() if name != "history"}):
        with writing(tiny_run_copy / "reward", "reward", [tiny_run_copy / "quantizer"]) as folder:
            shutil.copy(judged_run / "reward" / "reward.safetensors", folder)
            (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ArtifactError, match="reward is of another version: run the 'reward' stage again"):
            Reranker.open(tiny_run_copy, tiny_khqe, tiny_log)


def test_popularity_re_sorts_too(reranker, searches):
    """It has no parameters, and says the same of an item whoever asks."""
    reranker.model = RewardModel(reranker.model.dim, reranker.model.code_sizes, RewardSize(architecture="popularity"))
    found = reranker.judge([context._replace(day=searches[0].day) for context in searches[:2]], [[1, 2, 3]] * 2)
    assert found[0].ctr.tolist() == found[1].ctr.tolist()


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"negatives": "shown"}, None),
        ({"negatives": "drawn"}, "what was shown in its searches"),
        (
            {"negatives": "drawn", "num_drawn_searches": 3, "num_searches": 2000},
            "what was shown in 0.1% of its searches",
        ),
    ],
)
def test_what_was_never_shown_puts_it_in_doubt(tiny_run_copy, facts, sentence):
    write_reward(tiny_run_copy, facts)
    found = doubt(tiny_run_copy)
    assert found is None if sentence is None else sentence in found


def test_what_it_has_learnt_from_is_known(tiny_run_copy):
    for validation, want in (("held out", False), ("learnt from: its figures are no test", True)):
        write_reward(tiny_run_copy, {"validation": validation})
        assert has_learnt_validation(tiny_run_copy) == want


def write_reward(run, facts):
    with writing(run / "reward", "reward", [run / "quantizer"], facts=facts) as folder:
        (folder / "config.json").write_text("{}")


def test_user_mistakes(tiny_run, tiny_khqe, tiny_log):
    with pytest.raises(ArtifactError, match="reward holds no finished artefact"):
        Reranker.open(tiny_run, tiny_khqe, tiny_log)
    for settings in ({"list_size": 0}, {"generator_weight": -0.1}):
        with pytest.raises(UserError, match=f"reranking.{next(iter(settings))} is"):
            Reranking(**settings)
