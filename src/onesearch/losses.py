"""Contrastive, reward and list-wise preference losses: pure functions of tensors.

    InfoNCE      L = ½·(CE(left → right) + CE(right → left)),  logits = cos(left_i, right_j)/τ;
                 hard negatives of left_i join its row
    L_rank       hinge on cosine: order ≥ click + .10, click ≥ shown-not-clicked + .05
    L_rel        (cos − grade/3)²
    r(q,i)       2λ·Ctr·Cvr/(Ctr + Cvr),  T = log((n_pos+10)(n_clk+10)(n_ord+10)),
                 Ctr = log(n_clk+10)/T,  Cvr = log(n_ord+10)/log(n_clk+10)
    rw_Δ         1/(r(q,i_pos) − r(q,i_neg))
    list-wise    softplus(log Σ_l n_l·exp(w_l·(r̂_l − r̂_w + δ))) − α·log π_θ(i_w|x),  r̂(i) = β·log(π_θ(i|x)/π_ref(i|x)),
                 n_l what a negative counts: 1 of an item, 1/Y of each of Y SIDs that no item has
    soft lists   −Σ_i p_i·log softmax_i(r̂),  r̂ as above, p_i the chance that i is the best of its list
    KL of lists  Σ_i p_i·log(p_i/q_i) + (1 − Σ_i p_i)·log((1 − Σ_i p_i)/(1 − Σ_i q_i)),  p = π_θ(i|x), q = π_ref(i|x)

Sources: OneSearch (arXiv 2509.03236) names the encoder's five losses without closed forms: the first three are ours.
The adaptive reward is the paper's; the list-wise loss is S-DPO (arXiv 2406.09215) with the paper's weight.

Shapes: B batch, D embedding width, X negatives of a list.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (the name that every PyTorch reader knows)
from torch import Tensor

LEVEL_WEIGHTS = (2.0, 1.5, 1.0, 0.5, 0.2, 0.0)
"""Base weight λ of the six levels: bought after search, bought in recommendation (same category), clicked, shown and
not clicked, same category and not shown, random other item."""

SMOOTHING = 10.0
"""Added to every count of the adaptive reward."""


def info_nce(
    left: Tensor,
    right: Tensor,
    temperature: float,
    left_ids: Tensor,
    right_ids: Tensor,
    hard: Tensor | None = None,
    hard_mask: Tensor | None = None,
) -> Tensor:
    """Symmetric in-batch InfoNCE over cosines; texts that occur twice in the batch are no negatives of each other.

    Args:
        left: embeddings, [B, D]; row i belongs with row i of `right`.
        right: embeddings, [B, D].
        temperature: τ.
        left_ids: [B] int64, equal numbers are the same text, across both sides too.
        right_ids: [B] int64.
        hard: hard negatives, [B, X, D]; row i joins the denominator of left i alone.
        hard_mask: [B, X] bool, true on those that exist.

    Returns:
        The mean loss, a scalar.
    """
    logits = F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).T / temperature
    logits = logits.masked_fill(_false_negatives(left_ids, right_ids), float("-inf"))
    target = torch.arange(len(left), device=left.device)
    to_right = logits
    if hard is not None and hard_mask is not None:
        cosine = (F.normalize(left, dim=-1)[:, None] * F.normalize(hard, dim=-1)).sum(-1)
        to_right = torch.cat([logits, (cosine / temperature).masked_fill(~hard_mask, float("-inf"))], dim=1)
    return 0.5 * (F.cross_entropy(to_right, target) + F.cross_entropy(logits.T, target))


def _false_negatives(left_ids: Tensor, right_ids: Tensor) -> Tensor:
    """Where (i, j) is off the diagonal but shares a text: [B, B] bool."""
    same_left = left_ids[:, None] == left_ids[None, :]
    same_right = right_ids[:, None] == right_ids[None, :]
    # In q2q and i2i one pair's left text may be another's right: its cosine is 1, the hardest false negative of all.
    crossed = left_ids[:, None] == right_ids[None, :]
    diagonal = torch.eye(len(left_ids), dtype=torch.bool, device=left_ids.device)
    return (same_left | same_right | crossed) & ~diagonal


def rank_hinge(
    order: Tensor, click: Tensor, shown: Tensor, order_margin: float = 0.1, click_margin: float = 0.05
) -> Tensor:
    """L_rank: an ordered item above a clicked one, a clicked one above one that was shown and not clicked.

    Args:
        order: cosine of the query and an ordered item, [B]; NaN where the search has none.
        click: the same for a clicked item, [B].
        shown: the same for an item shown and not clicked, [B].
        order_margin: how far an order stands above a click.
        click_margin: how far a click stands above an exposure.

    Returns:
        Mean hinge over the pairs that exist; 0 where none does.
    """
    hinges = torch.stack(
        [
            order_margin - order + click,
            click_margin - click + shown,
            order_margin + click_margin - order + shown,  # implied by the two above; binds where a search has no click
        ]
    )
    exists = ~hinges.isnan()
    return torch.where(exists, hinges, 0.0).relu().sum() / exists.sum().clamp(min=1)


def relevance_mse(cosine: Tensor, grade: Tensor) -> Tensor:
    """L_rel: squared error of the cosine [B] to grade/3, grade in 0 (irrelevant) to 3 (excellent), [B]."""
    return F.mse_loss(cosine, grade.to(cosine.dtype) / 3)


def adaptive_reward(level_weight: Tensor, n_pos: Tensor, n_clk: Tensor, n_ord: Tensor) -> Tensor:
    """r(q,i) = 2λ·Ctr·Cvr/(Ctr + Cvr) of a query and an item, element-wise.

    A property of the published formula that we keep: with no data at all r = λ/2 (Ctr = 1/3, Cvr = 1), more than a
    well-exposed item that nobody clicks gets. New items are thereby explored.

    Args:
        level_weight: λ, from `LEVEL_WEIGHTS`.
        n_pos: exposures of the item for the query.
        n_clk: clicks.
        n_ord: orders.
    """
    log_pos, log_clk, log_ord = ((n + SMOOTHING).log() for n in (n_pos, n_clk, n_ord))
    ctr = log_clk / (log_pos + log_clk + log_ord)
    cvr = log_ord / log_clk
    return 2 * level_weight * ctr * cvr / (ctr + cvr)


def reward_gap_weight(positive: Tensor, negative: Tensor, w_max: float) -> Tensor:
    """Weight w = clip(rw_Δ, 0, w_max), rw_Δ = 1/(r(q,i_pos) − r(q,i_neg)), element-wise with broadcasting.

    Equal rewards take the limit from above, w_max. A negative rewarded above the positive has weight 0: the counts
    speak against the label, so the pair teaches nothing.
    """
    gap = positive - negative
    safe = torch.where(gap > 0, gap, 1.0)
    return torch.where(gap > 0, (1 / safe).clamp(max=w_max), torch.where(gap == 0, w_max, 0.0))


def listwise_preference(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    weights: Tensor,
    mask: Tensor,
    beta: float = 0.1,
    delta: float = 0.0,
    counts: Tensor | None = None,
) -> Tensor:
    """One positive against all negatives of its list, weighted by the reward gap.

    With one negative and w = 1 it is DPO: log 2 where policy and reference agree. A weight of 0 takes the gradient from
    a negative, as the formula has it; only `mask` removes a negative from the sum.

    Args:
        policy_chosen: log π_θ(i_w|x), [B].
        policy_rejected: log π_θ(i_l|x), [B, X].
        ref_chosen: log π_ref(i_w|x), [B].
        ref_rejected: log π_ref(i_l|x), [B, X].
        weights: w_l from `reward_gap_weight`, [B, X].
        mask: [B, X] bool, true on negatives that exist.
        beta: β, how firmly the policy is held to the reference.
        delta: δ, margin that the positive must keep.
        counts: n_l > 0, how much of one negative each counts for, [B, X]; None: 1 each. As one of Y that share the
            place of one, a negative says more exactly where the mass lies, and pushes no harder.

    Returns:
        The loss of each list, [B]; 0 where it has no negative.
    """
    chosen = beta * (policy_chosen - ref_chosen)
    rejected = beta * (policy_rejected - ref_rejected)
    terms = weights * (rejected - chosen[:, None] + delta)
    if counts is not None:
        terms = terms + counts.log()
    return F.softplus(_existing(terms, mask).logsumexp(dim=-1))


def _existing(terms: Tensor, mask: Tensor) -> Tensor:
    """Terms of a logsumexp, those outside the mask so small that they count for nothing.

    Finite, not -inf: a list in which nothing exists then has gradient 0 rather than NaN.
    """
    return terms.masked_fill(~mask, torch.finfo(terms.dtype).min / 2)


def soft_preference(policy: Tensor, reference: Tensor, shares: Tensor, mask: Tensor, beta: float = 1.0) -> Tensor:
    """S-DPO of a list whose chosen item is drawn with known chances, on average over the draws.

    With all chance on one item it is `listwise_preference` with weights of 1. By Luce's rule p_i ∝ s_i^γ its optimum is
    π_θ ∝ π_ref·s^(γ/β) inside the list: the best mean of log s held to the reference by KL.

    Args:
        policy: log π_θ of the candidates, [B, X].
        reference: log π_ref, [B, X].
        shares: p, the chance of each to be the best, [B, X], each row's sum 1; 0 where there is no candidate.
        mask: [B, X] bool, true on candidates that exist.
        beta: β, how firmly the policy is held to the reference.

    Returns:
        The loss of each list, [B].
    """
    implicit = _existing(beta * (policy - reference), mask)
    return -(shares * implicit.log_softmax(-1)).sum(-1)


def log_mass(policy: Tensor, mask: Tensor) -> Tensor:
    """Log-probability that one of a list's SIDs is written, [B].

    Args:
        policy: log π_θ of the candidates, [B, X].
        mask: [B, X] bool, true on candidates that exist.
    """
    return _existing(policy, mask).logsumexp(-1)


def list_kl(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """KL(π_θ‖π_ref) with all SIDs outside a list taken as one outcome, [B].

    Nothing is sampled: it is exact for that coarser choice, never negative, and never above the KL over all SIDs, since
    merging outcomes can only lose (data processing inequality). What happens inside the merged rest it does not see.

    Args:
        policy: log π_θ of the list's SIDs, which differ, [B, X].
        reference: log π_ref of them, [B, X].
        mask: [B, X] bool, true on those that exist.
    """
    policy, reference = policy.double(), reference.double()
    p, q = (torch.where(mask, logs.exp(), 0.0) for logs in (policy, reference))
    inside = torch.where(mask, p * (policy - reference), 0.0).sum(-1)
    rest_p, rest_q = ((1 - part.sum(-1)).clamp(min=_REST) for part in (p, q))
    return inside + rest_p * (rest_p / rest_q).log()


_REST = 1e-7
"""Least probability of all SIDs outside a list: float32 sums know no less."""
