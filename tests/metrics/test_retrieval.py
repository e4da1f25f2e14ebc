"""Retrieval figures by hand, and rows that arrive from several processes."""

import pytest
import torch

from onesearch.metrics.retrieval import Gathered, retrieval


def test_figures_by_hand():
    """120 items found in order 0, 1, 2, …: a clicked item's row is its rank.

    Query 1 led to items 1, 50 and 110: R@10 1/3, R@100 2/3, MRR 1/2. Query 2 to item 9: 1, 1, 1/10. Query 3, unseen,
    to item 10: 0, 1, 0.
    """
    found = torch.arange(120).repeat(3, 1)[:, :100]
    clicked = torch.tensor([[1, 50, 110], [9, -1, -1], [10, -1, -1]])
    got = retrieval(found, clicked, torch.tensor([False, False, True]))
    assert got == pytest.approx(
        {
            "recall@10": (1 / 3 + 1) / 3,
            "recall@100": (2 / 3 + 1 + 1) / 3,
            "mrr@10": (1 / 2 + 1 / 10) / 3,
            "recall@10_unseen": 0.0,
            "recall@100_unseen": 1.0,
            "mrr@10_unseen": 0.0,
        }
    )


def test_no_unseen_queries_no_figures_of_them():
    got = retrieval(torch.tensor([[0, 1]]), torch.tensor([[1]]), torch.tensor([False]))
    assert got == {"recall@10": 1.0, "recall@100": 1.0, "mrr@10": 0.5}


def test_every_row_once():
    """Two processes with a stride of two and five rows: the sampler repeats row 0 to make the shares equal."""
    gathered = Gathered()
    assert not gathered
    for rows in ([0, 2], [4], [1, 3], [0]):
        gathered.add(torch.tensor(rows), 10.0 * torch.tensor(rows).float()[:, None].expand(-1, 2))
    rows, vectors = gathered.table()
    assert gathered
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(vectors, torch.tensor([[0.0] * 2, [10.0] * 2, [20.0] * 2, [30.0] * 2, [40.0] * 2]))
