"""What fine_tune tells the later steps, and people: figures, curves, examples, and a page, one of the :mod:`avskrift.pages`.

No torch in here: the images of the later steps may lack it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from avskrift import pages
from avskrift.errors import TrainingError
from avskrift.logs import redact
from avskrift.storage.atomic import atomic_folder, write_json
from avskrift.text.languages import LANGUAGES

TRAINING_FILE = "training.json"
CURVES_FILE = "curves.jsonl"
EXAMPLES_FILE = "examples.jsonl"
REPORT_FILE = "report.html"

_PAGE = Path(__file__).with_name("report_page.html")
_TEXTS = ("base_model", "base_model_sha256", "dataset_fingerprint", "language")
_MAPPINGS = ("parameters", "result")
_LOSS, _WER, _RATE = "train_loss", "validation_wer", "learning_rate"
_MILLION = 1e6
_SMOOTHED_SHARE = 25  # the smoothed loss is the mean over one part in so many of all steps
_NONE = '<p class="quiet">None.</p>'
# Results that are read first, where training gives them: label, how the figure is written, remark.
_CARDS = {
    "clips_per_second": ("Clips a second", "{:,.1f}", "end to end, validation not counted"),
    "audio_seconds_per_second": ("Seconds of audio a second", "{:,.0f}", "end to end, validation not counted"),
    "gpu_memory_gb": ("GPU memory, GB", "{:,.1f}", "at most"),
}

CurvePoint = tuple[int, str, float]  # step, name, value
Example = tuple[int, str, str, str]  # step, clip_id, said, heard


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """``parameters`` is all that was configured, ``result`` what came of it, both plain JSON values."""

    base_model: str
    base_model_sha256: str
    dataset_fingerprint: str
    language: str
    parameters: dict[str, Any]
    result: dict[str, Any]


def write_report(folder: Path, report: TrainingReport, curve: Sequence[CurvePoint], examples: Sequence[Example] = ()) -> None:
    """Write the four files; ``curve`` holds (step, name, value), ``examples`` (step, clip_id, said, heard), in the order of steps."""
    with atomic_folder(folder) as temporary:
        write_json(temporary / TRAINING_FILE, asdict(report))
        _write_lines(temporary / CURVES_FILE, ({"step": step, "name": name, "value": value} for step, name, value in curve))
        _write_lines(
            temporary / EXAMPLES_FILE,
            ({"step": step, "clip_id": clip_id, "said": said, "heard": heard} for step, clip_id, said, heard in examples),
        )
        (temporary / REPORT_FILE).write_text(render_report(report, curve, examples), encoding="utf-8")


def read_report(folder: Path) -> TrainingReport:
    """Read ``training.json``.

    Raises:
        TrainingError: it is missing or breaks the contract.
    """
    path = folder / TRAINING_FILE
    try:
        return _checked(TrainingReport(**json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise TrainingError(f"{path}: not a training report ({reason}); give the report's folder that fine_tune wrote") from error


def render_report(report: TrainingReport, curve: Sequence[CurvePoint], examples: Sequence[Example] = ()) -> str:
    """The report as one HTML document; what is not finite in ``curve`` is left out."""
    curves = _by_name(curve)
    loss, wer, rate = (curves.pop(name, []) for name in (_LOSS, _WER, _RATE))
    return pages.document(
        _PAGE,
        title=f"{LANGUAGES.get(report.language, report.language).capitalize()}, fine-tuned",
        trained=pages.text(f"From {redact(report.base_model)}"),
        cards=_cards(report.result, loss, wer),
        verdict=pages.text(_verdict(wer)),
        loss=_loss_chart(loss),
        wer=_wer_chart(wer),
        rate=_chart("Learning rate, millionths", [(step, value * _MILLION) for step, value in rate]),
        others="".join(f"<section><h2>{pages.text(name)}</h2>{_chart(name, points)}</section>" for name, points in curves.items()),
        examples=_examples(examples, report.language),
        result=_values(report.result),
        parameters=_values(report.parameters),
        provenance=pages.definitions(
            [
                ("Base model", redact(report.base_model)),
                ("Its sha256", report.base_model_sha256),
                ("Dataset", report.dataset_fingerprint),
                ("Language", report.language),
            ]
        ),
    )


def _write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values), encoding="utf-8")


def _checked(report: TrainingReport) -> TrainingReport:
    for name in _TEXTS + _MAPPINGS:
        if not isinstance(getattr(report, name), str if name in _TEXTS else dict):
            raise TypeError(f"{name} has the wrong type")
    return report


def _by_name(curve: Sequence[CurvePoint]) -> dict[str, list[tuple[float, float]]]:
    """The points of each curve, in the order of steps, without those that are not finite."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for step, name, value in sorted(curve, key=lambda point: point[0]):
        if math.isfinite(value):
            curves.setdefault(name, []).append((step, value))
    return curves


