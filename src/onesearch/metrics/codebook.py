"""How well a tokenizer uses its codes and keeps items apart.

    CUR_l  = distinct prefixes (c_1..c_l) / (k_1·…·k_l)          codebook utilisation over the residual layers
    ICR    = items alone in their SID / items (authors' code);  SIDs of one item / distinct SIDs (PRQ-KMeans)
    perplexity_l = exp(−Σ_k p_k·log p_k),  p_k the share of code k;  K_l when all codes are used alike
    Gini_l = Σ_i (2i − K − 1)·n_(i) / (K·Σ n),  n_(1) ≤ … ≤ n_(K);  0 when all codes are used alike, → 1 when one is

In total, CUR counts distinct residual parts of SIDs: product layers are no part of the product of sizes below, and
would push the ratio above 1. Shapes: N items, C layers, K codes of a layer.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.integer]


def utilisation(codes: Codes, rq_sizes: Sequence[int]) -> list[float]:
    """CUR of L1, of L1·L2, and so on: the last is the total.

    Args:
        codes: [N, C], residual layers first.
        rq_sizes: codes of each residual layer.
    """
    depths = range(1, len(rq_sizes) + 1)
    return [len(np.unique(codes[:, :depth], axis=0)) / math.prod(rq_sizes[:depth]) for depth in depths]


def items_alone(codes: Codes) -> float:
    """ICR of the authors' code: the share of items that are the only one of their SID. [N, C] codes."""
    return float((_bucket_sizes(codes) == 1).sum() / len(codes))


def sids_of_one_item(codes: Codes) -> float:
    """ICR of PRQ-KMeans: the share of distinct SIDs that have exactly one item. [N, C] codes."""
    return float((_bucket_sizes(codes) == 1).mean())


def largest_bucket(codes: Codes) -> int:
    """The most items that share one SID. [N, C] codes."""
    return int(_bucket_sizes(codes).max())


def perplexity(codes: Codes, size: int) -> float:
    """How many equally used codes would be as even as the use of a layer's codes. [N] codes of one layer."""
    shares = np.bincount(codes, minlength=size) / len(codes)
    used = shares[shares > 0]
    return float(np.exp(-(used * np.log(used)).sum()))


def num_dead(codes: Codes, size: int) -> int:
    """How many codes of a layer nothing uses. [N] codes of one layer."""
    return int((np.bincount(codes, minlength=size) == 0).sum())


def gini(codes: Codes, size: int) -> float:
    """Inequality of the use of a layer's codes, 0 even to (K − 1)/K all on one. [N] codes of one layer."""
    counts = np.sort(np.bincount(codes, minlength=size))
    ranks = np.arange(1, size + 1)
    return float(((2 * ranks - size - 1) * counts).sum() / (size * counts.sum()))


def reconstruction_error(embeddings: NDArray[np.floating], decoded: NDArray[np.floating]) -> float:
    """Mean squared distance of [N, D] embeddings to what their codes decode to; 1 is coding unit vectors as 0."""
    return float(((embeddings.astype(np.float64) - decoded) ** 2).sum(axis=1).mean())


def codebook_report(codes: Codes, rq_sizes: Sequence[int], opq_sizes: Sequence[int]) -> dict[str, float]:
    """All figures of the codes [N, C] by name: `cur_l1`, `cur_l1_l2`, .., `icr_items`, `icr_sids`, per layer the rest.

    Args:
        codes: of the items, residual layers first.
        rq_sizes: codes of each residual layer.
        opq_sizes: codes of each product layer.

    Raises:
        ValueError: no codes, or another number of layers.
    """
    sizes = (*rq_sizes, *opq_sizes)
    if codes.ndim != 2 or len(codes) == 0 or codes.shape[1] != len(sizes):
        raise ValueError(f"codes must be [N, {len(sizes)}] with N > 0, but are {codes.shape}.")
    prefixes = ["_".join(f"l{level + 1}" for level in range(depth)) for depth in range(1, len(rq_sizes) + 1)]
    report = {f"cur_{prefix}": value for prefix, value in zip(prefixes, utilisation(codes, rq_sizes), strict=True)}
    report |= {
        "icr_items": items_alone(codes),
        "icr_sids": sids_of_one_item(codes),
        "largest_bucket": largest_bucket(codes),
    }
    for level, size in enumerate(sizes):
        layer = codes[:, level]
        report[f"perplexity_l{level + 1}"] = perplexity(layer, size)
        report[f"dead_l{level + 1}"] = num_dead(layer, size)
        report[f"gini_l{level + 1}"] = gini(layer, size)
    return report


def _bucket_sizes(codes: Codes) -> NDArray[np.int64]:
    """[S] items of each distinct SID."""
    return np.unique(codes, axis=0, return_counts=True)[1].astype(np.int64)
