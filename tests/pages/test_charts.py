"""Line and bar charts: everything is drawn in the right place."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from tunit.pages.charts import HEIGHT, POINTS, WIDTH, bar_chart, line_chart, number


def lines_of(text):
    svg = re.search(r"<svg.*?</svg>", text, re.S).group()
    tree = ET.fromstring(svg)
    return [
        np.array([[float(v) for v in p.split(",")] for p in line.get("points").split()])
        for line in tree.iter("polyline")
    ]


def test_points_are_inside_the_frame_and_rise_with_the_values():
    (line,) = lines_of(line_chart("loss", [("a", [0, 5, 10], [1.0, 3.0, 2.0])]))
    assert (line >= 0).all()
    assert (line[:, 0] <= WIDTH).all()
    assert (line[:, 1] <= HEIGHT).all()
    assert np.diff(line[:, 0]) == pytest.approx([line[1, 0] - line[0, 0]] * 2)
    assert line[1, 1] < line[2, 1] < line[0, 1]  # the y axis points down


def test_long_series_are_averaged_to_fewer_points_with_the_same_mean():
    values = np.random.default_rng(0).normal(size=5000)
    (line,) = lines_of(line_chart("loss", [("a", np.arange(5000), values)]))
    assert len(line) == POINTS


def test_values_that_are_not_finite_are_left_out_and_an_empty_chart_is_not_drawn():
    (line,) = lines_of(line_chart("loss", [("a", [1, 2, 3], [1.0, float("nan"), 2.0])]))
    assert len(line) == 2
    assert line_chart("loss", [("a", [1], [float("nan")])]) == ""
    assert len(lines_of(line_chart("one point", [("a", [3], [0.0])]))) == 1


@pytest.mark.parametrize("value", [1e16, -1e17, 1e200])
def test_a_large_value_that_does_not_change_is_a_level_line(value):
    (line,) = lines_of(line_chart("loss", [("a", [1, 2, 3], [value] * 3)]))
    assert np.isfinite(line).all()
    assert (line[:, 1] == line[0, 1]).all()
    assert 0 < line[0, 1] < HEIGHT


def test_a_long_series_that_does_not_change_is_a_level_line():
    (line,) = lines_of(line_chart("weight", [("a", np.arange(1100), np.full(1100, 0.1))]))
    assert (line[:, 1] == line[0, 1]).all()
    assert 0 < line[0, 1] < HEIGHT


def test_values_whose_difference_is_not_finite_are_left_out():
    (line,) = lines_of(line_chart("loss", [("a", [1, 2, 3, 4], [1.0, 1e308, -1e308, 2.0])]))
    assert len(line) == 2
    assert np.isfinite(line).all()


def test_a_line_keeps_its_colour_if_another_one_has_no_points():
    text = line_chart("loss", [("a", [], []), ("b", [1, 2], [1, 2]), ("c", [1, 2], [1, 3])])
    assert re.findall(r"line (s\d)", text) == re.findall(r"swatch (s\d)", text) == ["s1", "s2"]


def test_titles_are_escaped():
    text = line_chart("<b>", [('"x"', [1, 2], [1, 2])])
    assert "<b>" not in text
    assert "&lt;b&gt;" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1,234"),
        (999.7, "1,000"),
        (-999.7, "-1,000"),
        (999.4, "999"),
        (0.3456, "0.346"),
        (2.1e-5, "2.1e-05"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize("length", [3, 24, 25, 45, 200])
def test_a_long_name_of_a_row_leaves_room_for_its_bar(length):
    name = "m" * length
    svg = re.search(r"<svg.*?</svg>", bar_chart("FID", [(name, [3.0, 5.0]), ("b", [8.0])]), re.S).group()
    tree = ET.fromstring(svg)
    first, second = (float(bar.get("width")) for bar in tree.iter("rect"))
    assert first == pytest.approx(second / 2, abs=0.1)
    assert second > 80
    places = [(float(text.get("x")), text.get("text-anchor"), len(text.text)) for text in tree.iter("text")]
    for x, anchor, letters in places:
        assert (x >= 6.2 * letters if anchor else x + 6.2 * letters <= WIDTH) and 0 <= x <= WIDTH
    assert [text.find("title").text for text in tree.iter("text") if text.get("text-anchor")] == [name, "b"]


def test_bar_lengths_are_values_with_a_line_for_the_spread_over_seeds():
    chart = bar_chart("t", [("a", [20.0]), ("b", [30.0, 50.0]), ("none", [])])
    svg = ET.fromstring(chart[chart.index("<svg") : chart.index("</svg>") + 6])
    widths = [float(bar.get("width")) for bar in svg.iter("rect")]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    (line,) = svg.iter("line")
    start = float(next(iter(svg.iter("rect"))).get("x"))
    assert (float(line.get("x2")) - start) == pytest.approx(widths[1] * 50 / 40, abs=0.2)
    assert (float(line.get("x1")) - start) == pytest.approx(widths[1] * 30 / 40, abs=0.2)
    assert bar_chart("t", []) == ""