def _cards(result: Mapping[str, Any], loss: Sequence[tuple[float, float]], wer: Sequence[tuple[float, float]]) -> str:
    shown = []
    if wer:
        step, best = min(wer, key=lambda point: point[1])
        shown.append(("Best validation WER", pages.percent(best), f"at step {step:,}"))
    if loss:
        shown.append(("Training loss", f"{_smoothed(loss)[-1][1]:.3f}", f"mean of the last steps, of {loss[-1][0]:,}"))
    for name, (label, written, remark) in _CARDS.items():
        if isinstance(result.get(name), int | float):
            shown.append((label, written.format(result[name]), remark))
    return pages.cards(shown)


def _verdict(wer: Sequence[tuple[float, float]]) -> str:
    if not wer:
        return "It was never validated."
    (first_step, first), (best_step, best) = wer[0], min(wer, key=lambda point: point[1])
    if first_step == best_step:
        return f"The first validation, at step {first_step:,}, had the lowest WER: {pages.percent(best)}. The model of that step was kept."
    return (
        f"Validation WER fell from {pages.percent(first)} at step {first_step:,} to {pages.percent(best)} at step {best_step:,}, "
        f"and the model of that step was kept."
    )


def _loss_chart(loss: Sequence[tuple[float, float]]) -> str:
    if not loss:
        return _NONE
    smoothed = _smoothed(loss)
    said = f"Training loss from {smoothed[0][1]:.3f} to {smoothed[-1][1]:.3f}, smoothed"
    lines = [pages.Line(css="train", points=loss, faint=True), pages.Line(css="train", points=smoothed)]
    return (
        pages.line_chart(pages.LineChart(label=said, lines=lines, axis="step"))
        + f'<p class="quiet">{pages.text(said)}: the mean of the steps around each. Faint: every step.</p>'
    )


def _smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each value as the mean of those around it, as far as there are any."""
    sums = [0.0, *accumulate(value for _, value in points)]
    reach = len(points) // (2 * _SMOOTHED_SHARE)
    smoothed = []
    for place, (step, _) in enumerate(points):
        begin, end = max(0, place - reach), min(len(points), place + reach + 1)
        smoothed.append((step, (sums[end] - sums[begin]) / (end - begin)))
    return smoothed


def _wer_chart(wer: Sequence[tuple[float, float]]) -> str:
    if not wer:
        return _NONE
    said = f"Validation WER: {', '.join(f'{pages.percent(value)} at step {step:,}' for step, value in _first_best_last(wer))}"
    lines = [pages.Line(css="validation", points=wer)]
    chart = pages.line_chart(pages.LineChart(label=said, lines=lines, axis="step", written=lambda share: f"{100 * share:,.4g}"))
    rows = [[pages.number_cell(f"{step:,}"), pages.number_cell(pages.percent(value))] for step, value in wer]
    return chart + pages.folded("As a table", pages.table([("Step", "number"), ("WER", "number")], rows))


def _first_best_last(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return sorted({points[0], min(points, key=lambda point: point[1]), points[-1]})


def _chart(name: str, points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return _NONE
    said = f"{name}: {', '.join(f'{value:,.4g} at step {step:,}' for step, value in (points[0], points[-1]))}"
    return pages.line_chart(pages.LineChart(label=said, lines=[pages.Line(css="test", points=points)], axis="step"))


def _examples(examples: Sequence[Example], language: str) -> str:
    if not examples:
        return _NONE
    heard_of: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for step, clip_id, said, heard in examples:
        heard_of.setdefault((clip_id, said), []).append((step, heard))
    header = [("Step", "number"), ("Heard", "")]
    items = ""
    for (clip_id, said), over_time in heard_of.items():
        rows = [[pages.number_cell(steps), pages.said_cell(what, language)] for steps, what in _changes(over_time)]
        items += (
            f'<li><strong dir="auto" lang="{pages.text(language)}">{pages.text(said) or pages.NOTHING}</strong>'
            f'{pages.table(header, rows)}<code class="quiet"><bdi>{pages.text(clip_id)}</bdi></code></li>'
        )
    return f'<ul class="clips">{items}</ul>'


def _changes(heard: Sequence[tuple[int, str]]) -> list[tuple[str, str]]:
    """What was heard with the steps at which it was; validations that heard the same are one."""
    spans: list[tuple[int, int, str]] = []
    for step, what in heard:
        if spans and spans[-1][2] == what:
            spans[-1] = (spans[-1][0], step, what)
        else:
            spans.append((step, step, what))
    return [(f"{first:,}" if first == last else f"{first:,} to {last:,}", what) for first, last, what in spans]


def _values(values: Mapping[str, Any]) -> str:
    return pages.definitions((name, _written(value)) for name, value in values.items())


def _written(value: Any) -> str:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, float):
        return f"{value:,.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
