"""Shows a run on a cluster while it goes on: a table on a terminal, elsewhere a line for each change."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from avskrift_pipelines.kfp_server import ENDED, SUCCEEDED, ClusterRun, Task

_RUNNING = "RUNNING"
_STYLES = {SUCCEEDED: "green", "FAILED": "bold red", "CANCELED": "yellow", _RUNNING: "cyan"}
# What KFP 2 makes of each task and of the run as a whole, beside the tasks themselves.
_INTERNAL = re.compile(r"root|executor|(exit-handler|condition|condition-branches|for-loop)-\d+|.*-driver")
_DRIVER = "-driver"


class RunProgress:
    """While open, :meth:`show` shows a run. ``tasks`` are the names worth showing; empty for all that look like a task."""

    def __init__(self, console: Console, tasks: Collection[str] = ()) -> None:
        self._console = console
        self._tasks = tasks
        self._said: dict[str, str] = {}
        self._live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None

    def __enter__(self) -> RunProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def show(self, run: ClusterRun) -> None:
        """The run as it is now."""
        steps: dict[str, list[Task]] = {}
        for task in work(run.tasks, self._tasks):
            steps.setdefault(task.name, []).append(task)
        if self._live:
            self._live.update(_table(run, steps))
            return
        for name, tasks in steps.items():
            took = _seconds(tasks) if _state(tasks) in ENDED else ""  # else each look would be news
            self._say(name, f"{_in_words(tasks)}{', ' if took else ''}{took}")
        if not steps:
            self._say(run.name, run.state.lower())

    def note(self, text: str) -> None:
        """A line about the connection, not about the run."""
        self._console.print(f"  {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def _say(self, name: str, state: str) -> None:
        if self._said.get(name) != state:
            self._said[name] = state
            self._console.print(f"  {name}: {state}", markup=False, highlight=False, soft_wrap=True)


def work(tasks: Sequence[Task], names: Collection[str] = ()) -> list[Task]:
    """Those tasks that a pod does the work of, in the order in which they began. ``names`` are theirs, where they are known."""
    found = [task for task in tasks if (task.name in names if names else _is_work(task, tasks))]
    return sorted(found, key=lambda one: (_moment(one.started), one.name))


def failures(run: ClusterRun) -> list[str]:
    """What each failed task said, those that failed first first; KFP repeats it in whatever holds the task."""
    failed = sorted((task for task in run.tasks if task.state == "FAILED" and task.error), key=lambda one: _moment(one.ended))
    said: dict[str, str] = {}
    for task in failed:
        said.setdefault(task.error, task.name)
    return [f"{name}: {error}" for error, name in said.items()]


def _is_work(task: Task, tasks: Sequence[Task]) -> bool:
    """Whether a pod does what its name says. The workflow itself is listed too; it alone has no driver."""
    return not _INTERNAL.fullmatch(task.name) and any(other.name == f"{task.name}{_DRIVER}" for other in tasks)


def _state(tasks: Sequence[Task]) -> str:
    """One state for the tasks of a loop: the worst of those that ended, else what goes on."""
    states = {task.state for task in tasks}
    for state in ("FAILED", "CANCELED", _RUNNING):
        if state in states:
            return state
    return SUCCEEDED if states == {SUCCEEDED} else _RUNNING if SUCCEEDED in states else next(iter(sorted(states)))


def _in_words(tasks: Sequence[Task]) -> str:
    if len(tasks) == 1:
        return tasks[0].state.lower()
    counts = Counter(task.state.lower() for task in tasks)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _seconds(tasks: Sequence[Task]) -> str:
    began = [task.started for task in tasks if task.started]
    if not began:
        return ""
    ended = [task.ended or datetime.now(UTC) for task in tasks]
    seconds = max(0, round((max(ended) - min(began)).total_seconds()))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}" if seconds >= 3600 else f"{seconds // 60}:{seconds % 60:02}"


def _table(run: ClusterRun, steps: dict[str, list[Task]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=14)
    table.add_column(min_width=10)
    table.add_column(justify="right")
    for name, tasks in steps.items():
        state = _state(tasks)
        words = Text(_in_words(tasks), style=_STYLES.get(state, ""))
        table.add_row(Text(f"  {name}"), Spinner("dots", text=words) if state == _RUNNING else words, _seconds(tasks))
    table.add_row(Text(f"  {run.name}", style="bold"), Text(run.state.lower(), style=_STYLES.get(run.state, "")), "")
    return table


def _moment(time: datetime | None) -> float:
    return time.timestamp() if time else float("inf")
