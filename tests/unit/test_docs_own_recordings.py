"""The pages about sources: their examples run as written, and their tables say what the code does."""

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
from common_voice import NAMES, Plan, write_release

from avskrift.audio import decode
from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.limited_child import Limits
from avskrift.corpus import entries, staging, validation
from avskrift.corpus.dataset import MAX_WEIGHT
from avskrift.corpus.sources import columns
from avskrift.corpus.sources.commonvoice.index import SPLIT_TABLES, VALIDATED_TABLE
from avskrift.corpus.sources.tables import read_rows
from avskrift.errors import OverlapError
from avskrift.training.windows import LABEL_ROOM, TOKENS_AROUND_A_CLIP

_DOCS = Path(__file__).parents[2] / "docs"
_OWN = (_DOCS / "bring-your-own-recordings.md").read_text(encoding="utf-8")
_COMMON_VOICE = (_DOCS / "common-voice.md").read_text(encoding="utf-8")
_COMMANDS = Path(sys.executable).parent  # where the environment that runs the tests has its `avskrift`
_PLANS = {
    "17.0": Plan(train=60, validation=20, test=20, remainder=0),
    "25.0": Plan(train=120, validation=40, test=40, remainder=80, broken=1),
}


def _block(page: str, marker: str, language: str) -> str:
    """The one fenced block that follows the comment which starts with ``marker``."""
    (block,) = re.findall(rf"<!-- {re.escape(marker)}[^\n]*-->\n```{language}\n(.*?)```\n", page, flags=re.DOTALL)
    return str(block)


def _table(page: str, heading: str, number: int = 0) -> list[list[str]]:
    """The body rows of a table, counted from 0, under a heading of the second level."""
    section = page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    tables = [part for part in section.strip().split("\n\n") if part.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in tables[number].splitlines()[2:]]


