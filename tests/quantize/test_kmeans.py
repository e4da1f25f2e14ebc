import sys

import faiss
import numpy as np
import pytest
import torch

from onesearch.quantize.kmeans import cluster, kmeans
from onesearch.quantize.lloyd import assign, lloyd
from onesearch.quantize.nearest import nearest


def inertia(vectors, centroids):
    """Sum of squared distances to the nearest centroid, by brute force in float64."""
    return (torch.cdist(vectors.double(), centroids.double()) ** 2).min(dim=1).values.sum().item()


def test_nearest_agrees_with_brute_force_in_float64(blobs):
    """NumPy takes every difference, squares and sums it: no expansion into norms and products."""
    centroids = blobs[:37] + 0.1
    differences = blobs.double().numpy()[:, None] - centroids.double().numpy()
    assert nearest(blobs, centroids).tolist() == (differences**2).sum(-1).argmin(1).tolist()


def test_codes_do_not_depend_on_the_batch(blobs):
    """Centroids 0–9 occur twice, so each of their vectors has an exact tie: the lower code must win in any batch."""
    centroids = torch.cat([blobs[:10], blobs[100:120], blobs[:10]])
    together = nearest(blobs, centroids)
    assert together.max() < 30
    for size in (1, 7, 500):
        batches = [nearest(blobs[start : start + size], centroids) for start in range(0, 300, size)]
        assert torch.equal(torch.cat(batches)[:300], together[:300])


@pytest.mark.parametrize("num_centroids", [8, 40])
@pytest.mark.parametrize("effort", ["exact", "fast", "faiss"])
def test_inertia_is_as_low_as_that_of_faiss(blobs, num_centroids, effort):
    """Within 5% of faiss (best of 3 starts) on Gaussian blobs."""
    reference = faiss.Kmeans(16, num_centroids, niter=25, nredo=3, seed=1, min_points_per_centroid=1)
    reference.train(blobs.numpy())
    expected = inertia(blobs, torch.from_numpy(reference.centroids))
    fitted = min((kmeans(blobs, num_centroids, seed, effort) for seed in range(3)), key=lambda c: inertia(blobs, c))
    assert inertia(blobs, fitted) <= 1.05 * expected


def test_one_iteration_moves_centroids_to_the_means():
    """Starts 0 and 9 split {0, 2, 8, 10} into {0, 2} and {8, 10}: means 1 and 9."""
    vectors = torch.tensor([[0.0], [2.0], [8.0], [10.0]])
    assert lloyd(vectors, torch.tensor([[0.0], [9.0]]), 1).tolist() == [[1.0], [9.0]]


def test_an_empty_cluster_moves_to_the_farthest_vector():
    """Centroid 2 at 100 attracts nothing; 10 is the farthest from its own centroid 0, so the third moves there."""
    vectors = torch.tensor([[0.0], [1.0], [-1.0], [10.0]])
    centroids = lloyd(vectors, torch.tensor([[0.5], [-1.0], [100.0]]), 5)
    assert centroids[2].tolist() == [10.0]
    assert len(nearest(vectors, centroids).unique()) == 3


def test_no_code_is_lost_on_distinct_vectors(blobs):
    for effort in ("exact", "fast"):
        assert len(nearest(blobs, kmeans(blobs, 200, 3, effort)).unique()) == 200


