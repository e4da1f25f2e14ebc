import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.quantize.balanced import balance, balanced_nearest, capacity
from onesearch.quantize.kmeans import kmeans
from onesearch.quantize.nearest import nearest


def test_the_nearest_keep_the_place_and_the_rest_move_on():
    """4 vectors, 2 codes, slack 1: 2 each. 0, 1, 2, 3 are all nearest to centroid 0; 0 and 1 stay, 2 and 3 go to 10."""
    vectors = torch.tensor([[3.0], [0.0], [2.0], [1.0]])
    assert balanced_nearest(vectors, torch.tensor([[0.0], [10.0]]), slack=1.0).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("slack", [1.0, 1.1, 2.0])
def test_no_code_holds_more_than_its_share(embeddings, slack):
    """Capacity ceil(1200/64·slack), however skewed the start: all vectors are nearest to one of a few centroids."""
    centroids = torch.cat([embeddings[:2], embeddings[:62] * 9])
    counts = torch.bincount(balanced_nearest(embeddings, centroids, slack), minlength=64)
    assert counts.sum() == 1200
    assert counts.max() <= capacity(1200, 64, slack)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.integers(1, 40), st.floats(1, 3), st.integers(0, 999))
def test_any_numbers_and_slack(number, num_centroids, slack, seed):
    """All are placed within the capacity, and nobody would rather be where there is room left."""
    generator = torch.Generator().manual_seed(seed)
    vectors, centroids = (torch.randn(rows, 2, generator=generator) for rows in (number, num_centroids))
    codes = balanced_nearest(vectors, centroids, slack)
    room = capacity(number, num_centroids, slack) - torch.bincount(codes, minlength=num_centroids)
    assert room.min() >= 0
    distances = torch.cdist(vectors.double(), centroids.double())
    own = distances.gather(1, codes[:, None])
    assert (distances[:, room > 0] >= own - 1e-5).all()


def test_a_loose_capacity_is_the_nearest_centroid(embeddings):
    centroids = embeddings[:10]
    assert torch.equal(balanced_nearest(embeddings, centroids, slack=10.0), nearest(embeddings, centroids))


def test_capacity_worked_example():
    """10 vectors over 4 codes: ceil(2.5) = 3 at slack 1, ceil(3.75) = 4 at slack 1.5."""
    assert (capacity(10, 4, 1.0), capacity(10, 4, 1.5)) == (3, 4)
    with pytest.raises(ValueError, match=r"slack is 0.9"):
        capacity(10, 4, 0.9)


def test_balancing_evens_out_new_vectors_too(embeddings):
    """Nearest centroids after balancing are more even (largest share falls) on skewed data: half of it in one blob."""
    skewed = torch.cat([embeddings[::20].repeat(20, 1) + 0.01 * embeddings, embeddings])
    plain = kmeans(skewed, 32, seed=0)
    balanced = balance(skewed, plain, slack=1.05, num_iterations=15)
    largest = [torch.bincount(nearest(skewed, centroids)).max() for centroids in (plain, balanced)]
    assert largest[1] < largest[0]
