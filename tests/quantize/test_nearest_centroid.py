import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.quantize.nearest import TIE, Scores, nearest


def brute_force(vectors, centroids):
    """NumPy in float64: every difference, squared and summed; of equals, up to `TIE` of their scale, the first."""
    vectors, centroids = vectors.double().numpy(), centroids.double().numpy()
    distances = ((vectors[:, None] - centroids) ** 2).sum(-1)
    scale = (vectors**2).sum(-1) + (centroids**2).sum(-1).max()
    return (distances <= distances.min(1, keepdims=True) + TIE * scale[:, None]).argmax(1).tolist()


def near_ties(centroids, offset, generator):
    """For random pairs of centroids, a point on the plane that halves the way between them, `offset` beside it."""
    one, other = (centroids[torch.randint(len(centroids), (300,), generator=generator)].double() for _ in range(2))
    across = one - other
    return (one + other) / 2 + offset * across / across.norm(dim=1, keepdim=True).clamp(min=1e-9)


@pytest.fixture
def medium():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def rough_backend():
    backend = torch.backends.mkldnn.matmul
    before = backend.fp32_precision
    backend.fp32_precision = "bf16"
    yield
    backend.fp32_precision = before


@pytest.fixture(scope="module")
def tight():
    """40 centroids of width 8 so close together that points between two of them have no third one nearer."""
    return torch.eye(8).repeat(5, 1) + 1e-3 * torch.randn(40, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("offset", [-1e-7, 0.0, 1e-7])
def test_near_ties_are_decided_as_in_float64(tight, offset):
    """1e-7 is a float32 rounding error of these vectors; it is far above `TIE`."""
    vectors = near_ties(tight, offset, torch.Generator().manual_seed(1))
    assert nearest(vectors, tight).tolist() == brute_force(vectors, tight)
    assert nearest(vectors.float(), tight).tolist() == brute_force(vectors.float(), tight)


def test_the_matmul_precision_does_not_matter(tight, medium):
    for width in (8, 300):
        wide = torch.nn.functional.pad(tight, (0, width - 8), value=0.5)
        vectors = near_ties(wide, 1e-7, torch.Generator().manual_seed(2))
        assert nearest(vectors, wide).tolist() == brute_force(vectors, wide)


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="this torch has no such setting")
def test_a_backend_that_was_set_on_its_own_does_not_matter(tight, rough_backend):
    """After it torch's question for all backends raises; the margin is then that of the roughest products."""
    with pytest.raises(RuntimeError):
        torch.get_float32_matmul_precision()
    vectors = near_ties(tight, 1e-7, torch.Generator().manual_seed(2))
    assert nearest(vectors, tight).tolist() == brute_force(vectors, tight)


def test_the_batch_does_not_matter(tight):
    vectors = near_ties(tight, 1e-7, torch.Generator().manual_seed(3)).float().repeat(20, 1)
    together = nearest(vectors, tight)
    for size in (1, 7, 4096):
        part = vectors[: 300 * size]  # 300 batches are enough
        assert torch.equal(torch.cat([nearest(batch, tight) for batch in part.split(size)]), together[: len(part)])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.integers(1, 100), st.integers(1, 9), st.integers(-3, 3), st.integers(0, 999))
def test_any_shape_and_scale(number, num_centroids, width, exponent, seed):
    """Integer coordinates, so that many distances are equal: the lowest code wins, and scaling changes nothing."""
    rng = np.random.default_rng(seed)
    vectors, centroids = (
        torch.from_numpy(rng.integers(-2, 3, (rows, width)) * 10.0**exponent) for rows in (number, num_centroids)
    )
    assert nearest(vectors, centroids).tolist() == brute_force(vectors, centroids)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 130), st.integers(0, 999))
def test_only_open_centroids_win(number, num_centroids, seed):
    generator = torch.Generator().manual_seed(seed)
    vectors, centroids = (torch.randn(rows, 3, generator=generator) for rows in (number, num_centroids))
    is_open = torch.rand(num_centroids, generator=generator) < 0.5
    is_open[-1] = True
    codes = Scores(centroids, is_open).lowest(vectors).codes
    distances = torch.cdist(vectors, centroids).masked_fill(~is_open, torch.inf)
    assert torch.equal(codes, distances.argmin(dim=1))


def test_rough_scores_lose_no_more_than_bfloat16_rounds():
    """x·c of unit vectors is at most 1, so factors and product rounded to 8 bits are off by at most 3·2⁻⁸, twice."""
    vectors = torch.nn.functional.normalize(torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    exact, rough = (Scores(vectors[:70], rough=rough)(vectors) for rough in (False, True))
    assert (exact[:, :70] - rough[:, :70]).abs().max() <= 6 * 2**-8
    assert rough[:, 70:].isinf().all()
