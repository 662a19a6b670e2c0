import math
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avskrift.pages import (
    ColumnChart,
    Line,
    LineChart,
    Series,
    column_chart,
    figure_cell,
    line_chart,
    listed,
    paragraph,
    section,
    text,
    tick_step,
    visible,
)

FIGURES = st.lists(st.floats(-1e12, 1e12) | st.sampled_from([math.nan, math.inf, -math.inf, 5e-324]), max_size=60)
COUNTS = st.lists(st.integers(0, 10**7), min_size=1, max_size=60)


class _Read(HTMLParser):
    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.title: str | None = None
        self.rects: list[dict[str, str]] = []
        self.lines: list[list[tuple[float, float]]] = []
        self.circles = 0
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.title = dict(attrs).get("title", self.title)
        if tag == "rect":
            self.rects.append({name: value or "" for name, value in attrs})
        if tag == "polyline":
            self.lines.append([tuple(map(float, pair.split(","))) for pair in (dict(attrs)["points"] or "").split()])
        self.circles += tag == "circle"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text())
def test_any_string_is_read_back_as_it_is_visible_in_an_element_and_in_an_attribute(value: str) -> None:
    read = _Read(f'<p title="{text(value)}">{text(value)}</p>')
    assert read.tags == ["p"]
    assert read.text == visible(value)
    assert read.title == visible(value)


@given(st.text(min_size=1), st.text(min_size=1))
def test_parts_of_a_page_hold_any_string_as_text(one: str, two: str) -> None:
    parts = {
        paragraph(one + two): ["p"],
        section(one, paragraph(two)): ["section", "h2", "p"],
        listed([one, two]): ["ul", "li", "li"],
        figure_cell(one, two): ["td", "small"],
    }
    for markup, tags in parts.items():
        read = _Read(markup)
        assert read.tags == tags
        assert read.text == visible(one + two)


@given(st.text())
def test_what_is_visible_stays_so_fits_one_line_and_can_be_written(value: str) -> None:
    shown = visible(value)
    assert visible(shown) == shown
    assert len(shown) == len(value)
    assert not [character for character in shown if unicodedata.category(character) in ("Cc", "Cs")]
    assert shown.encode("utf-8").decode() == shown


@given(st.floats(1e-6, 1e9), st.integers(2, 10))
def test_a_step_divides_its_range_into_few_enough_ticks(largest: float, ticks: int) -> None:
    step = tick_step(largest, ticks=ticks)
    assert largest / step <= ticks
    assert f"{step:.0e}"[0] in "125"


@given(COUNTS, COUNTS)
def test_columns_stay_in_their_chart_and_are_as_high_as_their_values(one: list[int], two: list[int]) -> None:
    length = min(len(one), len(two))
    series = [Series(name=name, css=name, values=values[:length]) for name, values in (("train", one), ("test", two))]
    chart = ColumnChart(label="clips", names=[str(place) for place in range(length)], series=series, marks={0: "0"}, axis="seconds")
    rects = [{name: float(value) for name, value in rect.items() if name != "class"} for rect in _Read(column_chart(chart)).rects]
    values = [value for pair in zip(one, two, strict=False) for value in pair if value]
    assert len(rects) == len(values)
    assert all(rect["x"] >= 46 and rect["x"] + rect["width"] <= 476.1 and 7.9 <= rect["y"] <= 158 for rect in rects)
    scale = max((rect["height"] for rect in rects), default=0) / max(values, default=1)
    assert [rect["height"] for rect in rects] == pytest.approx([value * scale for value in values], abs=0.11)


@given(FIGURES, FIGURES)
def test_lines_stay_in_their_chart_and_go_through_their_finite_points(one: list[float], two: list[float]) -> None:
    lines = [Line(css="train", points=list(enumerate(values)), faint=faint) for values, faint in ((one, True), (two, False))]
    read = _Read(line_chart(LineChart(label="loss", lines=lines, axis="step")))
    finite = [[value for value in values if math.isfinite(value)] for values in (one, two)]
    assert [len(line) for line in read.lines] == [len(values) for values in finite]
    assert all(46 <= x <= 476 and 8 <= y <= 158 for line in read.lines for x, y in line)
    for line, values in zip(read.lines, finite, strict=True):
        heights = [-y for _, (_, y) in sorted(zip(values, line, strict=True))]
        assert heights == sorted(heights)
    assert read.circles == (len(finite[1]) if len(finite[1]) <= 40 else 0)


@given(st.integers(1000, 5000), st.integers(0, 999))
def test_a_spike_in_a_long_line_is_seen(length: int, place: int) -> None:
    points = [(step, 10.0 if step == place else 1.0) for step in range(length)]
    (line,) = _Read(line_chart(LineChart(label="loss", lines=[Line(css="train", points=points)], axis="step"))).lines
    assert len(line) <= 860
    assert [round(y) for _, y in line].count(8) == 1
    assert line == sorted(line, key=lambda point: point[0])
