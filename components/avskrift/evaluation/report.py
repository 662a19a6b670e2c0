"""``report.html``: one file, no scripts, nothing fetched. It opens from a disk and as an HTML artifact of Kubeflow.

Kubeflow's page runs what scripts an artifact holds, and transcripts may hold anything: every string is escaped, and the
page forbids scripts by its content security policy.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from string import Template

from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.result import Estimate, Evaluation, ModelScore
from avskrift.text.languages import LANGUAGES

_PAGE = Path(__file__).with_name("report_page.html")
_EXAMPLES = 10
_BIN_EDGES_S = (0, 2, 4, 6, 8, 10, 15, 20, 30, math.inf)
_NOTHING = "–"
_UNFIT = ("Cc", "Cs")  # Unicode's control characters and lone surrogates


def render_report(evaluation: Evaluation, clips: Sequence[ClipResult]) -> str:
    """The report as one HTML document."""
    before, after = evaluation.baseline, evaluation.candidate
    verdict, verdict_class = _verdict(evaluation.wer_difference)
    page = Template(_PAGE.read_text(encoding="utf-8"))
    return page.substitute(
        title=_text(f"Word error rate before and after: {LANGUAGES.get(evaluation.language, evaluation.language).title()}"),
        measured=_text(
            f"{evaluation.clips} clips of the {evaluation.split} split, {_length(evaluation.hours)}, "
            f"{evaluation.speakers or 'unknown'} speakers, both models through {evaluation.engine}"
        ),
        cards=_cards(evaluation),
        verdict=_text(verdict),
        verdict_class=verdict_class,
        intervals=_interval_chart(before.wer, after.wer),
        figures=_figures(before, after, evaluation.wer_difference),
        durations=_durations(clips),
        worst=_examples(evaluation, clips, lambda clip: clip.candidate_errors),
        improved=_examples(evaluation, clips, lambda clip: clip.baseline_errors - clip.candidate_errors),
        worsened=_examples(evaluation, clips, lambda clip: clip.candidate_errors - clip.baseline_errors),
        method=_text(_method(evaluation)),
        provenance=_provenance(evaluation),
    )


def _verdict(difference: Estimate) -> tuple[str, str]:
    if difference.high < 0:
        return "The candidate is better, beyond chance: the whole interval of the difference lies below zero.", "good"
    if difference.low > 0:
        return "The candidate is worse, beyond chance: the whole interval of the difference lies above zero.", "bad"
    return "No difference beyond chance: the interval of the difference holds zero.", "quiet"


def _cards(evaluation: Evaluation) -> str:
    shown = [
        ("WER before (baseline)", _percent(evaluation.baseline.wer.value), _interval(evaluation.baseline.wer)),
        ("WER after (candidate)", _percent(evaluation.candidate.wer.value), _interval(evaluation.candidate.wer)),
        ("Difference, percentage points", _points(evaluation.wer_difference.value), _difference_interval(evaluation.wer_difference)),
    ]
    return "".join(
        f'<div class="card"><div class="label">{_text(label)}</div><div class="figure">{_text(figure)}</div>'
        f'<div class="interval">{_confidence(evaluation)} interval {_text(interval)}</div></div>'
        for label, figure, interval in shown
    )


def _interval_chart(before: Estimate, after: Estimate) -> str:
    """Both WERs as points with their intervals, on one axis from 0."""
    step = _tick_step(max(before.high, after.high, 0.01))
    ticks = math.ceil(max(before.high, after.high, 0.01) / step + 1e-9)
    left, width = 70, 620

    def x(rate: float) -> float:
        return round(left + width * rate / (ticks * step), 1)

    grid = "".join(
        f'<line class="grid" x1="{x(tick * step)}" x2="{x(tick * step)}" y1="8" y2="84"/>'
        f'<text x="{x(tick * step)}" y="102" text-anchor="middle">{_text(f"{100 * tick * step:.10g} %")}</text>'
        for tick in range(ticks + 1)
    )
    rows = "".join(
        f'<text x="0" y="{y + 4}">{name}</text>'
        f'<line class="{name}" stroke-width="3" x1="{x(wer.low)}" x2="{x(wer.high)}" y1="{y}" y2="{y}"/>'
        f'<circle class="{name}" cx="{x(wer.value)}" cy="{y}" r="6"/>'
        for name, wer, y in (("before", before, 28), ("after", after, 62))
    )
    label = _text(f"WER before {_percent(before.value)}, after {_percent(after.value)}, with their intervals")
    return f'<svg class="intervals" viewBox="0 0 720 110" role="img" aria-label="{label}">{grid}{rows}</svg>'


def _tick_step(largest: float) -> float:
    """The step of 1, 2 or 5 times a power of ten that divides [0, ``largest``] into at most six."""
    power = 10.0 ** math.floor(math.log10(largest / 6))
    return next(power * factor for factor in (1, 2, 5, 10) if largest / (power * factor) <= 6)


def _figures(before: ModelScore, after: ModelScore, difference: Estimate) -> str:
    rows = [
        ("Word error rate", *(f"{_percent(model.wer.value)} {_interval(model.wer)}" for model in (before, after))),
        ("Character error rate", *(f"{_percent(model.cer.value)} {_interval(model.cer)}" for model in (before, after))),
        ("WER, after minus before", "", f"{_points(difference.value)} {_difference_interval(difference)}"),
        ("Words in the references", *(f"{model.reference_words:,}" for model in (before, after))),
        ("Substitutions", *(f"{model.substitutions:,}" for model in (before, after))),
        ("Deletions", *(f"{model.deletions:,}" for model in (before, after))),
        ("Insertions", *(f"{model.insertions:,}" for model in (before, after))),
        ("Seconds of audio a second", *(f"{model.audio_seconds_per_second:,.1f}" for model in (before, after))),
    ]
    return _table([("", ""), ("Before", "number"), ("After", "number")], [[_cell(row[0]), *map(_number_cell, row[1:])] for row in rows])


def _durations(clips: Sequence[ClipResult]) -> str:
    header = [("Seconds", ""), ("Clips", "number"), ("Words", "number"), ("Before", "number"), ("After", "number"), ("", "chart")]
    binned = [(low, high, [clip for clip in clips if low <= clip.duration_s < high]) for low, high in pairwise(_BIN_EDGES_S)]
    rates = [(low, high, inside, *_bin_rates(inside)) for low, high, inside in binned if inside]
    largest = max((rate for *_, before, after in rates for rate in (before, after) if rate is not None), default=0.0)
    rows = [
        [
            _cell(f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} and more"),
            _number_cell(f"{len(inside):,}"),
            _number_cell(f"{sum(clip.reference_words for clip in inside):,}"),
            _number_cell(_percent(before)),
            _number_cell(_percent(after)),
            f'<td class="chart">{_bars(before, after, largest)}</td>',
        ]
        for low, high, inside, before, after in rates
    ]
    return _table(header, rows)


def _bin_rates(clips: Sequence[ClipResult]) -> tuple[float | None, float | None]:
    words = sum(clip.reference_words for clip in clips)
    if not words:
        return None, None
    return sum(clip.baseline_errors for clip in clips) / words, sum(clip.candidate_errors for clip in clips) / words


def _bars(before: float | None, after: float | None, largest: float) -> str:
    widths = [round(300 * (rate or 0) / largest, 1) if largest else 0 for rate in (before, after)]
    return (
        '<svg viewBox="0 0 300 20" aria-hidden="true">'
        f'<rect class="before" x="0" y="2" width="{widths[0]}" height="7"/>'
        f'<rect class="after" x="0" y="11" width="{widths[1]}" height="7"/></svg>'
    )


def _examples(evaluation: Evaluation, clips: Iterable[ClipResult], weight: Callable[[ClipResult], int]) -> str:
    """The clips of the greatest weight above 0, ten at most; of equal ones the shorter first, in which it matters more."""
    chosen = sorted((clip for clip in clips if weight(clip) > 0), key=lambda clip: (-weight(clip), clip.reference_words, clip.clip_id))
    if not chosen:
        return '<p class="quiet">None.</p>'
    header = [("Reference", ""), ("Before", ""), ("After", ""), ("Errors", "number"), ("Seconds", "number"), ("Clip", "")]
    rows = [
        [
            *(_said_cell(text, evaluation.language) for text in (clip.reference, clip.baseline, clip.candidate)),
            _number_cell(f"{clip.baseline_errors} → {clip.candidate_errors} of {clip.reference_words}"),
            _number_cell(f"{clip.duration_s:.1f}"),
            f"<td><code>{_text(clip.clip_id)}</code></td>",
        ]
        for clip in chosen[:_EXAMPLES]
    ]
    return _table(header, rows)


def _method(evaluation: Evaluation) -> str:
    return (
        f"Rates are all errors over all words (or characters, spaces between words included) of the references, after normaliser "
        f"{evaluation.normaliser}. Intervals are {_confidence(evaluation)} percentile intervals of {evaluation.resamples:,} bootstrap "
        f"resamples of {evaluation.resampled}; the difference takes the same resamples for both models. Before is the baseline, "
        f"after the candidate. Texts are shown as written and as transcribed; errors are counted in normalised words."
    )


def _provenance(evaluation: Evaluation) -> str:
    entries = [
        ("Candidate", evaluation.candidate.uri),
        ("Its sha256", evaluation.candidate.package_sha256),
        ("Baseline", evaluation.baseline.uri),
        ("Its sha256", evaluation.baseline.package_sha256),
        ("Dataset", evaluation.dataset_fingerprint),
        ("Engine", evaluation.engine),
    ]
    return "".join(f"<dt>{_text(name)}</dt><dd><code>{_text(value)}</code></dd>" for name, value in entries)


def _table(header: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th class="{css}">{_text(name)}</th>' for name, css in header)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: str) -> str:
    return f"<td>{_text(value)}</td>"


def _number_cell(value: str) -> str:
    return f'<td class="number">{_text(value)}</td>'


def _said_cell(value: str, language: str) -> str:
    return f'<td class="said" dir="auto" lang="{_text(language)}">{_text(value) or _NOTHING}</td>'


def _text(value: str) -> str:
    """``value`` as text of the page and never as markup; what HTML or UTF-8 cannot hold becomes U+FFFD."""
    visible = "".join("\ufffd" if unicodedata.category(character) in _UNFIT else character for character in value)
    return html.escape(visible, quote=True)


def _percent(rate: float | None) -> str:
    return _NOTHING if rate is None else f"{100 * rate:.1f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def _interval(estimate: Estimate) -> str:
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _difference_interval(estimate: Estimate) -> str:
    return f"[{_points(estimate.low)}, {_points(estimate.high)}]"


def _confidence(evaluation: Evaluation) -> str:
    return f"{100 * evaluation.confidence:g} %"


def _length(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
