"""The names of what is measured beside the error rates of a split."""

from __future__ import annotations

from collections.abc import Sequence

from avskrift.errors import UsageError

HALLUCINATION, LONG_FORM, SHORT_CONTEXT, LATENCY = "hallucination", "long-form", "short-context", "latency"
CHECKS = (HALLUCINATION, LONG_FORM, SHORT_CONTEXT, LATENCY)


def read_checks(text: str) -> tuple[str, ...]:
    """The checks named in ``text``, with commas between them; none where it is empty.

    Raises:
        UsageError: a name that is no check's.
    """
    return check_names([name.strip() for name in text.split(",") if name.strip()])


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once, in their usual order.

    Raises:
        UsageError: a name that is no check's.
    """
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise UsageError(f"check {unknown[0]!r} is none of {', '.join(CHECKS)}")
    return tuple(name for name in CHECKS if name in names)