def _names(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


def _plain(text: str) -> str:
    """Without the spaces at line ends that no page keeps."""
    return "\n".join(line.rstrip() for line in text.splitlines())


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
    _record(tmp_path / "recordings", re.findall(r"[\w-]+\.wav", _block(_OWN, "recordings of the example", "text")))
    return tmp_path


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the releases of Common Voice that the page names."""
    folder = tmp_path_factory.mktemp("releases")
    for name in _block(_COMMON_VOICE, "releases of the examples", "text").split():
        release = next(release for release in _PLANS if name == f"{NAMES[release]}-sv-SE.tar.gz")
        write_release(folder / name, plan=_PLANS[release], release=release, tables_first=False)
    return folder


def test_the_example_runs_as_written_and_prints_what_the_page_says(folder: Path) -> None:
    ended = _run(_block(_OWN, "executed as written", "bash"), folder)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == _block(_OWN, "what it prints", "text")
    assert (folder / "dataset" / "report.html").is_file()


@pytest.mark.parametrize("option", ["--on-missing skip", "--max-rejected 0.2"])
def test_without_one_of_its_options_the_example_stops_with_the_exit_code_of_a_source(folder: Path, option: str) -> None:
    script = _block(_OWN, "executed as written", "bash")
    assert option in script
    ended = _run(script.replace(option, ""), folder)
    assert ended.returncode == 10, ended.stderr
    assert "noise.wav" in ended.stderr
    assert not (folder / "dataset").exists()


def test_the_example_of_a_leak_is_refused_as_the_page_says_and_held_back_where_that_is_asked_for(folder: Path) -> None:
    script = _block(_OWN, "a leak", "bash")
    ended = _run(script, folder)
    assert ended.returncode == OverlapError.exit_code
    assert f"exit code {OverlapError.exit_code}" in _OWN
    assert ended.stderr.endswith(_block(_OWN, "what it says of the leak", "text"))
    held_back = _run(f"{script.rstrip()} --on-overlap hold-back", folder)
    assert "rejected        1 clips  speaker_in_test 1\n" in held_back.stdout, held_back.stderr


def test_the_example_of_common_voice_runs_as_written_and_inspect_begins_as_the_page_says(releases: Path) -> None:
    ended = _run(_block(_COMMON_VOICE, "executed as written", "bash"), releases)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == _block(_COMMON_VOICE, "what it prints", "text")
    shown = _run("avskrift inspect cv25", releases)
    assert _plain(shown.stdout).startswith(_plain(_block(_COMMON_VOICE, "what inspect begins with", "text"))), shown.stderr


def test_the_example_with_an_older_release_runs_as_written_and_prints_what_the_page_says(releases: Path) -> None:
    ended = _run(_block(_COMMON_VOICE, "also executed as written", "bash"), releases)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == _block(_COMMON_VOICE, "what that prints", "text")


def test_every_code_is_explained_and_no_other_and_those_that_are_held_back_apart() -> None:
    refused, held_back = (
        [name for row in _table(_OWN, heading) for name in _names(row[0])] for heading in ("What is refused", "What is held back")
    )
    assert sorted(held_back) == sorted(validation.HELD_BACK)
    assert sorted([*refused, *held_back]) == sorted(get_args(validation.Code))


def test_the_columns_on_the_page_are_those_of_the_code_in_their_order() -> None:
    documented = {tuple(_names(row[0])) for row in _table(_OWN, "Columns")}
    assert documented == {columns.RECORDING, columns.TRANSCRIPT, *columns.DESCRIPTIVE.values()}
    assert tuple(_names(_table(_OWN, "Columns", 1)[0][0])) == columns.VOTES


@pytest.mark.parametrize("names", [_names(row[0]) for row in _table(_OWN, "Columns")], ids=lambda names: names[0])
def test_of_the_columns_for_one_thing_the_first_on_the_page_counts_and_each_is_understood(tmp_path: Path, names: list[str]) -> None:
    for last in range(len(names)):
        given = names[last:]
        others = {"path": "clip.wav", "text": "ord"}
        row = {name: value for name, value in others.items() if name not in names} | {name: f"in {name}" for name in given}
        table = tmp_path / f"{last}.csv"
        table.write_text(f"{','.join(row)}\n{','.join(row.values())}\n", encoding="utf-8")
        (read,) = read_rows(table)
        assert f"in {given[0]}" in (read.recording, read.text, *read.optional.values())


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    limits = {row[0]: row[1] for row in _table(_OWN, "What a recording must be")}
    assert limits["format"].startswith(decode.ACCEPTED)
    assert limits["length"] == f"{validation.MIN_SECONDS:g} s to {entries.MAX_SECONDS:g} s"
    assert limits["sample rate"].startswith(f"{decode.MIN_RATE:,} to {decode.MAX_RATE:,} Hz")
    assert limits["channels"].startswith(f"at most {decode.MAX_CHANNELS};")
    assert limits["file"].startswith(f"at most {entries.MAX_CLIP_BYTES >> 20} MiB; {decode.MAX_FILE_BYTES >> 30} GiB where")
    assert f"{validation.SILENT_PEAK:g} of full scale" in limits["loudness"]
    assert f"{LABEL_ROOM - TOKENS_AROUND_A_CLIP} tokens" in limits["transcript"]
    assert f"with {Limits().memory_bytes >> 20} MiB of memory more" in _OWN
    assert f"{Limits().cpu_seconds} s of CPU time for each clip" in _OWN


def test_the_limits_beside_the_codes_are_those_of_the_code() -> None:
    why = {row[0].strip("`"): row[1] for row in _table(_OWN, "What is refused")}
    assert why["too_short"] == f"under {validation.MIN_SECONDS:g} s"
    assert why["too_long"].startswith(f"over {entries.MAX_SECONDS:g} s")
    assert why["clipped"].startswith(f"more than {validation.CLIPPED_SHARE:.0%}".replace("%", " %"))
    assert f"({validation.CLIPPED_LEVEL:g} and above)" in why["clipped"]
    assert why["too_fast"].startswith(f"more than {validation.MAX_CHARACTERS_A_SECOND:g} characters")
    assert why["too_slow"] == f"fewer than {validation.MIN_CHARACTERS_A_SECOND:g}"
    assert f"at most\n{MAX_WEIGHT:g}, and" in _OWN
    assert f"batches of {staging.BATCH_CLIPS} recordings" in _OWN


def test_the_tables_of_a_release_become_what_the_page_says() -> None:
    documented = {row[0].strip("`"): row[1] for row in _table(_COMMON_VOICE, "What is taken from it")}
    assert {name: split for name, split in documented.items() if name in SPLIT_TABLES} == SPLIT_TABLES
    assert documented[VALIDATED_TABLE].startswith("with `--validated-remainder`: train")
