import faiss
import pytest
import torch

from onesearch.quantize.kmeans import kmeans
from onesearch.quantize.nearest import nearest
from onesearch.quantize.product import _principal_rotation, fit_product, quantize_product, reconstruct_product


@pytest.fixture(scope="module")
def correlated():
    """1500 vectors of width 8 whose variance lies in four mixed directions, so fixed halves share information."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(8, 8, generator=generator) * torch.tensor([4.0, 3, 2, 1, 0.3, 0.2, 0.1, 0.1])[:, None]
    return torch.randn(1500, 8, generator=generator) @ mixing


def error(vectors, decoded):
    return (vectors - decoded).square().sum(dim=1).mean().item()


def opq_error(vectors, sizes, seed=0):
    rotation, codebooks = fit_product(vectors, sizes, seed)
    return error(vectors, reconstruct_product(quantize_product(vectors, rotation, codebooks), rotation, codebooks))


def test_rotation_beats_plain_product_quantisation(correlated):
    """Plain PQ: k-means on each half of the unrotated vector."""
    halves = correlated.chunk(2, dim=1)
    books = [kmeans(half, 16, seed) for seed, half in enumerate(halves)]
    plain = torch.cat([book[nearest(half, book)] for half, book in zip(halves, books, strict=True)], dim=1)
    assert opq_error(correlated, (16, 16)) < 0.9 * error(correlated, plain)


def test_the_error_is_as_low_as_that_of_faiss(correlated):
    """faiss' OPQ with the same 2 × 16 codes; ours within 5%."""
    transform = faiss.OPQMatrix(8, 2)
    transform.pq = faiss.ProductQuantizer(8, 2, 4)
    transform.train(correlated.numpy())
    rotated = transform.apply(correlated.numpy())
    pq = faiss.ProductQuantizer(8, 2, 4)
    pq.train(rotated)
    reference = error(torch.from_numpy(rotated), torch.from_numpy(pq.decode(pq.compute_codes(rotated))))
    assert opq_error(correlated, (16, 16)) <= 1.05 * reference


def test_the_rotation_is_orthogonal_and_codes_are_nearest(correlated):
    rotation, codebooks = fit_product(correlated, (16, 8), seed=0)
    assert torch.allclose(rotation @ rotation.T, torch.eye(8), atol=1e-5)
    codes = quantize_product(correlated, rotation, codebooks)
    assert codes.max(dim=0).values.tolist() == [15, 7]  # sizes may differ
    part = (correlated.double() @ rotation.double().T)[:, 4:]
    assert torch.equal(codes[:, 1], torch.cdist(part, codebooks[1].double()).argmin(dim=1))


def test_as_many_codes_as_vectors_are_exact():
    """4 vectors whose halves take 4 values each: 4 codes a half reconstruct them, rotated back."""
    vectors = torch.tensor([[1.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 4]])
    assert opq_error(vectors, (4, 4)) == pytest.approx(0.0, abs=1e-8)


def test_the_start_deals_the_axes_evenly():
    """Variances 8, 4, 2, 1 (all below 1 after scaling): the products of the halves are 8·1 = 4·2, not 8·4 and 2·1."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([8.0, 4, 2, 1]).sqrt() * 0.05
    vectors = torch.linalg.qr(torch.randn(4000, 4, generator=generator)).Q * 4000**0.5 * scales
    rotated = vectors @ _principal_rotation(vectors, 2).T
    products = [part.var(dim=0).prod().item() for part in rotated.chunk(2, dim=1)]
    assert products[0] == pytest.approx(products[1], rel=0.05)
