"""What a person is told of a run, from what its steps log."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from rich.console import Console

from avskrift_pipelines.narrator import Narrator


def told(*events: str, terminal: bool = False) -> str:
    said = io.StringIO()
    narrator = Narrator(Console(file=said, force_terminal=terminal, width=120))
    for event in events:
        narrator.hear(f"2026-11-22T12:00:00.000Z info    {event}")
    return said.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_steps_that_run_side_by_side_are_each_told_by_name(terminal: bool) -> None:
    said = told(
        "step.started step=read_part_0",
        "step.started step=read_part_1",
        "step.finished step=read_part_0 seconds=3.2 peak_rss_mb=100.5",
        "step.finished step=read_part_1 seconds=4.9 peak_rss_mb=140.5",
    )
    assert [line.strip() for line in said.splitlines()] == [
        "read_part_0",
        "read_part_1",
        "read_part_0: done, 3 s, 100 MB",
        "read_part_1: done, 5 s, 140 MB",
    ]


def test_progress_is_told_with_and_without_a_known_end() -> None:
    said = told(
        "progress what=preparing done=128 unit=clips",
        "progress what=preparing done=128 unit=clips of=504 seconds_left=7",
    )
    assert [line.strip() for line in said.splitlines()] == ["preparing: 128 clips", "preparing: 128 of 504 clips, 7 s left"]


def test_what_is_no_event_is_not_told() -> None:
    assert told("something.else step=x") == ""


def test_lines_that_threads_print_side_by_side_are_each_whole(tmp_path: Path) -> None:
    said, log = io.StringIO(), tmp_path / "run.log"
    with Narrator(Console(file=said, force_terminal=False, width=120)).listening(log):
        print("    2026-11-22T12:00:00.000Z info    step.started ", end="")
        other = threading.Thread(target=print, args=("    2026-11-22T12:00:00.000Z info    step.started step=read_part_1",))
        other.start()
        other.join()
        print("step=read_part_0")
        print("a process that was killed amid a li", end="")
    assert said.getvalue().split() == ["read_part_1", "read_part_0"]
    first, second, third = log.read_text(encoding="utf-8").splitlines()
    assert (first.split()[-1], second.split()[-1]) == ("step=read_part_1", "step=read_part_0")
    assert third == "a process that was killed amid a li"
