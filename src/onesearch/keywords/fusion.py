"""Fusion of a text's embedding with those of the core keywords found in it.

    e° = ½·e + ½·mean_j(e_kj), then L2-normalised;   no keyword: e° = e, L2-normalised too      (arXiv 2509.03236)

Shapes: B texts, W keywords, P matches, D width.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize


def fuse(texts: Tensor, keywords: Tensor, text_rows: Tensor, keyword_rows: Tensor) -> Tensor:
    """Fuse embeddings.

    Args:
        texts: [B, D] embeddings of the texts.
        keywords: [W, D] embeddings of the keywords, from the same encoder.
        text_rows: [P] int64, the text of each match, in any order.
        keyword_rows: [P] int64, the keyword of each match; one that a text repeats counts once.

    Returns:
        [B, D] of length 1.
    """
    pairs = torch.unique(text_rows * len(keywords) + keyword_rows)  # by text, each once
    bags = torch.searchsorted(pairs, torch.arange(len(texts), device=pairs.device) * len(keywords))
    fused = embedding_bag(pairs % len(keywords), keywords.to(texts.dtype), bags, mode="mean")
    fused += texts  # ½ changes no direction, and the mean over no keyword is 0
    return normalize(fused, dim=1, out=fused)  # in place: fresh memory costs more than the arithmetic
