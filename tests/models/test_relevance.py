"""The relevance of the score: proportional odds against a generic optimiser, and by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from onesearch.models.relevance import Ordinal, Relevance, fit_ordinal, is_enough, judge, log_probabilities


def drawn(slope, thresholds, num=600, seed=0):
    """Pairs whose grades follow the model: u uniform, grade = how many thresholds a·cos + logistic noise exceeds."""
    rng = np.random.default_rng(seed)
    cosine = rng.uniform(-0.2, 1.0, num)
    grades = (slope * cosine[:, None] + rng.logistic(size=(num, 1)) > np.array(thresholds)).sum(1)
    return torch.tensor(cosine), torch.tensor(grades)


def negative_log_likelihood(parameters, cosine, grades):
    """By the definition, P(g) = P(≥ g) − P(≥ g + 1), in numpy."""
    slope, thresholds = parameters[0], parameters[1:]
    at_least = 1 / (1 + np.exp(-(slope * cosine[:, None] - thresholds)))
    at_least = np.concatenate([np.ones((len(cosine), 1)), at_least, np.zeros((len(cosine), 1))], 1)
    chance = (at_least[:, :-1] - at_least[:, 1:])[np.arange(len(grades)), grades]
    return -np.log(np.maximum(chance, 1e-300)).mean()


def test_the_fit_equals_a_generic_optimisers():
    """Nelder and Mead over the likelihood as defined, from the truth; the ridge moves the third digit at most."""
    cosine, grades = drawn(8.0, (1.0, 3.0, 5.0))
    start, arguments = np.array([8.0, 1.0, 3.0, 5.0]), (cosine.numpy(), grades.numpy())
    options = {"xatol": 1e-8, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000}
    theirs = minimize(negative_log_likelihood, start, arguments, "Nelder-Mead", options=options)
    ours = fit_ordinal(cosine, grades)
    assert theirs.success
    assert (ours.slope, *ours.thresholds) == pytest.approx(theirs.x, rel=5e-3)
    assert ours.slope == pytest.approx(8, rel=0.15)
    found = negative_log_likelihood(np.array([ours.slope, *ours.thresholds]), *arguments)
    assert found == pytest.approx(theirs.fun, abs=1e-6)


def test_probabilities_are_those_of_the_definition_and_sum_to_one():
    cosine, slope, thresholds = torch.linspace(-1, 1, 9).double(), torch.tensor(6.0), torch.tensor([0.5, 2.0, 2.5])
    logs = log_probabilities(slope.double(), thresholds.double(), cosine)
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(9).double())
    grades = torch.arange(9) % 4
    want = negative_log_likelihood(np.array([6.0, 0.5, 2.0, 2.5]), cosine.numpy(), grades.numpy())
    assert -logs.gather(-1, grades[:, None]).mean().item() == pytest.approx(want)


def test_a_grade_that_nobody_gave():
    """Grades 0 and 3 alone: thresholds meet, 1 and 2 are all but impossible, and the rest is logistic regression."""
    cosine, grades = drawn(6.0, (2.0, 2.0, 2.0))
    assert set(grades.tolist()) == {0, 3}
    fitted = fit_ordinal(cosine, grades)
    logs = log_probabilities(torch.tensor(fitted.slope), torch.tensor(fitted.thresholds), cosine)
    assert logs[:, 1:3].exp().max() < 0.05


def test_relevance_by_hand():
    """cos .5, a = 4, b = (1, 2, 3): (σ(1) + σ(0) + σ(−1))/3 = ½; not fitted, (1 + cos)/2."""
    relevance = Relevance()
    assert relevance(torch.tensor([-1.0, 0.5])).tolist() == [0, 0.75]
    relevance.take(Ordinal(4.0, (1.0, 2.0, 3.0)))
    one = 1 / (1 + math.exp(-1))
    assert relevance(torch.tensor([0.5, 1.0]))[0].item() == pytest.approx((one + 0.5 + 1 - one) / 3)
    assert relevance(torch.tensor([0.5, 0.9])).diff() > 0


def test_a_fit_is_judged_on_queries_that_it_has_not_seen():
    """What cosines tell of the grades, they tell on other queries: far better than the four grades' own shares."""
    cosine, grades = drawn(20.0, (5.0, 10.0, 15.0), num=1000)
    queries = [f"query {number // 5}" for number in range(1000)]
    found = judge(queries, cosine, grades)
    assert 100 < found.num < 300 and found.num % 5 == 0
    shares = grades.bincount() / 1000
    assert found.log_loss < 0.8 * float(-(shares * shares.log()).sum())
    assert found.accuracy > 0.6
    assert judge(["one"] * 1000, cosine, grades) is None


def test_few_judgments_are_not_enough():
    assert not is_enough(torch.tensor([0, 3] * 14))
    assert is_enough(torch.tensor([0, 3] * 15))
    assert not is_enough(torch.full((100,), 3))
