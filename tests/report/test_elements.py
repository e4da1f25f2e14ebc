"""The parts of the page: closed, escaped, and the best figure in bold."""

from markupsafe import Markup
from walked import Walked

from onesearch.report.elements import Cell, column, element, table


def test_text_is_escaped_and_markup_is_not():
    assert element("p", "a < b & c", element("b", '"')) == Markup("<p>a &lt; b &amp; c<b>&#34;</b></p>")


def test_attributes_are_escaped_and_named():
    assert element("i", None, "", class_='"><script>', aria_label="x") == (
        '<i class="&#34;&gt;&lt;script&gt;" aria-label="x"></i>'
    )


def test_a_table_scrolls_in_its_own_box():
    """Head and groups of rows, the first cell naming the row."""
    html = table(("a", "b"), [("1", "<")], [("3", "4")])
    walked = Walked(html)
    assert walked.rows == [["a", "b"], ["1", "<"], ["3", "4"]]
    assert walked.tags[:2] == ["div", "table"]
    assert walked.tags.count("tbody") == 2
    assert html.startswith('<div class="scroll"')


def test_the_best_of_a_column_is_what_is_printed_largest():
    """.3 and .30004 are printed alike; where zero is all there is it is the best, and a dash never is."""
    figures = [Cell.of(value, ".3f") for value in (0.3, None, 0.30004, 0.1)]
    assert ["<strong>" in cell for cell in column(figures)] == [True, False, True, False]
    assert column([Cell.of(None, ".3f")]) == ["<span>–</span>"]
    assert column([Cell.of(0.0, ".1f")]) == ["<strong>0.0</strong>"]


def test_an_interval_stands_beneath_its_figure():
    (cell,) = column([Cell.of(0.5, ".2f", 0.25, 0.75)])
    assert cell == "<strong>0.50</strong><small>0.25–0.75</small>"
