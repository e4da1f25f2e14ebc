import pytest
import torch


def unit(vectors):
    return vectors / vectors.norm(dim=1, keepdim=True)


@pytest.fixture(scope="session")
def blobs():
    """1200 float32 vectors of width 16 around 20 centres."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(20, 16, generator=generator) * 4
    return centres.repeat(60, 1) + torch.randn(1200, 16, generator=generator)


@pytest.fixture(scope="session")
def embeddings(blobs):
    return unit(blobs)