@pytest.mark.parametrize("effort", ["exact", "fast"])
def test_more_centroids_than_distinct_vectors_are_left_unused(blobs, effort):
    """5 distinct vectors, 30 times each, 12 centroids: each vector has one of its own, whatever the seed."""
    vectors = blobs[:5].repeat(30, 1)
    for seed in range(5):
        assert inertia(vectors, kmeans(vectors, 12, seed, effort)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("width", [16, 300])
def test_rough_products_fit_as_well(width, monkeypatch):
    """Products in bfloat16, as on CPUs that are quick at them: within 2% of exact ones; no global switch is left."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(30, width, generator=generator).repeat(40, 1) + torch.randn(1200, width, generator=generator)
    errors = []
    for rough in (False, True):
        monkeypatch.setattr("onesearch.quantize.lloyd._rough", lambda _, rough=rough: rough)
        errors.append(inertia(vectors, kmeans(vectors, 40, seed=0)))
    assert errors[0] != errors[1]  # it did make a difference
    assert errors[1] == pytest.approx(errors[0], rel=0.02)
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.fixture(scope="module")
def wide():
    """2000 vectors of width 200 around 40 centres: wider than the axes on which the fast fit moves."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(40, 200, generator=generator).repeat(50, 1) + torch.randn(2000, 200, generator=generator)


def test_a_fast_fit_on_few_axes_is_as_good_as_one_in_float64(wide):
    """Of three starts each, within 2% of Lloyd's 25 iterations in NumPy, in all dimensions and float64."""
    points, expected = wide.double().numpy(), np.inf
    for seed in range(3):
        means = points[np.random.default_rng(seed).permutation(len(points))[:40]]
        for _ in range(25):
            codes = ((means**2).sum(1) - 2 * points @ means.T).argmin(1)
            means = np.stack([points[codes == k].mean(0) if (codes == k).any() else means[k] for k in range(40)])
        expected = min(expected, inertia(wide, torch.from_numpy(means)))
    assert min(inertia(wide, kmeans(wide, 40, seed, "fast")) for seed in range(3)) <= 1.02 * expected


@pytest.mark.parametrize("rough", [False, True])
def test_fast_centroids_are_the_means_behind_their_codes_in_all_dimensions(wide, rough, monkeypatch):
    monkeypatch.setattr("onesearch.quantize.lloyd._rough", lambda _: rough)
    centroids, codes = cluster(wide, 40, seed=0, effort="fast")
    means = [wide[codes == k].double().mean(dim=0) for k in range(40)]
    assert torch.allclose(centroids.double(), torch.stack(means), atol=1e-6)
    assert (codes == nearest(wide, centroids)).double().mean() > 0.95  # the axes say nearly as well which is nearest
    assert torch.equal(codes, cluster(wide, 40, seed=0, effort="fast").codes)


def test_exact_codes_are_of_the_last_centroids(blobs):
    centroids, codes = cluster(blobs, 40, seed=0)
    assert torch.equal(codes, assign(blobs, centroids).codes)


def test_assigning_some_rows_is_assigning_a_copy_of_them(blobs):
    rows = torch.tensor([7, 3, 1100, 3])
    some, copied = assign(blobs, blobs[:40], rows), assign(blobs[rows], blobs[:40])
    assert all(torch.equal(*pair) for pair in zip(some, copied, strict=True))
    assert some.codes.tolist() == [7, 3, nearest(blobs[1100:1101], blobs[:40]).item(), 3]
    assert torch.equal(some.sums[3], 2 * blobs[3].double())


def test_the_seed_decides(blobs):
    assert torch.equal(kmeans(blobs, 30, seed=5), kmeans(blobs, 30, seed=5))
    assert not torch.equal(kmeans(blobs, 30, seed=5), kmeans(blobs, 30, seed=6))


def test_a_large_set_is_drawn_from():
    """2000 vectors for 2 centroids: 128 and 256 are drawn, enough to find the centres −5 and 5."""
    vectors = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (2000, 1))).float()
    vectors += torch.tensor([-5.0, 5.0]).repeat(1000).unsqueeze(1)
    assert kmeans(vectors, 2, 0, "fast").flatten().sort().values.tolist() == pytest.approx([-5, 5], abs=0.3)


def test_wrong_choices_are_refused(blobs, monkeypatch):
    with pytest.raises(ValueError, match="num_centroids is 5, but only 4"):
        kmeans(blobs[:4], 5, seed=0)
    with pytest.raises(ValueError, match="effort is 'best': use one of exact, fast, faiss"):
        kmeans(blobs, 5, seed=0, effort="best")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match="faiss is not installed"):
        kmeans(blobs, 5, seed=0, effort="faiss")


def test_nothing_to_encode_gives_no_codes():
    assert nearest(torch.empty(0, 3), torch.eye(3)).shape == (0,)
