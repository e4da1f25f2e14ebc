import torch

from onesearch.keywords.fusion import fuse


def test_a_worked_example():
    """Text 0 = (1, 0) with keywords (0, 1) and (1, 0): ½·(1, 0) + ½·(.5, .5) = (.75, .25), over its length √.625.
    Text 1 = (0, 2) with none becomes (0, 1). Text 2 = (1, 0) with (0, 1): (.5, .5), over √.5.
    """
    texts = torch.tensor([[1.0, 0], [0, 2], [1, 0]])
    keywords = torch.tensor([[0.0, 1], [1, 0]])
    fused = fuse(texts, keywords, torch.tensor([0, 0, 2]), torch.tensor([0, 1, 0]))
    expected = torch.tensor([[0.75 / 0.625**0.5, 0.25 / 0.625**0.5], [0, 1], [0.5**0.5, 0.5**0.5]])
    assert torch.allclose(fused, expected)


def test_no_keyword_at_all():
    nothing = torch.empty(0, dtype=torch.int64)
    assert fuse(torch.tensor([[3.0, 4.0]]), torch.empty(0, 2), nothing, nothing).tolist() == [
        [0.6000000238418579, 0.8000000119209290]
    ]


def test_a_repeated_keyword_counts_once_in_any_order():
    """Matches mixed and doubled, three texts of five with some; against the formula in float64."""
    rng = torch.Generator().manual_seed(0)
    texts, keywords = torch.randn(5, 8, generator=rng), torch.randn(4, 8, generator=rng)
    pairs = [(3, 1), (0, 2), (3, 0), (3, 1), (4, 3), (0, 2), (3, 3)]
    fused = fuse(texts, keywords, *torch.tensor(pairs).T)
    for row, text in enumerate(texts.double()):
        found = [keywords[keyword].double() for keyword in sorted({k for t, k in pairs if t == row})]
        expected = 0.5 * text + 0.5 * sum(found) / len(found) if found else text
        assert torch.allclose(fused[row].double(), expected / expected.norm(), atol=1e-6)


def test_the_embeddings_that_go_in_stay_as_they_are():
    texts, keywords = torch.ones(2, 3), torch.ones(1, 3)
    fuse(texts, keywords, torch.tensor([1]), torch.tensor([0]))
    assert torch.equal(texts, torch.ones(2, 3)) and torch.equal(keywords, torch.ones(1, 3))
