"""A chart of intervals, as SVG: on one of the :mod:`avskrift.pages`, or a file by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from avskrift import pages

_LEFT, _WIDTH, _RIGHT = 124, 330, 70  # names, what is inside the axes, figures
_STEP, _GROUP_GAP = 20, 10  # heights
_LEGEND_STEP, _LEGEND_HEIGHT = 110, 22
_FLAT = 1e-200  # a range that is smaller has no steps
_MARGIN = 12  # around a picture by itself
_LONGEST_NAME = 17  # characters that fit at the left
# A picture by itself has no page around it to colour it, and may be shown on any ground.
_PICTURE_STYLE = (
    "text{fill:#444c56;font:12px system-ui,sans-serif}.grid{stroke:#dde1e6}.ground{fill:#fff}"
    ".before{fill:#727d8a;stroke:#727d8a}.after{fill:#1f6feb;stroke:#1f6feb}.other{fill:#c2740c;stroke:#c2740c}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure between the ends of its interval. ``css`` gives its colour, ``mark`` its shape: square, circle or diamond."""

    name: str
    css: str
    mark: str
    low: float
    value: float
    high: float

    @property
    def finite(self) -> bool:
        return all(map(math.isfinite, (self.low, self.value, self.high)))


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalChart:
    """Groups of intervals below each other, each with its name, on one axis from 0.

    ``label`` says in words what the chart shows; ``written`` writes a value, ``tick`` one of the round values of the axis. What is
    not finite is left out.
    """

    label: str
    groups: Sequence[tuple[str, Sequence[Interval]]]
    written: Callable[[float], str]
    tick: Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    step: float
    ticks: int

    def x(self, value: float) -> float:
        return _LEFT + _WIDTH * max(value, 0.0) / (self.ticks * self.step)


def interval_chart(chart: IntervalChart, *, by_itself: bool = False) -> str:
    """The chart as SVG, each interval with its figure; ``by_itself`` as a whole file rather than for one of our pages."""
    groups = [(name, [one for one in inside if one.finite]) for name, inside in chart.groups]
    names = {one.name: one for _, inside in groups for one in inside} if any(len(inside) > 1 for _, inside in groups) else {}
    axis, top = _axis(groups), _LEGEND_HEIGHT if names else 0
    drawn, bottom = _rows(chart, groups, axis, top)
    content = f"{_grid(chart, axis, top, bottom)}{_legend(names.values())}{drawn}"
    width, height = _LEFT + _WIDTH + _RIGHT, bottom + 24
    described = f'role="img" aria-label="{pages.text(chart.label)}"'
    if by_itself:
        return _picture(content, width, height, described)
    return f'<svg class="intervals" viewBox="0 0 {width} {height}" {described}>{content}</svg>'


def _picture(content: str, width: float, height: float, described: str) -> str:
    """A whole file, with a ground of its own around the chart."""
    whole = f'width="{width + 2 * _MARGIN}" height="{height + 2 * _MARGIN}"'
    box = f"{-_MARGIN} {-_MARGIN} {width + 2 * _MARGIN} {height + 2 * _MARGIN}"
    ground = f'<style>{_PICTURE_STYLE}</style><rect class="ground" x="{-_MARGIN}" y="{-_MARGIN}" {whole}/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" {whole} {described}>{ground}{content}</svg>'


def _axis(groups: Iterable[tuple[str, Sequence[Interval]]]) -> _Axis:
    largest = max((one.high for _, inside in groups for one in inside if one.high > _FLAT), default=1.0)
    step = pages.tick_step(largest, ticks=5)
    return _Axis(step=step, ticks=max(math.ceil(largest / step - 1e-9), 1))


def _grid(chart: IntervalChart, axis: _Axis, top: float, bottom: float) -> str:
    places = [(axis.step * tick, axis.x(axis.step * tick)) for tick in range(axis.ticks + 1)]
    return "".join(
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{pages.text(chart.tick(value))}</text>'
        for value, x in places
    )


def _rows(chart: IntervalChart, groups: Iterable[tuple[str, Sequence[Interval]]], axis: _Axis, top: float) -> tuple[str, float]:
    """The drawn groups, and where they end."""
    drawn, y = "", top
    for name, inside in groups:
        height = _GROUP_GAP + _STEP * max(len(inside), 1)
        short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
        drawn += f'<text x="0" y="{y + height / 2 + 4:g}">{pages.text(short)}<title>{pages.text(name)}</title></text>'
        for place, one in enumerate(inside):
            drawn += _row(chart, name, one, axis, y + _GROUP_GAP / 2 + _STEP * (place + 0.5))
        y += height
    return drawn, y


def _row(chart: IntervalChart, group: str, one: Interval, axis: _Axis, y: float) -> str:
    said = f"{group}, {one.name}: {chart.written(one.value)}, {chart.written(one.low)} to {chart.written(one.high)}"
    return (
        f'<g class="{one.css}"><title>{pages.text(said)}</title>'
        f'<line stroke-width="2.5" x1="{axis.x(one.low):.1f}" x2="{axis.x(one.high):.1f}" y1="{y:g}" y2="{y:g}"/>'
        f"{_mark(one.mark, axis.x(one.value), y)}</g>"
        f'<text x="{_LEFT + _WIDTH + 12}" y="{y + 4:g}">{pages.text(chart.written(one.value))}</text>'
    )


def _mark(shape: str, x: float, y: float) -> str:
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:g}" r="5"/>'
    turned = f' transform="rotate(45 {x:.1f} {y:g})"' if shape == "diamond" else ""
    return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:g}" width="9" height="9"{turned}/>'


def _legend(shown: Iterable[Interval]) -> str:
    """Which mark is whose, along the top."""
    return "".join(
        f'<g class="{one.css}">{_mark(one.mark, _LEFT + 6 + place * _LEGEND_STEP, 9)}</g>'
        f'<text x="{_LEFT + 18 + place * _LEGEND_STEP}" y="13">{pages.text(one.name)}</text>'
        for place, one in enumerate(shown)
    )
