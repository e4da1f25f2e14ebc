import pytest
import torch

from onesearch.quantize.codebooks import load_codebook
from onesearch.quantize.rq_vae import RqVae, RqVaeRecipe
from onesearch.types import UserError


@pytest.fixture(scope="module")
def model(embeddings):
    return RqVaeRecipe((16, 16), latent=8, hidden=(32,), epochs=30, batch_size=128, lr=3e-3).fit(embeddings, seed=1)


def test_it_learns(model, embeddings):
    """Decoding every embedding to their mean leaves the variance; what it learnt must leave less than a third."""
    variance = (embeddings - embeddings.mean(dim=0)).square().sum(dim=1).mean()
    error = (embeddings - model.decode(model.encode(embeddings))).square().sum(dim=1).mean()
    assert error < variance / 3


def test_the_second_layer_helps(model, embeddings):
    """The quantized latent is nearer to the latent with two layers than with one."""
    latents = model.encoder(embeddings)
    codes = model.encode(embeddings)
    one = model.level_centroids(0)[codes[:, 0]]
    both = one + model.level_centroids(1)[codes[:, 1]]
    assert (latents - both).square().sum() < (latents - one).square().sum()


def test_codes_survive_saving_and_any_batch_size(model, embeddings, tmp_path):
    model.save(tmp_path / "codebook.safetensors")
    loaded = load_codebook(tmp_path / "codebook.safetensors")
    assert isinstance(loaded, RqVae)
    codes = model.encode(embeddings)
    assert codes.shape == (1200, 2)
    for size in (1, 7, 1200):
        assert torch.equal(torch.cat([loaded.encode(part) for part in embeddings[:210].split(size)]), codes[:210])


def test_encoding_follows_the_formula(model, embeddings):
    """A plain float64 walk over the latents: nearest entry, subtract, twice."""
    rest = embeddings.double()
    for layer in model.encoder:
        rest = rest @ layer.weight.double().T + layer.bias.double() if hasattr(layer, "weight") else rest.relu()
    for level in range(2):
        table = model.level_centroids(level).double()
        codes = torch.cdist(rest, table).argmin(dim=1)
        assert torch.equal(model.encode(embeddings)[:, level], codes)
        rest = rest - table[codes]


def test_few_codes_are_dead(model, embeddings):
    """20 blobs for 16 codes: at most two of each layer are unused."""
    codes = model.encode(embeddings)
    assert all(len(codes[:, level].unique()) >= 14 for level in range(2))


def test_the_loss_of_perfect_codes_is_the_error_of_the_decoder(embeddings):
    """With the latents themselves as the only layer's entries, both terms of the codebook vanish."""
    model = RqVae((50,), 16, latent=4, hidden=(8,))
    batch = embeddings[:50]
    latents = model.encoder(batch)
    model.tables[0].data.copy_(latents)
    loss, codes = model.loss(batch, commitment=0.25)
    assert codes.flatten().tolist() == list(range(50))
    assert loss.item() == pytest.approx((model.decoder(latents) - batch).square().sum().item() / 50, rel=1e-5)


def test_fitting_leaves_the_random_state_alone_and_the_seed_decides(embeddings):
    recipe = RqVaeRecipe((4,), latent=4, hidden=(8,), epochs=2, batch_size=256)
    state = torch.get_rng_state()
    first, again, other = (recipe.fit(embeddings, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.level_centroids(0), again.level_centroids(0))
    assert not torch.equal(first.level_centroids(0), other.level_centroids(0))


def test_too_few_embeddings_are_refused(embeddings):
    with pytest.raises(UserError, match=r"rq_sizes\[0\] is 4096, but only 1200"):
        RqVaeRecipe().fit(embeddings)


def test_it_trains_in_inference_mode_too(embeddings):
    """Lightning examines a codebook in inference mode, and fits another one there."""
    with torch.inference_mode():
        codebook = RqVaeRecipe((4, 4), epochs=1).fit(embeddings + 0, seed=0)
        assert codebook.encode(embeddings).shape == (len(embeddings), 2)
