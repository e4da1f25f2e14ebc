"""Figures inside the page, and what they draw."""

import re

import pytest
from walked import Walked

from onesearch.report.charts import INK, LINE, svg
from onesearch.report.usage import binned, bucket_histogram, curve, usage_curves
from onesearch.sid.spec import SidSpec

SPEC = SidSpec((4,), (2,))
CURVES = usage_curves([[6, 2, 0, 0], [4, 4]], SPEC, 8)


def test_a_figure_is_well_formed_text_in_the_colours_of_the_page():
    """Words stay words; the placeholders are gone; the size is the page's to set."""
    walked = Walked(CURVES)
    assert {"level 1, 4 codes", "level 2, 2 codes"} <= {text.strip() for text in walked.text}
    assert "currentColor" in CURVES
    assert "var(--line)" in CURVES
    assert not {INK, LINE} & set(re.findall(r"#[0-9a-fA-F]{6}", CURVES))
    assert "<style" not in CURVES
    assert not re.search(r'<svg[^>]* (width|height)="', CURVES)
    assert re.search(r'<svg[^>]* viewBox="', CURVES)


def test_captions_are_escaped():
    html = svg(lambda axes: None, "a < b")
    assert "<figcaption>a &lt; b</figcaption>" in html


def test_two_figures_share_no_id():
    """Or one would be clipped by the other's frame."""
    other = Walked(bucket_histogram({1: 8}))
    first = Walked(CURVES)
    assert first.ids
    assert other.ids
    assert not set(first.ids) & set(other.ids)


def test_drawing_again_gives_the_same_text():
    assert usage_curves([[6, 2, 0, 0], [4, 4]], SPEC, 8) == CURVES


def test_a_curve_ends_where_codes_are_unused():
    """8 items over 4 codes are 2 each: 6 is three times that, 2 is even."""
    assert curve([6, 2, 0, 0], 4, 8) == ([0.25, 0.5], [3.0, 1.0])


def test_a_sampled_curve_knows_the_ranks_of_its_points():
    """Three points of 9 codes are the ranks 1, 5 and 9 of 9; 18 items are 2 a code."""
    shares, times = curve([10, 2, 1], 9, 18)
    assert shares == pytest.approx([1 / 9, 5 / 9, 1])
    assert times == pytest.approx([5, 1, 0.5])


@pytest.mark.parametrize(
    ("sizes", "bins"),
    [
        ({1: 7}, {"1": 7}),
        ({1: 7, 3: 2}, {"1": 7, "2": 0, "3": 2}),
        ({2: 1, 5: 3, 8: 4, 9: 5}, {"1": 0, "2": 1, "3": 0, "4": 0, "5–8": 7, "9–16": 5}),
        (
            {1024: 1},
            {"1": 0, "2": 0, "3": 0, "4": 0, "5–8": 0, "9–16": 0, "17–32": 0, "33–64": 0, "65–128": 0}
            | {"129–256": 0, "257–512": 0, "513–1,024": 1},
        ),
    ],
)
def test_large_buckets_are_counted_in_doublings(sizes, bins):
    assert binned(sizes) == bins
