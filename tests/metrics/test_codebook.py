import numpy as np
import pytest

from onesearch.metrics.codebook import (
    codebook_report,
    gini,
    items_alone,
    largest_bucket,
    num_dead,
    perplexity,
    reconstruction_error,
    sids_of_one_item,
    utilisation,
)

CODES = np.array([[0, 0, 1], [0, 0, 1], [0, 1, 1], [2, 0, 0]])


def test_utilisation():
    """Sizes 4, 2: codes 0 and 2 of 4; pairs 00, 01, 20 of 8. The third layer is a product layer and counts nowhere."""
    assert utilisation(CODES, (4, 2)) == [2 / 4, 3 / 8]


def test_independent_coding_rates_and_the_largest_bucket():
    """SIDs 001 (two items), 011, 200: 2 of 4 items are alone, 2 of 3 SIDs have one item."""
    assert items_alone(CODES) == 2 / 4
    assert sids_of_one_item(CODES) == 2 / 3
    assert largest_bucket(CODES) == 2


def test_perplexity():
    """Even over 4 codes: 4. All on one: 1. Shares ½, ¼, ¼: entropy 1.5 bits, so 2^1.5."""
    assert perplexity(np.array([0, 1, 2, 3]), 4) == pytest.approx(4)
    assert perplexity(np.array([2, 2]), 4) == pytest.approx(1)
    assert perplexity(np.array([0, 0, 1, 2]), 4) == pytest.approx(2**1.5)


def test_gini_is_the_mean_difference_between_codes():
    """Half the relative mean absolute difference of all pairs of counts; even 0, all on one of 4: ¾."""
    codes = np.random.default_rng(0).integers(0, 7, 30)
    counts = np.bincount(codes, minlength=9)
    pairs = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert gini(codes, 9) == pytest.approx(pairs)
    assert gini(np.array([0, 1]), 2) == 0
    assert gini(np.array([3]), 4) == pytest.approx(3 / 4)


def test_dead_codes():
    assert num_dead(CODES[:, 0], 4) == 2


def test_reconstruction_error():
    """Squared distances 0 and 1² + 2² = 5: mean 2.5."""
    embeddings = np.array([[1, 0], [0, 0]], np.float32)
    assert reconstruction_error(embeddings, np.array([[1, 0], [1, 2]])) == 2.5


def test_the_report_names_every_figure():
    report = codebook_report(CODES, (4, 2), (2,))
    assert (report["cur_l1"], report["cur_l1_l2"]) == (0.5, 0.375)
    assert (report["icr_items"], report["icr_sids"], report["largest_bucket"]) == (0.5, 2 / 3, 2)
    assert (report["dead_l1"], report["dead_l3"]) == (2, 0)
    assert len(report) == 2 + 3 + 3 * 3
    with pytest.raises(ValueError, match=r"must be \[N, 2\]"):
        codebook_report(CODES, (4,), (2,))
