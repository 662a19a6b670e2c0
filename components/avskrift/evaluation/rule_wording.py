"""Figures in the gate's sentences. They come from files, and may be anything."""

from __future__ import annotations

import math

from avskrift.evaluation.decision import Figure
from avskrift.evaluation.soundness import is_sha256, number

_LONGEST_QUOTE = 80  # characters of a figure that is not one


def shown(value: object) -> Figure:
    """A figure as a JSON value: finite numbers and short texts as they are, anything else in words."""
    if isinstance(value, str):
        return value[:_LONGEST_QUOTE]
    if isinstance(value, (int, float)) and not math.isnan(number(value)):
        return value
    return quote(value)


def quote(value: object) -> str:
    """A value in a sentence. Text is quoted and shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and not isinstance(value, bool) and math.isnan(number(value)):
        return "a number beyond all bounds"
    return value if is_sha256(value) else repr(value)[:_LONGEST_QUOTE]


def percent(rate: object) -> str:
    """A rate in a sentence."""
    value = number(rate)
    return "not a number" if math.isnan(value) else f"{100 * value:.2f} %"


def points(difference: object) -> str:
    """A difference of rates in a sentence, in percentage points with its sign."""
    value = number(difference)
    return "not a number" if math.isnan(value) else f"{100 * value:+.2f}"


def plain(figure: object) -> str:
    """Any other number in a sentence."""
    value = number(figure)
    return "not a number" if math.isnan(value) else f"{value:.4g}"
