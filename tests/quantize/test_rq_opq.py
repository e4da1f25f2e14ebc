import copy
import json
import math

import pytest
import torch

from onesearch.quantize.codebooks import describe, load_codebook, read_recipe
from onesearch.quantize.rq_opq import RqOpqRecipe
from onesearch.quantize.rq_vae import RqVaeRecipe
from onesearch.types import UserError

RQ, OPQ = (16, 8, 8), (8, 8)


@pytest.fixture(scope="module")
def model(embeddings):
    return RqOpqRecipe(RQ, OPQ).fit(embeddings, seed=1)


def test_codes_survive_saving_and_any_batch_size(model, embeddings, tmp_path):
    model.save(tmp_path / "codebook.safetensors")
    loaded = load_codebook(tmp_path / "codebook.safetensors")
    assert (loaded.rq_sizes, loaded.opq_sizes, loaded.normalize_residuals) == (RQ, OPQ, True)
    codes = model.encode(embeddings)
    assert codes.shape == (1200, 5)
    assert codes.dtype == torch.int64
    assert (codes < torch.tensor(RQ + OPQ)).all()
    assert torch.equal(loaded.encode(embeddings), codes)
    one_by_one = torch.cat([loaded.encode(embeddings[row : row + 1]) for row in range(100)])
    assert torch.equal(one_by_one, codes[:100])


def test_equal_codebooks_are_equal_files(model, tmp_path):
    """Manifests hold the hashes of files: saving twice gives the same bytes, ten times over."""
    for number in range(10):
        model.save(tmp_path / f"{number}.safetensors")
    assert len({(tmp_path / f"{number}.safetensors").read_bytes() for number in range(10)}) == 1


def test_encoding_follows_the_formula(model, embeddings):
    """Plain float64 walk: nearest centroid, subtract, normalise, three times; then the rotated halves."""
    rest, expected = embeddings.double(), []
    for level in range(3):
        centroids = model.level_centroids(level).double()
        expected.append(torch.cdist(rest, centroids).argmin(dim=1))
        rest = rest - centroids[expected[-1]]
        rest = rest / rest.norm(dim=1, keepdim=True)
    halves = (rest @ model.rotation.double().T).chunk(2, dim=1)
    for half, book in zip(halves, (model.opq_0, model.opq_1), strict=True):
        expected.append(torch.cdist(half, book.double()).argmin(dim=1))
    assert torch.equal(model.encode(embeddings), torch.stack(expected, dim=1))


def test_the_set_of_the_fit_can_be_coded_balanced(model, embeddings):
    """ceil(1200/8·1.1) = 165 at most in layer 3; the layers before it do not change."""
    codes = model.encode(embeddings, slack=1.1)
    assert torch.bincount(codes[:, 2]).max() <= math.ceil(1200 / 8 * 1.1)
    assert torch.equal(codes[:, :2], model.encode(embeddings)[:, :2])


def test_decoding_comes_near_and_each_part_helps(model, embeddings):
    def error(decoded):
        return (decoded - embeddings).square().sum(dim=1).mean().item()

    whole = error(model.decode(model.encode(embeddings)))
    rq_alone = RqOpqRecipe(RQ, ()).fit(embeddings, seed=1)
    codes = rq_alone.encode(embeddings)
    assert codes.shape == (1200, 3)
    assert whole < error(rq_alone.decode(codes)) < error(torch.zeros_like(embeddings))


def test_product_layers_alone(embeddings, tmp_path):
    """OPQ alone: two codes a vector, the same after saving, nearer to the vector than its mean is."""
    opq = RqOpqRecipe((), OPQ).fit(embeddings, seed=1)
    codes = opq.encode(embeddings, slack=1.1)  # there is no residual layer to balance
    assert codes.shape == (1200, 2)
    opq.save(tmp_path / "c.safetensors")
    assert torch.equal(load_codebook(tmp_path / "c.safetensors").encode(embeddings), codes)
    error = (opq.decode(codes) - embeddings).square().sum()
    assert error < (embeddings - embeddings.mean(dim=0)).square().sum()


def test_without_normalisation_decoding_is_the_sum_of_the_centroids(embeddings, tmp_path):
    """ê = C_1[c_1] + C_2[c_2] + C_3[c_3] + the product layers' centroids rotated back."""
    plain = RqOpqRecipe(RQ, OPQ, normalize_residuals=False).fit(embeddings, seed=1)
    codes = plain.encode(embeddings)
    total = sum(plain.level_centroids(level)[codes[:, level]] for level in range(5))
    assert torch.allclose(plain.decode(codes), total, atol=1e-5)
    plain.save(tmp_path / "c.safetensors")
    assert load_codebook(tmp_path / "c.safetensors").normalize_residuals is False


def test_the_seed_decides_every_layer(model, embeddings):
    again = RqOpqRecipe(RQ, OPQ).fit(embeddings, seed=1)
    assert torch.equal(again.encode(embeddings), model.encode(embeddings))
    other = RqOpqRecipe(RQ, OPQ).fit(embeddings, seed=2)
    assert all(not torch.equal(other.level_centroids(level), model.level_centroids(level)) for level in range(5))


def test_a_codebook_too_large_for_the_data_is_refused(embeddings):
    with pytest.raises(ValueError, match=r"rq_sizes\[0\] is 4096, but only 1200 embeddings.*at most 1200"):
        RqOpqRecipe().fit(embeddings)
    with pytest.raises(ValueError, match=r"opq_sizes\[1\] is 2000"):
        RqOpqRecipe((4,), (4, 2000)).fit(embeddings)
    with pytest.raises(ValueError, match="dim is 16: it must be a multiple of the 3"):
        RqOpqRecipe((4,), (4, 4, 4)).fit(embeddings)


def test_a_nan_is_refused_by_its_row(embeddings):
    broken = embeddings.clone()
    broken[7, 3] = torch.nan
    with pytest.raises(ValueError, match="row 7 is not finite"):
        RqOpqRecipe(RQ, OPQ).fit(broken)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_codes_are_the_same_on_gpu(model, embeddings):
    on_gpu = copy.deepcopy(model).cuda().encode(embeddings.cuda())
    assert torch.equal(on_gpu.cpu(), model.encode(embeddings))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"slack": 0.9}, r"slack is 0.9: below 1 .* use 1.1, or null"),
        ({"rq_sizes": (4, 0)}, r"rq_sizes is \(4, 0\): every layer needs at least 1 code"),
        ({"rq_sizes": (), "opq_sizes": ()}, "a codebook needs a layer"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_at_once(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        RqOpqRecipe(**arguments)


def test_a_recipe_survives_its_description():
    """JSON turns tuples into lists and back."""
    for recipe in (RqOpqRecipe((8, 4), (2, 2), slack=None), RqVaeRecipe((8, 4), latent=4)):
        assert read_recipe(json.loads(json.dumps(describe(recipe)))) == recipe
