"""docs/errors.md lists the error tree as it is."""

from __future__ import annotations

import re
from pathlib import Path

from avskrift import errors

_PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
_ROW = re.compile(r"\| (?P<code>\d+) \| `(?P<name>\w+)` \| (?P<status>\d+) \| (?P<retryable>yes|no) \| (?P<meaning>.+) \|")
Entry = tuple[int, str, int, bool]


def _documented() -> list[Entry]:
    rows = [_ROW.fullmatch(line) for line in _PAGE.read_text(encoding="utf-8").splitlines()]
    return [(int(row["code"]), row["name"], int(row["status"]), row["retryable"] == "yes") for row in rows if row]


def _tree() -> list[Entry]:
    """The classes of errors.py itself: a test may have made subclasses of its own."""
    ours = [cls for cls in errors.every_error() if cls.__module__ == errors.__name__]
    return [(cls.exit_code, cls.__name__, cls.http_status, cls.retryable) for cls in ours]


def test_the_page_lists_every_error_with_its_numbers_in_the_order_of_exit_codes_and_no_other() -> None:
    assert _documented() == _tree()


def test_every_exit_code_stands_for_one_class() -> None:
    codes = [code for code, *_ in _tree()]
    assert len(codes) == len(set(codes))
