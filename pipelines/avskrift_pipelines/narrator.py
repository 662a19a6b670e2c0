"""Tells a person at a terminal what a run is doing, from what its steps log.

Everything that kfp and the steps print goes to the run's log file. Of it, the steps' own events are shown: on a
terminal as one line and a bar a step, elsewhere as plain lines.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from avskrift.progress import EVENT

_EVENT_LINE = re.compile(r"^ *\d{4}-\d\d-\d\dT[\d:.]+Z (?P<level>\w+) +(?P<event>[\w.-]+) ?(?P<fields>.*)$")
_FIELD = re.compile(r"(\w+)=((?:(?! \w+=).)*)")
_TERMINAL_INTERVAL_SECONDS, _PLAIN_INTERVAL_SECONDS = 1, 15


class Narrator:
    """Shows a run's events on ``console``."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = (
            Progress(
                TextColumn("  {task.description:<11}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                console=console,
            )
            if console.is_terminal
            else None
        )
        self._tasks: dict[str, TaskID] = {}  # by step: parts are read side by side
        self._step = ""  # the one that began last; progress does not say whose it is

    @property
    def interval_seconds(self) -> int:
        """How often the steps should log their progress."""
        return _TERMINAL_INTERVAL_SECONDS if self._bars else _PLAIN_INTERVAL_SECONDS

    @contextlib.contextmanager
    def listening(self, log_file: Path) -> Iterator[None]:
        """Take over standard output, where kfp prints its own and the steps' output."""
        with (
            log_file.open("w", encoding="utf-8") as log,
            _Tee(log, self) as tee,
            contextlib.redirect_stdout(tee),
            warnings.catch_warnings(),
        ):
            # kfp warns that images and limits mean nothing here: true of every step, and no news to anybody.
            warnings.filterwarnings("ignore", module=r"kfp\..*")
            with self._bars or contextlib.nullcontext():
                yield

    def hear(self, line: str) -> None:
        """One line that was printed; shown if it is an event worth a person's eye."""
        match = _EVENT_LINE.match(line)
        if match is None:
            return
        fields = dict(_FIELD.findall(match["fields"]))
        event = match["event"]
        if event == "step.started":
            self._begin(fields["step"])
        elif event == "step.finished":
            self._end(fields["step"], f"{float(fields['seconds']):.0f} s, {float(fields['peak_rss_mb']):.0f} MB")
        elif event == EVENT:
            self._advance(fields)
        elif match["level"] in ("warning", "error"):
            self._console.print(f"    {match['level']}: {event} {match['fields']}", style="yellow", markup=False, highlight=False)
        elif event == "training.validated":
            self._console.print(f"    validation WER {float(fields['validation_wer']):.3f} after step {fields['step']}", highlight=False)

    def _begin(self, step: str) -> None:
        self._step = step
        if self._bars is not None:
            self._tasks[step] = self._bars.add_task(step, total=None, note="")
        else:
            self._console.print(f"  {step}", highlight=False)

    def _end(self, step: str, note: str) -> None:
        if self._bars is not None and step in self._tasks:
            self._bars.update(self._tasks[step], total=1, completed=1, note=note)
            self._bars.stop_task(self._tasks[step])
        else:
            self._console.print(f"  {step}: done, {note}", highlight=False)

    def _advance(self, fields: dict[str, str]) -> None:
        total = fields.get("of")
        note = f"{fields['done']} {fields['unit']}"
        if total is not None:
            note = f"{fields['done']} of {total} {fields['unit']}, {fields['seconds_left']} s left"
        if self._bars is not None and self._step in self._tasks:
            end = None if total is None else int(total)
            self._bars.update(self._tasks[self._step], total=end, completed=int(fields["done"]), note=note)
        else:
            self._console.print(f"    {fields['what']}: {note}", highlight=False)


class _Tee(io.TextIOBase):
    """Writes all to the log, and hands it to the narrator, a line at a time: whole ones, though kfp's threads print side by side."""

    def __init__(self, log: TextIO, narrator: Narrator) -> None:
        self._log = log
        self._narrator = narrator
        self._begun: dict[int, str] = {}  # by thread
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        thread = threading.get_ident()
        with self._lock:
            *lines, self._begun[thread] = (self._begun.get(thread, "") + text).split("\n")
            for line in lines:
                self._log.write(f"{line}\n")
                self._log.flush()
                self._narrator.hear(line)
        return len(text)

    def close(self) -> None:
        if not self.closed:
            self._log.write("".join(self._begun.values()))
        super().close()

    def flush(self) -> None:
        """A line is in the log once it is whole."""
