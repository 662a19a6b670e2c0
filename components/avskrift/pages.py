"""The pages that people look at: one HTML file each, no scripts, nothing fetched.

Kubeflow shows them in a frame that runs scripts, and a transcript or a file name may hold anything. So every string goes
through :func:`text`, and each page forbids scripts and the network by its content security policy.
"""

from __future__ import annotations

import html
import math
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

NOTHING = "–"

_SHELL = Path(__file__).with_name("page.html")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_EMBEDDED = "; img-src data:; media-src data:"  # what the page itself carries, and nothing else
_UNFIT = ("Cc", "Cs")  # Unicode's control characters and lone surrogates, which HTML or UTF-8 cannot hold
_WHITE = "\t\n\r"
# They turn what follows around, so that one file name reads as another; no word of any language is spelt with them.
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_BAR_LENGTH = 300
_CHART_LEFT, _CHART_WIDTH, _CHART_HEIGHT, _CHART_BASE = 46, 430, 150, 158  # of what is inside the axes, in the units of the SVG
_POINTS_MARKED = 40  # more of them would hide their line
_FLAT = 1e-200  # a range that is smaller has no steps


def document(template: Path, *, title: str, embeds: bool = False, **parts: str) -> str:
    """A whole page around the body in ``template``, filled with ``parts``, which are markup; ``title`` is plain text.

    ``embeds`` lets the page play and show what it carries itself, as ``data:`` URLs.
    """
    body = Template(template.read_text(encoding="utf-8")).substitute(title=text(title), **parts)
    shell = Template(_SHELL.read_text(encoding="utf-8"))
    return shell.substitute(title=text(title), policy=_POLICY + (_EMBEDDED if embeds else ""), body=body.rstrip("\n"))


def text(value: str) -> str:
    """``value`` as text of the page and never as markup, in an element or in a quoted attribute."""
    return html.escape(visible(value), quote=True)


def visible(value: str) -> str:
    """``value`` on one line, with U+FFFD for what cannot be shown or would change how the rest is: control and turning characters."""
    return "".join(map(_visible, value))


def _visible(character: str) -> str:
    if character in _WHITE:
        return " "
    return "\ufffd" if character in _TURNING or unicodedata.category(character) in _UNFIT else character


def table(header: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], *, css: str = "") -> str:
    """Rows of finished cells under headings, each a name and a class; a wide table scrolls by itself."""
    head = "".join(f'<th scope="col" class="{kind}">{text(name)}</th>' for name, kind in header)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    opening = f'<table class="{css}">' if css else "<table>"
    return f'<div class="scroll">{opening}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def cell(value: str) -> str:
    return f"<td>{text(value)}</td>"


def number_cell(value: str) -> str:
    return f'<td class="number">{text(value)}</td>'


def figure_cell(figure: str, remark: str = "") -> str:
    """A figure, and what belongs to it, as its interval, small below."""
    return f'<td class="number">{text(figure)}{f"<small>{text(remark)}</small>" if remark else ""}</td>'


def code_cell(value: str) -> str:
    return f'<td class="code"><code>{text(value) or NOTHING}</code></td>'


def said_cell(value: str, language: str) -> str:
    """What was said or heard, written in ``language`` and in its direction."""
    return f'<td class="said" dir="auto" lang="{text(language)}">{text(value) or NOTHING}</td>'


def bars_cell(bars: Sequence[tuple[str, float | None]], largest: float) -> str:
    """Bars below each other, each a class and a value, as long as the cell where it is ``largest``. Put the figures beside them."""
    height = 18 / len(bars)
    rects = "".join(
        f'<rect class="{css}" x="0" y="{1 + place * height:g}" height="{height - 2:g}" '
        f'width="{round(_BAR_LENGTH * (value or 0) / largest, 1) if largest else 0}"/>'
        for place, (css, value) in enumerate(bars)
    )
    return f'<td class="chart"><svg viewBox="0 0 {_BAR_LENGTH} 20" preserveAspectRatio="none" aria-hidden="true">{rects}</svg></td>'


