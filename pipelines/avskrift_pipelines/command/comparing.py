"""``avskrift compare``: recorded runs side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avskrift.errors import UsageError
from avskrift.registry import tags
from avskrift_pipelines.command.output import JsonFlag, print_result
from avskrift_pipelines.command.steps import Tracking

if TYPE_CHECKING:
    from avskrift.registry.runs import RunRecord
    from avskrift_pipelines.comparison import Cell, Comparison, Row

_PLAIN_WIDTH = 160  # where nobody says how wide it is
_SHORT = 8


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Runs: the beginning of an MLflow run id, a pipeline run's id (of a local run its folder's name), `models:/NAME/VERSION` "
            "or `models:/NAME@ALIAS`.",
            metavar="RUN RUN...",
            show_default=False,
        ),
    ],
    sweep: Annotated[bool, typer.Option("--sweep", help="Show the runs inside one run, by validation WER.")] = False,
    tracking_uri: Tracking = "",
    json_: JsonFlag = False,
) -> None:
    """Show what differs between runs: parameters, and figures with their intervals, and which run is better by each."""
    if sweep != (len(runs) == 1) and (sweep or len(runs) < 2):
        raise UsageError("compare takes two runs or more; of a sweep, --sweep and the one run that holds the others")
    from avskrift.registry.runs import open_runs  # imports mlflow, which takes seconds

    recorded = open_runs(tracking_uri)
    if recorded is None:
        raise UsageError("MLflow has no runs here yet; name the server that has with --tracking-uri")
    found = [recorded.find(reference) for reference in runs]
    if sweep:
        # Of a run that is no sweep's the steps are inside, which have nothing in common to be compared by.
        children = [one for one in recorded.children(found[0]) if tags.TRIAL in one.tags or tags.CHILD not in one.tags]
        if not children:
            raise UsageError(f"no trials inside {runs[0]}; name a sweep's run, or give two runs without --sweep")
        _print_sweep(children, as_json=json_)
        return
    if len({run.run_id for run in found}) < len(found):
        raise UsageError("the same run is named twice; name two different ones")
    _print_comparison(found, as_json=json_)


def _print_comparison(runs: Sequence[RunRecord], *, as_json: bool) -> None:
    from avskrift_pipelines.comparison import compare as compared

    comparison = compared(runs)
    if as_json:
        print_result("", _as_json(comparison), as_json=True)
        return
    console = out()
    console.print(_heads(comparison))
    if comparison.parameters:
        console.print(_parameters(comparison))
    else:
        console.print("No parameter differs.")
    console.print(_figures(comparison))
    for warning in comparison.warnings:
        console.print(Text(f"! {warning}", style="yellow"), soft_wrap=True)


def _heads(comparison: Comparison) -> Table:
    from avskrift_pipelines.comparison import letter

    table = Table(title="Runs", title_justify="left")
    for heading in ("", "run", "experiment", "name", "started", "state", "base model", "gate", "version", "dataset"):
        table.add_column(heading, overflow="fold")
    for place, run in enumerate(comparison.runs):
        started = datetime.fromtimestamp(run.started).astimezone().strftime("%Y-%m-%d %H:%M")
        known = (run.base_model, run.gate, ", ".join(run.versions), run.dataset[:12])
        cells = (
            letter(place),
            run.run_id[:_SHORT],
            run.experiment,
            run.name,
            started,
            run.status.lower(),
            *(value or "-" for value in known),
        )
        table.add_row(*map(Text, cells))
    return table


def _parameters(comparison: Comparison) -> Table:
    from avskrift_pipelines.comparison import letter

    table = Table(title=f"Parameters that differ ({comparison.same} others are the same)", title_justify="left")
    table.add_column("")
    for place in range(len(comparison.runs)):
        table.add_column(letter(place), overflow="fold")
    for name, values in comparison.parameters.items():
        table.add_row(Text(name), *(Text("-" if value is None else value) for value in values))
    return table


def _figures(comparison: Comparison) -> Table:
    from avskrift_pipelines.comparison import letter

    table = Table(title="Figures, with their 95 % intervals and the difference to the first", title_justify="left")
    table.add_column("")
    for place in range(len(comparison.runs)):
        table.add_column(letter(place), justify="right")
    table.add_column("better")
    for row in comparison.rows:
        cells = [Text(_in_words(cell, row), style="bold" if place == row.best else "") for place, cell in enumerate(row.cells)]
        table.add_row(Text(row.figure.label), *cells, Text(_better(row)))
    return table


def _better(row: Row) -> str:
    from avskrift_pipelines.comparison import letter

    if row.best is None:
        return ""
    side = "lower" if row.figure.lower else "higher"
    return f"{letter(row.best)} ({side}{'; intervals overlap' if row.apart is False else ''})"


def _in_words(cell: Cell | None, row: Row) -> str:
    if cell is None:
        return "-"
    unit = row.figure.unit
    text = _number(cell.value, unit)
    if cell.interval:
        low, high = (_number(end, unit) for end in cell.interval)
        text += f" [{low}, {high}]"
    if cell.difference is not None:
        text += f"\n{_number(cell.difference, unit, signed=True)}"
    return text


def _number(value: float, unit: str, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if unit == "rate":
        return f"{value * 100:{sign}.1f} {'points' if signed else '%'}"
    if unit == "seconds":
        return f"{value:{sign}.3g} s" if abs(value) < 120 else f"{value / 60:{sign}.1f} min"
    return f"{value:{sign}.4g}"


def _print_sweep(children: Sequence[RunRecord], *, as_json: bool) -> None:
    from avskrift.registry.runs import PICKED_ON_WER, VALIDATION_WER
    from avskrift_pipelines.comparison import differing_parameters

    names = differing_parameters(children)
    if as_json:
        print_result("", [asdict(child) for child in children], as_json=True)
        return
    table = Table(title=f"{len(children)} runs, lowest validation WER first", title_justify="left")
    for heading in ("run", "name", *names):
        table.add_column(heading, overflow="fold")
    for heading in ("validation WER", "in training", "test WER"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for child in children:
        rates = [rate(child.figures.get(name), child.interval(name)) for name in (PICKED_ON_WER, VALIDATION_WER, "wer")]
        cells = (child.run_id[:_SHORT], child.name, *(child.parameters.get(name, "-") for name in names), *rates, child.status.lower())
        table.add_row(*map(Text, cells))
    out().print(table)


def rate(value: float | None, interval: tuple[float, float] | None) -> str:
    """An error rate with its interval, for a person."""
    if value is None:
        return "-"
    return f"{value:.1%} [{interval[0]:.1%}, {interval[1]:.1%}]" if interval else f"{value:.1%}"


def out() -> Console:
    """Standard output, wide enough for a table where it is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PLAIN_WIDTH
    return console


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "runs": [asdict(run) for run in comparison.runs],
        "parameters": {name: list(values) for name, values in comparison.parameters.items()},
        "figures": [
            {
                "name": row.figure.name,
                "label": row.figure.label,
                "lower_is_better": row.figure.lower,
                "runs": [asdict(cell) if cell else None for cell in row.cells],
                "best": None if row.best is None else comparison.runs[row.best].run_id,
                "intervals_apart": row.apart,
            }
            for row in comparison.rows
        ],
        "warnings": list(comparison.warnings),
    }
