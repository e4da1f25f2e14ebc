"""The gate's figures in the terminal."""

import io

import numpy as np
from rich.console import Console

from onesearch.metrics.preference_gate import (
    JudgedBeam,
    PairColumns,
    beam_figures,
    invalid_figures,
    judge,
    list_figures,
)
from onesearch.report.preferences import histogram, show_gate


def shown(figures, problems=()):
    out = io.StringIO()
    show_gate(figures, problems, Console(file=out, width=80, markup=False, highlight=False))
    return out.getvalue()


PAIRS = PairColumns(
    np.array([0, 0, 1]), np.array([0.5, 0.1, 0.2]), np.array([2.0, 3.0, 3.0]), np.array([-2.0, -2, -4]), -np.ones(3)
)
NONE = invalid_figures(np.empty(0), 2)


def test_figures_margins_and_problems():
    """Two lists from eight searches; the reward model has put the click of its one beam first."""
    figures = {"num_searches": 8} | list_figures(PAIRS, 1, 3.0) | invalid_figures(np.array([-7.5]), 2)
    beam = JudgedBeam("validation", "u", judge(np.array([0.1, 0.9]), np.array([False, True])))
    text = shown(figures | beam_figures([beam]), ["the reward model is no good."])
    for line in (
        "2 / 8",
        "33.3%",
        "0.50",
        "-7.5 -7.5 -7.5",
        "clicked above others, validation",
        "100.0% (0.0%–100.0%)",
        "1 / 0",
    ):
        assert line in text
    assert text.rstrip().endswith("• the reward model is no good.")


def test_lists_without_beams_have_no_agreement():
    text = shown({"num_searches": 8} | list_figures(PAIRS, 0, 3.0) | NONE)
    assert "clicked" not in text and "log π_ref of SIDs of no item" not in text


def test_soft_lists_show_no_weights():
    text = shown({"num_searches": 8} | list_figures(PAIRS._replace(weights=None, reward_gaps=None), 0, 3.0) | NONE)
    assert "weight" not in text and "reward gap" not in text
    assert "log π_ref(chosen)/π_ref(rejected)" in text


def test_a_histogram_shows_whatever_there_is():
    """Eighths of the largest, rounded up: 1 of 100 is seen, 0 is not."""
    assert histogram([0, 1, 50, 100]) == " ▁▄█"
