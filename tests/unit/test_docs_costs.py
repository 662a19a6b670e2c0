"""The page on costs has what its command prints."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def test_the_table_is_the_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["costs.py"])
    runpy.run_path(str(_ROOT / "benchmarks" / "costs.py"), run_name="__main__")
    page = (_ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- costs -->\n(.*?)\n<!-- /costs -->", page, flags=re.DOTALL)
    assert table == capsys.readouterr().out.strip()
