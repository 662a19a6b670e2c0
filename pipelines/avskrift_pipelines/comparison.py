"""Recorded runs side by side: which parameters differ, and which run is better by which figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from avskrift.registry import tags
from avskrift.registry.runs import PICKED_ON_WER, SPEED, TRAINING_SPEED, VALIDATION_WER, RunRecord

Unit = Literal["rate", "seconds", "number"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure that runs are compared by. ``measured``: on the dataset's clips, so it means something among runs of one dataset only.

    ``lower`` is better; None where neither end is. A rate is a fraction.
    """

    name: str
    label: str
    lower: bool | None = True
    unit: Unit = "rate"
    measured: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A run's figure. ``difference`` is to the first run that has it: None for that one, and where they cannot be compared."""

    value: float
    interval: tuple[float, float] | None
    difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of all runs. ``best`` is the place of the best run; None where that cannot be said.

    ``apart``: the best one's interval meets no other's; None where some have none.
    """

    figure: Figure
    cells: tuple[Cell | None, ...]
    best: int | None
    apart: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """``parameters`` are those that differ, None where a run has none of that name; ``same`` counts the others."""

    runs: tuple[RunRecord, ...]
    parameters: dict[str, tuple[str | None, ...]]
    same: int
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]


RUN_SECONDS = "run_seconds"
FIGURES = (
    Figure(name="wer", label="WER, test"),
    Figure(name="cer", label="CER, test"),
    Figure(name=VALIDATION_WER, label="WER, validation, in training"),
    Figure(name=PICKED_ON_WER, label="WER, validation, as served"),
    Figure(name="picked_on_cer", label="CER, validation, as served"),
    Figure(name="looped", label="clips that loop"),
    Figure(name="hallucinated_words_a_minute", label="hallucinated words a minute", unit="number", measured=False),
    Figure(name="context_loss", label="WER lost on short context"),
    Figure(name="long_form_loss", label="WER lost in long recordings"),
    Figure(name="timestamp_error_s", label="timestamp error, median", unit="seconds"),
    Figure(name="retention_loss", label="WER lost on the second dataset", measured=False),
    Figure(name=SPEED, label="seconds of audio transcribed a second", lower=False, unit="number", measured=False),
    Figure(name="latency_p50_s", label="latency, median", unit="seconds", measured=False),
    Figure(name="latency_p95_s", label="latency, 95th percentile", unit="seconds", measured=False),
    Figure(name="train_loss", label="training loss, last", unit="number"),
    Figure(name="training_seconds", label="training time", unit="seconds", measured=False),
    Figure(name=TRAINING_SPEED, label="seconds of audio trained a second", lower=False, unit="number", measured=False),
    Figure(name=RUN_SECONDS, label="run, start to end", lower=None, unit="seconds", measured=False),
    Figure(name="test_clips", label="test clips", lower=None, unit="number", measured=False),
)
_PROTOCOLS = ("wer_", "cer_")  # wer_raw and the like
_NO_PROTOCOLS = ("_low", "_high", "_difference")


def compare(runs: Sequence[RunRecord]) -> Comparison:
    """Put two runs or more side by side."""
    names = sorted({name for run in runs for name in run.parameters})
    values = {name: tuple(run.parameters.get(name) for run in runs) for name in names}
    differing = {name: row for name, row in values.items() if len(set(row)) > 1}
    comparable = not _differ(runs)
    rows = [_row(figure, runs, comparable=comparable or not figure.measured) for figure in (*FIGURES, *_protocols(runs))]
    return Comparison(
        runs=tuple(runs),
        parameters=differing,
        same=len(values) - len(differing),
        rows=tuple(row for row in rows if any(row.cells)),
        warnings=tuple(_warnings(runs)),
    )


def differing_parameters(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the parameters that are not the same in all ``runs`` that have them: one that failed early has recorded few."""
    names = sorted({name for run in runs for name in run.parameters})
    return [name for name in names if len({run.parameters[name] for run in runs if name in run.parameters}) > 1]


def letter(place: int) -> str:
    """What the run in a place (from 0) is called: A to Z, then 27 and so on."""
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _row(figure: Figure, runs: Sequence[RunRecord], *, comparable: bool) -> Row:
    values = [_value(run, figure.name) for run in runs]
    first = next((place for place, value in enumerate(values) if value is not None), None)
    cells = []
    for place, value in enumerate(values):
        base = values[first] if first is not None and place != first and comparable else None
        difference = None if value is None or base is None else value - base
        cells.append(None if value is None else Cell(value=value, interval=runs[place].interval(figure.name), difference=difference))
    best = _best(values, lower=figure.lower) if comparable else None
    return Row(figure=figure, cells=tuple(cells), best=best, apart=None if best is None else _apart(cells, best))


def _value(run: RunRecord, name: str) -> float | None:
    if name == RUN_SECONDS:
        return run.ended - run.started if run.ended else None
    return run.figures.get(name)


def _best(values: Sequence[float | None], *, lower: bool | None) -> int | None:
    present = [value for value in values if value is not None]
    if lower is None or len(present) < 2 or len(set(present)) == 1:
        return None
    best = min(present) if lower else max(present)
    return values.index(best) if present.count(best) == 1 else None


def _apart(cells: Sequence[Cell | None], best: int) -> bool | None:
    intervals = [cell.interval for place, cell in enumerate(cells) if cell is not None and place != best]
    chosen = cells[best]
    own = chosen.interval if chosen else None
    if own is None or None in intervals:
        return None
    return all(interval is not None and (own[1] < interval[0] or interval[1] < own[0]) for interval in intervals)


def _protocols(runs: Sequence[RunRecord]) -> list[Figure]:
    names = sorted({name for run in runs for name in run.figures if name.startswith(_PROTOCOLS) and not name.endswith(_NO_PROTOCOLS)})
    return [
        Figure(name=name, label=f"{name[:3].upper()}, {name[4:].replace('_', ' ')}")
        for name in names
        if name not in ("wer_difference_low", "wer_difference_high")
    ]


def _differ(runs: Sequence[RunRecord]) -> bool:
    """Whether two were measured on data, or by rules, that are known to be different."""
    return any(
        len(found) > 1 for found in (_known([run.dataset for run in runs]), _known([run.tags.get(tags.NORMALISER, "") for run in runs]))
    )


def _known(values: Sequence[str]) -> set[str]:
    return {value for value in values if value}


def _warnings(runs: Sequence[RunRecord]) -> list[str]:
    found = []
    datasets = _known([run.dataset for run in runs])
    if len(datasets) > 1:
        each = "; ".join(f"{', '.join(_who(runs, one))}: {one[:12]}" for one in sorted(datasets, key=lambda one: _who(runs, one)))
        found.append(f"measured on different test sets ({each}): error rates cannot be compared, and no better one is named")
    normalisers = _known([run.tags.get(tags.NORMALISER, "") for run in runs])
    if len(normalisers) > 1:
        found.append(f"texts were normalised differently ({', '.join(sorted(normalisers))}): error rates cannot be compared")
    unknown = [letter(place) for place, run in enumerate(runs) if not run.dataset]
    if unknown and len(unknown) < len(runs) + 1 and any(run.figures for run in runs):
        found.append(f"of {', '.join(unknown)} no dataset is recorded: whether the test set is the same is not known")
    return found


def _who(runs: Sequence[RunRecord], dataset: str) -> list[str]:
    return [letter(place) for place, run in enumerate(runs) if run.dataset == dataset]
