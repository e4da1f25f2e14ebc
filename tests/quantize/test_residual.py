import pytest
import torch

from onesearch.quantize.residual import Layer, Rest, fit_residual, quantize_balanced, quantize_residual, reconstruct


def test_a_worked_example_without_normalisation():
    """Layers {0, 10} and {−1, 2} on a line: 12 → 10, rest 2 → 2, rest 0; −1.5 → 0, rest −1.5 → −1, rest −0.5."""
    layers = [Layer(torch.tensor([[0.0], [10.0]]), torch.ones(2)), Layer(torch.tensor([[-1.0], [2.0]]), torch.ones(2))]
    codes, rest = quantize_residual(torch.tensor([[12.0], [-1.5]]), layers, normalize=False)
    assert codes.tolist() == [[1, 1], [0, 0]]
    assert rest.tolist() == [[0.0], [-0.5]]
    assert reconstruct(codes, layers, rest).tolist() == [[12.0], [-1.5]]


def test_normalisation_keeps_the_direction_and_drops_noise():
    """(3, 4) − 0 has length 5 and becomes (.6, .8); one that is 1e-8 off its centroid leaves exactly 0."""
    layer = Layer(torch.tensor([[0.0, 0.0], [100.0, 0.0]]), torch.ones(2))
    vectors = torch.tensor([[3.0, 4.0], [100.0, 1e-8]], dtype=torch.float64)
    assert torch.allclose(quantize_residual(vectors, [layer]).rest, torch.tensor([[0.6, 0.8], [0, 0]]).double())
    assert quantize_residual(vectors, [layer]).rest[1].tolist() == [0.0, 0.0]


def test_lengths_are_the_means_behind_each_code():
    """One code at the mean of the four unit vectors ±e1, ±e2, which is 0: each residual has length 1."""
    vectors = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    (layer,), _ = fit_residual(vectors, (1,), seed=0, slack=None)
    assert torch.allclose(layer.centroids, torch.zeros(1, 2), atol=1e-6)
    assert torch.allclose(layer.lengths, torch.ones(1))


def test_each_layer_lowers_the_error(embeddings):
    for normalize in (True, False):
        layers, _ = fit_residual(embeddings, (16, 16, 16), seed=0, normalize=normalize, slack=None)
        codes = quantize_residual(embeddings, layers, normalize).codes
        zeros = torch.zeros_like(embeddings)
        errors = [
            (reconstruct(codes[:, :depth], layers[:depth], zeros) - embeddings).square().sum().item()
            for depth in range(4)
        ]
        assert errors == sorted(errors, reverse=True)
        assert errors[3] < 0.5 * errors[1]


def test_only_the_last_layer_is_balanced(embeddings):
    """1200 vectors, 16 codes, slack 1: exactly 75 each in the last layer; blobs make the first uneven."""
    skewed = torch.cat([embeddings[:900], embeddings[:1].repeat(300, 1) + 0.01 * embeddings[900:]])
    layers, _ = fit_residual(skewed, (16, 16), seed=0, slack=1.0)
    codes, _ = quantize_balanced(skewed, layers, normalize=True, slack=1.0)
    assert torch.bincount(codes[:, 1], minlength=16).tolist() == [75] * 16
    assert torch.bincount(codes[:, 0], minlength=16).max() > 75


@pytest.mark.parametrize("normalize", [True, False])
def test_the_rest_is_computed_when_it_is_read(embeddings, normalize):
    """What `quantize_residual` leaves, for any rows in any order, in the type that is asked for."""
    layers, fitted = fit_residual(embeddings, (16, 8), seed=0, normalize=normalize, slack=None)
    codes, expected = quantize_residual(embeddings, layers, normalize)
    rest = Rest(embeddings, normalize, torch.float64)
    for level, layer in enumerate(layers):
        rest.code(layer.centroids, codes[:, level])
    rows = torch.tensor([5, 0, 1199, 5])
    assert torch.equal(rest[rows], expected[rows])
    assert torch.equal(rest[10:20], expected[10:20])
    assert len(rest) == len(fitted) == 1200
    assert fitted[rows].dtype == torch.float32
    assert (fitted[:] - expected).norm(dim=1).median() < 1e-6  # the fit may send a few elsewhere


def test_the_rest_may_stand_for_a_sample(embeddings):
    """Row 1 of the sample is row 7 of the vectors, and codes are the sample's."""
    rest = Rest(embeddings, normalize=False, sample=torch.tensor([3, 7, 9]))
    rest.code(embeddings[:2], torch.tensor([0, 1, 0]))
    assert len(rest) == 3
    assert torch.equal(rest[torch.tensor([1])], embeddings[7:8] - embeddings[1])
    assert torch.equal(rest[1:], embeddings[[7, 9]] - embeddings[[1, 0]])


def test_a_fast_fit_looks_at_128_vectors_a_code(embeddings):
    """8 is the largest layer, so 1024 of 1200 are drawn; 16·128 are more than there are."""
    layers, rest = fit_residual(embeddings, (8, 8, 4), seed=0, effort="fast", slack=None)
    again, _ = fit_residual(embeddings, (8, 8, 4), seed=0, effort="fast", slack=None)
    assert len(rest) == 1024
    assert len(fit_residual(embeddings, (8, 16), seed=0, effort="fast", slack=None)[1]) == 1200
    assert all(torch.equal(one.centroids, other.centroids) for one, other in zip(layers, again, strict=True))


@pytest.mark.parametrize("normalize", [True, False])
def test_a_fast_fit_codes_all_vectors_nearly_as_well(embeddings, normalize):
    """The error over three seeds is within 5% of the exact fit's."""
    errors = {"exact": 0.0, "fast": 0.0}
    for effort in errors:
        for seed in range(3):
            layers, _ = fit_residual(embeddings, (8, 8, 4), seed, effort, normalize, slack=None)
            codes = quantize_residual(embeddings, layers, normalize).codes
            decoded = reconstruct(codes, layers, torch.zeros_like(embeddings))
            errors[effort] += (decoded - embeddings).square().sum().item()
    assert errors["fast"] <= 1.05 * errors["exact"]
