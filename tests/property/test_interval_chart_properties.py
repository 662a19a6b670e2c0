import math
import re

import pytest
from html_page import Page
from hypothesis import given
from hypothesis import strategies as st

from avskrift.evaluation.interval_chart import Interval, IntervalChart, interval_chart

FIGURES = st.floats(0, 1e12) | st.sampled_from([0.0, 5e-324, 0.07, 1.155, math.nan, math.inf])
INTERVALS = st.builds(
    lambda name, mark, figures: Interval(name=name, css="after", mark=mark, low=figures[0], value=figures[1], high=figures[2]),
    st.text(max_size=5),
    st.sampled_from(["square", "circle", "diamond"]),
    st.tuples(FIGURES, FIGURES, FIGURES).map(sorted),
)
GROUPS = st.lists(st.tuples(st.text(max_size=30), st.lists(INTERVALS, max_size=3)), max_size=6)


def drawn(groups: list[tuple[str, list[Interval]]], *, by_itself: bool = False) -> str:
    chart = IntervalChart(label="WER", groups=groups, written=lambda rate: f"{rate:.3g}", tick=lambda rate: f"{rate:g}")
    return interval_chart(chart, by_itself=by_itself)


@given(GROUPS, st.booleans())
def test_every_finite_interval_is_drawn_within_the_chart_from_its_low_end_to_its_high(
    groups: list[tuple[str, list[Interval]]], by_itself: bool
) -> None:
    svg = drawn(groups, by_itself=by_itself)
    finite = [one for _, inside in groups for one in inside if one.finite]
    lines = re.findall(r'stroke-width="2.5" x1="(.*?)" x2="(.*?)" y1="(.*?)"', svg)
    highest = max((one.high for one in finite if one.high > 1e-200), default=1.0)
    assert len(lines) == len(finite)
    for one, (low, high, _) in zip(finite, lines, strict=True):
        assert 124 <= float(low) <= float(high) <= 454
        assert float(high) - float(low) <= 330 * (one.high - one.low) / highest + 0.11
    assert len({y for *_, y in lines}) == len(lines)


@given(GROUPS)
def test_names_are_text_and_every_tag_is_closed(groups: list[tuple[str, list[Interval]]]) -> None:
    assert Page(drawn(groups, by_itself=True)).tags <= {"svg", "style", "g", "title", "text", "line", "circle", "rect"}


def test_an_interval_twice_as_far_is_drawn_twice_as_far() -> None:
    near, far = (Interval(name="a", css="after", mark="circle", low=0.0, value=value, high=0.5) for value in (0.2, 0.4))
    places = [float(place) - 124 for place in re.findall(r'<circle cx="(.*?)"', drawn([("near", [near]), ("far", [far])]))]
    assert places[1] == pytest.approx(2 * places[0])


def test_a_chart_names_its_marks_only_where_a_group_holds_several() -> None:
    one, two = (Interval(name=name, css="after", mark="circle", low=0.1, value=0.2, high=0.3) for name in ("one", "two"))
    assert ">two<" not in drawn([("first", [one]), ("second", [two])])
    assert ">two<" in drawn([("first", [one, two])])
