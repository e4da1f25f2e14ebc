import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_normalized_dcg, retrieval_reciprocal_rank

from onesearch.metrics.ranking import PADDING, gain_ndcg, hit_rate, hits, ndcg, pad, recall, reciprocal_rank


def test_figures_by_hand():
    """Hits at places 2 and 3 of 4, three relevant items; then a ranking of one item, and one without any hit.

    HR@1 = 0, HR@2 = 1; MRR = 1/2; NDCG@4 = (1/log2 3 + 1/log2 4) / (1 + 1/log2 3 + 1/log2 4)
    = 1.13093 / 2.13093 = 0.53072.
    A single hit at place 1 of one relevant item is perfect everywhere, however short the list.
    """
    ranked = pad([[7, 1, 2, 9], [5], []], 4)
    relevant = [{1, 2, 3}, {5}, {0}]
    found = hits(ranked, relevant)
    np.testing.assert_array_equal(found, [[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(hit_rate(found, 1), [0, 1, 0])
    np.testing.assert_array_equal(hit_rate(found, 2), [1, 1, 0])
    np.testing.assert_array_equal(reciprocal_rank(found, 1), [0, 1, 0])
    np.testing.assert_array_equal(reciprocal_rank(found, 4), [0.5, 1, 0])
    np.testing.assert_allclose(ndcg(found, np.array([3, 1, 1]), 4), [0.530721, 1, 0], atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_agrees_with_torchmetrics_and_sklearn(k: int):
    """Random rankings of 30 items with 1 to 15 relevant ones: more than k, so that the ideal list is cut off, too."""
    rng = np.random.default_rng(k)
    rankings = [rng.permutation(30).tolist() for _ in range(40)]
    relevant = [set(rng.choice(30, rng.integers(1, 16), replace=False).tolist()) for _ in rankings]
    found = hits(pad(rankings, 10), relevant)
    ours = np.stack(
        [hit_rate(found, k), reciprocal_rank(found, k), ndcg(found, np.array([len(items) for items in relevant]), k)],
        axis=1,
    )
    scores = torch.arange(30, 0, -1).float()
    for figures, ranking, items in zip(ours, rankings, relevant, strict=True):
        target = torch.tensor([item in items for item in ranking])
        expected = [
            metric(scores, target, top_k=k).item()
            for metric in (retrieval_hit_rate, retrieval_reciprocal_rank, retrieval_normalized_dcg)
        ]
        np.testing.assert_allclose(figures, expected, atol=1e-6)
        np.testing.assert_allclose(figures[2], ndcg_score(target[None].int(), scores[None], k=k), atol=1e-6)


def test_short_lists_are_judged_against_the_full_ideal():
    """One item returned, a hit, of two relevant: NDCG@10 = 1 / (1 + 1/log2 3) = 0.61315, not 1."""
    found = hits(pad([[4]], 10), [{4, 8}])
    np.testing.assert_allclose(ndcg(found, np.array([2]), 10), [0.613147], atol=1e-5)
    np.testing.assert_allclose(ndcg(found[:, :1], np.array([2]), 10), [0.613147], atol=1e-5)


def test_padding_never_hits_and_searches_do_not_mix():
    """The key (search 1, padding) = 1 · 10 − 1 equals (search 0, item 9), which is relevant: it must not leak over."""
    ranked = pad([[9], [], [9]], 2)
    assert ranked.tolist() == [[9, PADDING], [PADDING, PADDING], [9, PADDING]]
    assert hits(ranked, [{9}, {9}, {0}]).tolist() == [[True, False], [False, False], [False, False]]


def test_nothing_to_judge():
    assert hits(pad([], 3), []).shape == (0, 3)
    assert hits(pad([[]], 3), [set()]).tolist() == [[False] * 3]


@pytest.mark.parametrize("ranking", [[3, 1, 3], [2, -1]])
def test_repeated_and_negative_items_are_refused(ranking: list[int]):
    with pytest.raises(ValueError, match="Ranking 1 repeats an item or names a negative row"):
        pad([[0, 1], ranking], 3)


def test_a_repetition_below_the_cut_is_no_fault():
    assert pad([[3, 1, 3]], 2).tolist() == [[3, 1]]


def test_lengths_must_match():
    with pytest.raises(ValueError, match="2 rankings were given for 1 searches"):
        hits(pad([[1], [2]], 1), [{1}])


def test_recall_counts_what_was_not_found_too():
    """Relevant 7, 8, 9 of which 8 and 9 stand at places 1 and 4: 1/3 of them at 3, 2/3 at 4 and beyond."""
    found = hits(np.array([[8, 1, 2, 9, 3]]), [[7, 8, 9]])
    assert [recall(found, np.array([3]), k).tolist() for k in (3, 4, 50)] == [[1 / 3], [2 / 3], [2 / 3]]


def test_any_gain_agrees_with_sklearn():
    """30 items with gains of any size, ranked at random; the ideal sorts them all. Binary gains are the binary NDCG."""
    rng = np.random.default_rng(0)
    gains = rng.gamma(0.3, size=(40, 30))
    order = np.stack([rng.permutation(30) for _ in gains])
    ranked, best = np.take_along_axis(gains, order, 1), -np.sort(-gains, 1)
    scores = np.empty_like(gains)
    np.put_along_axis(scores, order, np.arange(30.0, 0, -1)[None].repeat(40, 0), 1)
    expected = [ndcg_score(row[None], score[None], k=10) for row, score in zip(gains, scores, strict=True)]
    np.testing.assert_allclose(gain_ndcg(ranked[:, :10], best, 10), expected, rtol=1e-12)
    found, num = ranked > 0.5, (gains > 0.5).sum(1).clip(1)
    ideal = (np.arange(30) < num[:, None]).astype(float)
    np.testing.assert_allclose(gain_ndcg(found.astype(float), ideal, 10), ndcg(found[:, :10], num, 10))


def test_a_short_list_gains_what_it_holds():
    """The best item alone, of gains 2 and 1: 2 / (2 + 1/log2 3) = .76018."""
    np.testing.assert_allclose(gain_ndcg(np.array([[2.0]]), np.array([[2.0, 1.0]]), 10), [0.760188], atol=1e-6)
