"""S_Rel, the relevance in the score: how well an item answers a query, whoever asks, from 0 to 1.

    judged     P(grade ≥ g) = σ(a·cos(query, item) − b_g), g = 1, 2, 3;  S_Rel = E[grade]/3 = Σ_g P(grade ≥ g)/3
    otherwise  S_Rel = (1 + cos)/2

The first is the proportional-odds model (McCullagh, 1980), fitted by maximum likelihood with a ridge of 1e-6 on its
parameters, in float64 by L-BFGS. Thresholds are kept in order by their parametrisation, b_{g+1} = b_g + e^{d_g}: a
grade that nobody gave lets two of them meet. Judgments are labels of pairs and no behaviour, so all of a log may be
used; what the fit is worth is measured on queries that it has not seen.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

HIGHEST = 3
FEWEST = 30
"""Judged pairs, of at least two grades, below which the cosine itself is taken."""
_RIDGE = 1e-6
_HELD_OUT = 5  # one query in so many


class Ordinal(NamedTuple):
    """A fitted proportional-odds model."""

    slope: float  # a
    thresholds: tuple[float, ...]  # b_1 ≤ b_2 ≤ b_3


class Judged(NamedTuple):
    """How well a fit on other queries foretells the grades of some."""

    log_loss: float
    accuracy: float  # of the likeliest grade
    num: int


class Relevance(nn.Module):
    """S_Rel of cosines; before it is fitted, (1 + cos)/2."""

    slope: Tensor
    thresholds: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("slope", torch.tensor(torch.nan, dtype=torch.float64))
        self.register_buffer("thresholds", torch.full((HIGHEST,), torch.nan, dtype=torch.float64))

    def take(self, fitted: Ordinal) -> None:
        """Use a fitted model from now on."""
        self.slope.fill_(fitted.slope)
        self.thresholds.copy_(torch.tensor(fitted.thresholds, dtype=torch.float64))

    def forward(self, cosine: Tensor) -> Tensor:
        """Relevance, 0 to 1, of cosines of any shape."""
        at_least = self.slope.to(cosine) * cosine[..., None] - self.thresholds.to(cosine)
        # Both, and no question which: it would make a GPU wait in every step.
        return torch.where(self.slope.isnan(), (1 + cosine) / 2, at_least.sigmoid().mean(-1))


def fit_ordinal(cosine: Tensor, grades: Tensor) -> Ordinal:
    """The proportional-odds model of most likelihood.

    Args:
        cosine: of judged pairs, [J].
        grades: 0 to 3, [J] int64.
    """
    x = cosine.double()
    parameters = torch.tensor([1.0, -1.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)  # a, b_1, d_1, d_2
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        slope, thresholds = _unpacked(parameters)
        loss = negative_log_likelihood(slope, thresholds, x, grades) + _RIDGE * parameters.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():  # Lightning validates without
        optimizer.step(closure)
    slope, thresholds = _unpacked(parameters.detach())
    return Ordinal(float(slope), tuple(thresholds.tolist()))


def negative_log_likelihood(slope: Tensor, thresholds: Tensor, cosine: Tensor, grades: Tensor) -> Tensor:
    """Mean of −log P(grade) of judged pairs."""
    return -log_probabilities(slope, thresholds, cosine).gather(-1, grades[:, None]).mean()


def log_probabilities(slope: Tensor, thresholds: Tensor, cosine: Tensor) -> Tensor:
    """Log P(grade = 0 … 3) of cosines [J]: [J, 4].

    Between two thresholds σ(u) − σ(v) = σ(u)·σ(−v)·(1 − e^{v−u}), which keeps its digits where both are near 0 or 1.
    """
    u = slope * cosine[:, None] - thresholds  # [J, 3], falling
    gap = (thresholds[1:] - thresholds[:-1]).clamp(min=1e-12)
    between = logsigmoid(u[:, :-1]) + logsigmoid(-u[:, 1:]) + torch.log(-torch.expm1(-gap))
    return torch.cat([logsigmoid(-u[:, :1]), between, logsigmoid(u[:, -1:])], dim=1)


def judge(queries: Sequence[str], cosine: Tensor, grades: Tensor) -> Judged | None:
    """How a fit on four fifths of the queries foretells the grades of the rest; None where that cannot be said.

    Args:
        queries: of the judged pairs, [J]: all pairs of a query are on one side.
        cosine: [J].
        grades: [J] int64.
    """
    held = torch.tensor([zlib.crc32(query.encode()) % _HELD_OUT == 0 for query in queries])
    if not held.any() or not is_enough(grades[~held]):
        return None
    fitted = fit_ordinal(cosine[~held], grades[~held])
    thresholds = torch.tensor(fitted.thresholds, dtype=torch.float64)
    logs = log_probabilities(torch.tensor(fitted.slope, dtype=torch.float64), thresholds, cosine[held].double())
    right = (logs.argmax(-1) == grades[held]).double().mean()
    return Judged(-float(logs.gather(-1, grades[held][:, None]).mean()), float(right), int(held.sum()))


def is_enough(grades: Tensor) -> bool:
    """Whether judged pairs can say what a cosine is worth."""
    return len(grades) >= FEWEST and len(grades.unique()) > 1


def _unpacked(parameters: Tensor) -> tuple[Tensor, Tensor]:
    slope, first, *steps = parameters.unbind()
    return slope, torch.stack([first, first + steps[0].exp(), first + steps[0].exp() + steps[1].exp()])