def cards(shown: Iterable[tuple[str, str, str]]) -> str:
    """Figures that are read first, each with a label above and a remark below."""
    return "".join(
        f'<div class="card"><div class="label">{text(label)}</div><div class="figure">{text(figure)}</div>'
        f'<div class="remark">{text(remark)}</div></div>'
        for label, figure, remark in shown
    )


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """Names with their values, as ``dt`` and ``dd``."""
    return "".join(f"<dt>{text(name)}</dt><dd><code>{text(value) or NOTHING}</code></dd>" for name, value in entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One colour of a chart; ``css`` is the class of ``page.html`` that gives it."""

    name: str
    css: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnChart:
    """Columns, one for each name, with the series piled up in them. ``label`` says in words what the chart shows.

    ``marks`` are the words below the axis by their place: 0 is the left edge of the first column, 1 that of the second.
    """

    label: str
    names: Sequence[str]
    series: Sequence[Series]
    marks: Mapping[float, str]
    axis: str


def column_chart(chart: ColumnChart) -> str:
    """The chart as SVG. Its columns say their values when pointed at; give them as a table as well."""
    totals = [sum(piled) for piled in zip(*(one.values for one in chart.series), strict=True)]
    highest = max(totals, default=0) or 1
    step = tick_step(highest, ticks=4)
    ticks = math.ceil(highest / step - 1e-9)
    width = _CHART_WIDTH / max(len(chart.names), 1)
    columns = "".join(_column(chart, place, width, scale=_CHART_HEIGHT / (ticks * step)) for place in range(len(chart.names)))
    marks = "".join(
        f'<text x="{_CHART_LEFT + place * width:.1f}" y="{_CHART_BASE + 16}" text-anchor="middle">{text(word)}</text>'
        for place, word in chart.marks.items()
    )
    box = f"0 0 {_CHART_LEFT + _CHART_WIDTH + 10} {_CHART_BASE + 38}"
    return (
        f'<svg class="columns" viewBox="{box}" role="img" aria-label="{text(chart.label)}">'
        f"{_grid(0, ticks, step, _tick)}{columns}{marks}"
        f'<text x="{_CHART_LEFT + _CHART_WIDTH / 2}" y="{_CHART_BASE + 34}" text-anchor="middle">{text(chart.axis)}</text></svg>'
    )


def _grid(first: int, last: int, step: float, written: Callable[[float], str]) -> str:
    """Lines across, from ``first`` to ``last`` times ``step``, each with its value at the left."""
    heights = [_CHART_BASE - _CHART_HEIGHT * place / (last - first) for place in range(last - first + 1)]
    return "".join(
        f'<line class="grid" x1="{_CHART_LEFT}" x2="{_CHART_LEFT + _CHART_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_CHART_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text(written(tick * step))}</text>'
        for tick, y in enumerate(heights, start=first)
    )


def _tick(value: float) -> str:
    return f"{value:,.10g}"


def _column(chart: ColumnChart, place: int, width: float, *, scale: float) -> str:
    """One column; ``scale`` is the height of 1."""
    said = ", ".join(f"{one.name} {one.values[place]:,.4g}" for one in chart.series if one.values[place])
    gap = min(2.0, width / 8)
    rects, y = "", float(_CHART_BASE)
    for one in chart.series:
        height = one.values[place] * scale
        y -= height
        if height:
            rects += (
                f'<rect class="{one.css}" x="{_CHART_LEFT + place * width + gap / 2:.1f}" y="{y:.1f}" '
                f'width="{width - gap:.1f}" height="{height:.1f}"/>'
            )
    return f"<g><title>{text(f'{chart.names[place]}: {said or 0}')}</title>{rects}</g>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart, through ``points`` (x, y) in the order of x; ``css`` is the class that gives its colour.

    Points that are not finite are left out. A ``faint`` line is the background of another.
    """

    css: str
    points: Sequence[tuple[float, float]]
    faint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """Lines over an ``axis`` of whole numbers from 0. ``label`` says in words what the chart shows; ``written`` writes a value."""

    label: str
    lines: Sequence[Line]
    axis: str
    written: Callable[[float], str] = _tick


def line_chart(chart: LineChart) -> str:
    """The chart as SVG, 0 always in it. The points of a short line are marked and say their values when pointed at."""
    lines = [(line, [point for point in line.points if all(map(math.isfinite, point))]) for line in chart.lines]
    values = [y for _, points in lines for _, y in points]
    low, high = min([0.0, *values]), max([0.0, *values])
    if high - low < _FLAT:
        high = low + 1
    step = tick_step(high - low, ticks=4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    right = max((x for _, points in lines for x, _ in points), default=0) or 1

    def at(x: float, y: float) -> tuple[float, float]:
        return _CHART_LEFT + _CHART_WIDTH * x / right, _CHART_BASE - _CHART_HEIGHT * (y / step - first) / (last - first)

    drawn = "".join(_drawn(chart, line, points, at) for line, points in lines)
    box = f"0 0 {_CHART_LEFT + _CHART_WIDTH + 10} {_CHART_BASE + 38}"
    return (
        f'<svg class="columns" viewBox="{box}" role="img" aria-label="{text(chart.label)}">'
        f"{_grid(first, last, step, chart.written)}{drawn}{_marks_below(right)}"
        f'<text x="{_CHART_LEFT + _CHART_WIDTH / 2}" y="{_CHART_BASE + 34}" text-anchor="middle">{text(chart.axis)}</text></svg>'
    )


def _drawn(chart: LineChart, line: Line, points: Sequence[tuple[float, float]], at: Callable[[float, float], tuple[float, float]]) -> str:
    path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in _thinned(points))
    opacity = ' stroke-opacity="0.35"' if line.faint else ""
    circles = ""
    if len(points) <= _POINTS_MARKED and not line.faint:
        circles = "".join(
            '<circle cx="{:.1f}" cy="{:.1f}" r="3.5">'.format(*at(x, y))
            + f"<title>{text(f'{chart.axis} {x:,.10g}: {chart.written(y)}')}</title></circle>"
            for x, y in points
        )
    # The class fills what carries it, so it stands around the line, which is to be drawn and not filled.
    return f'<g class="{line.css}"><polyline fill="none" stroke="currentColor" stroke-width="1.8"{opacity} points="{path}"/>{circles}</g>'


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most two points for each unit of the chart's width, the lowest and the highest there: no spike goes unseen."""
    if len(points) <= 2 * _CHART_WIDTH:
        return list(points)
    kept: list[tuple[float, float]] = []
    for place in range(_CHART_WIDTH):
        inside = range(place * len(points) // _CHART_WIDTH, (place + 1) * len(points) // _CHART_WIDTH)
        ends = {min(inside, key=lambda number: points[number][1]), max(inside, key=lambda number: points[number][1])}
        kept += [points[number] for number in sorted(ends)]
    return kept


def _marks_below(right: float) -> str:
    """The words below an axis from 0 to ``right``."""
    step = max(1.0, tick_step(right, ticks=5))
    places = [step * number for number in range(math.floor(right / step + 1e-9) + 1)]
    return "".join(
        f'<text x="{_CHART_LEFT + _CHART_WIDTH * x / right:.1f}" y="{_CHART_BASE + 16}" '
        f'text-anchor="{"end" if x > 0.94 * right else "middle"}">{text(_tick(x))}</text>'
        for x in places
    )


def legend(series: Iterable[Series]) -> str:
    """Which colour is which."""
    return '<p class="legend">' + "".join(f'<span><i class="{one.css}"></i>{text(one.name)}</span>' for one in series) + "</p>"


def section(heading: str, *content: str) -> str:
    """Markup under a heading."""
    return f"<section><h2>{text(heading)}</h2>{''.join(content)}</section>"


def paragraph(value: str, css: str = "") -> str:
    return f'<p class="{css}">{text(value)}</p>' if css else f"<p>{text(value)}</p>"


def listed(values: Iterable[str]) -> str:
    """Sentences below each other."""
    return f"<ul>{''.join(f'<li>{text(value)}</li>' for value in values)}</ul>"


def player(flac: bytes, name: str) -> str:
    """A player of the bytes of a FLAC file; the page must be a :func:`document` that embeds."""
    return f'<audio controls preload="none" aria-label="{text(name)}" src="data:audio/flac;base64,{b64encode(flac).decode()}"></audio>'


def folded(summary: str, content: str, *, unfolded: bool = False) -> str:
    """Markup that a reader opens when it is wanted, or closes where it stands ``unfolded``."""
    return f"<details{' open' if unfolded else ''}><summary>{text(summary)}</summary>{content}</details>"


def tick_step(largest: float, *, ticks: int = 6) -> float:
    """The step of 1, 2 or 5 times a power of ten that divides [0, ``largest``] into at most ``ticks``."""
    power = 10.0 ** math.floor(math.log10(largest / ticks))
    return next(power * factor for factor in (1, 2, 5, 10) if largest / (power * factor) <= ticks)


def percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.1f} %"


def length(hours: float) -> str:
    """How long, in the unit that suits it."""
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
