"""docs/bring-your-own-recordings.md: its example runs as written, and its tables say what the code does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile as sf

from avskrift.audio import decode
from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus import validation
from avskrift.corpus.tables import read_rows
from avskrift.training.windows import LABEL_ROOM, TOKENS_AROUND_A_CLIP

_PAGE = (Path(__file__).parents[2] / "docs" / "bring-your-own-recordings.md").read_text(encoding="utf-8")
_COMMANDS = Path(sys.executable).parent  # where the environment that runs the tests has its `avskrift`


def _block(marker: str, language: str) -> str:
    """The one fenced block that follows the comment which starts with ``marker``."""
    (block,) = re.findall(rf"<!-- {re.escape(marker)}[^\n]*-->\n```{language}\n(.*?)```\n", _PAGE, flags=re.DOTALL)
    return str(block)


def _table(heading: str) -> list[list[str]]:
    """The body rows of the first table under a heading of the second level."""
    section = _PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = next(part for part in section.strip().split("\n\n") if part.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def _names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def _record(folder: Path, names: list[str]) -> None:
    """A tone a second long for each name, each of a pitch of its own: equal recordings would be refused."""
    folder.mkdir()
    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for number, name in enumerate(names):
        sf.write(folder / name, 0.3 * np.sin(2 * np.pi * (200 + 30 * number) * seconds), SAMPLE_RATE)


def _run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{_COMMANDS}{os.pathsep}{os.environ['PATH']}", "AVSKRIFT_HOME": str(folder / "state")}
    return subprocess.run(["bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the recordings of the example."""
    _record(tmp_path / "recordings", re.findall(r"[\w-]+\.wav", _block("recordings of the example", "text")))
    return tmp_path


def test_the_example_runs_as_written_and_prints_what_the_page_says(folder: Path) -> None:
    ended = _run(_block("executed as written", "bash"), folder)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == _block("what it prints", "text")
    assert (folder / "dataset" / "report.html").is_file()


@pytest.mark.parametrize("option", ["--on-missing skip", "--max-rejected 0.2"])
def test_without_one_of_its_options_the_example_stops_with_the_exit_code_of_a_source(folder: Path, option: str) -> None:
    script = _block("executed as written", "bash")
    assert option in script
    ended = _run(script.replace(option, ""), folder)
    assert ended.returncode == 10, ended.stderr
    assert "noise.wav" in ended.stderr
    assert not (folder / "dataset").exists()


def test_every_code_of_a_refused_clip_is_explained_and_no_other() -> None:
    documented = [name for row in _table("What is refused") for name in _names(row[0])]
    assert sorted(documented) == sorted(get_args(validation.Code))


@pytest.mark.parametrize("names", [_names(row[0]) for row in _table("Columns")], ids=lambda names: names[0])
def test_of_the_columns_for_one_thing_the_first_on_the_page_counts_and_each_is_understood(tmp_path: Path, names: list[str]) -> None:
    for last in range(len(names)):
        columns = names[last:]
        others = {"path": "clip.wav", "text": "ord"}
        row = {name: value for name, value in others.items() if name not in names} | {name: f"in {name}" for name in columns}
        table = tmp_path / f"{last}.csv"
        table.write_text(f"{','.join(row)}\n{','.join(row.values())}\n", encoding="utf-8")
        (read,) = read_rows(table)
        assert f"in {columns[0]}" in (read.recording, read.text, *read.optional.values())


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    limits = {row[0]: row[1] for row in _table("What a recording must be")}
    assert limits["length"] == f"{validation.MIN_SECONDS:g} s to {validation.MAX_SECONDS:g} s"
    assert limits["sample rate"].startswith(f"{decode.MIN_RATE:,} to {decode.MAX_RATE:,} Hz")
    assert limits["channels"].startswith(f"at most {decode.MAX_CHANNELS};")
    assert limits["file"] == f"at most {decode.MAX_FILE_BYTES >> 30} GiB"
    assert f"{validation.SILENT_PEAK:g} of full scale" in limits["loudness"]
    assert f"{LABEL_ROOM - TOKENS_AROUND_A_CLIP} tokens" in limits["transcript"]
