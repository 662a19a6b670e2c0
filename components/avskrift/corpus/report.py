"""``report.html`` of a dataset folder: one file, no scripts, nothing fetched.

Kubeflow's page runs what scripts an artifact holds, and a transcript or a file name may hold anything: every string is
escaped, and the page forbids scripts by its content security policy.
"""

from __future__ import annotations

import html
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from avskrift.audio.constants import WINDOW_SECONDS
from avskrift.corpus.dataset import DatasetDescription
from avskrift.corpus.validation import Rejection
from avskrift.text.languages import LANGUAGES

_PAGE = Path(__file__).with_name("report_page.html")
_REFUSED_SHOWN = 10
_UNFIT = ("Cc", "Cs")  # control characters and lone surrogates, which HTML or UTF-8 cannot hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A clip to show."""

    split: str
    text: str
    duration_s: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """What the report says. ``shared_*`` count speakers and sentences that stand in more than one split."""

    description: DatasetDescription
    durations_s: Sequence[float]
    shared_speakers: int
    shared_sentences: int
    examples: Sequence[Example]
    rejections: Sequence[Rejection]


def render_report(content: ReportContent) -> str:
    """The report as one HTML document."""
    description = content.description
    kept = len(content.durations_s)
    page = Template(_PAGE.read_text(encoding="utf-8"))
    return page.substitute(
        title=_text(f"{LANGUAGES.get(description.language, description.language).capitalize()} recordings, prepared"),
        summary=_text(f"{kept:,} of {kept + len(content.rejections):,} clips kept, {sum(content.durations_s) / 3600:.2f} hours"),
        splits=_splits(description),
        separation=_text(_separation(content)),
        histogram=_histogram(content.durations_s),
        reasons=_reasons(content.rejections),
        refused=_refused(content.rejections),
        examples=_examples(content.examples),
        provenance=_provenance(description),
    )


def _splits(description: DatasetDescription) -> str:
    rows = [
        [_cell(split), _number(f"{summary.clips:,}"), _number(f"{summary.hours:.2f}"), _number(str(summary.speakers or "unknown"))]
        for split, summary in description.splits.items()
    ]
    return _table([("Split", ""), ("Clips", "number"), ("Hours", "number"), ("Speakers", "number")], rows)


def _separation(content: ReportContent) -> str:
    shared = [_count(content.shared_speakers, "speaker"), _count(content.shared_sentences, "sentence")]
    return f"In more than one split: {' and '.join(shared)}."


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _histogram(durations_s: Sequence[float], step: int = 2) -> str:
    """Bars of clips by their length, ``step`` seconds wide."""
    bars = WINDOW_SECONDS // step
    counts = Counter(min(int(seconds / step), bars - 1) for seconds in durations_s)
    largest = max(counts.values(), default=1)
    width, height, base = 44, 120, 140
    shapes = "".join(
        f'<rect x="{bar * width + 2}" width="{width - 4}" y="{base - round(height * counts[bar] / largest, 1)}" '
        f'height="{round(height * counts[bar] / largest, 1)}"/>'
        f'<text x="{bar * width + width / 2}" y="{base - round(height * counts[bar] / largest, 1) - 4}" text-anchor="middle">'
        f"{counts[bar] or ''}</text>"
        f'<text x="{bar * width + width / 2}" y="{base + 16}" text-anchor="middle">{bar * step}–{(bar + 1) * step}</text>'
        for bar in range(bars)
    )
    return (
        f'<svg viewBox="0 0 {bars * width} {base + 36}" role="img" aria-label="Clips by their length in seconds">{shapes}'
        f'<line x1="0" x2="{bars * width}" y1="{base}" y2="{base}"/>'
        f'<text x="{bars * width / 2}" y="{base + 33}" text-anchor="middle">seconds</text></svg>'
    )


def _reasons(rejections: Sequence[Rejection]) -> str:
    counts = Counter(rejection.code for rejection in rejections)
    if not counts:
        return '<p class="quiet">None.</p>'
    return _table([("Reason", ""), ("Clips", "number")], [[_cell(code), _number(f"{count:,}")] for code, count in counts.most_common()])


def _refused(rejections: Sequence[Rejection]) -> str:
    if not rejections:
        return '<p class="quiet">None.</p>'
    rows = [[_cell(rejection.source), _cell(rejection.code), _cell(rejection.reason)] for rejection in rejections[:_REFUSED_SHOWN]]
    return _table([("Recording", ""), ("Code", ""), ("Why", "")], rows)


def _examples(examples: Iterable[Example]) -> str:
    rows = [
        [_cell(example.split), f'<td dir="auto">{_text(example.text)}</td>', _number(f"{example.duration_s:.1f}"), _cell(example.source)]
        for example in examples
    ]
    return _table([("Split", ""), ("Transcript", ""), ("Seconds", "number"), ("Recording", "")], rows)


def _provenance(description: DatasetDescription) -> str:
    entries = [
        ("Source", description.source),
        ("Its sha256", description.source_sha256),
        ("Licence", description.licence),
        ("Fingerprint", description.fingerprint),
        ("Normaliser", description.normaliser),
    ]
    return "".join(f"<dt>{_text(name)}</dt><dd><code>{_text(value)}</code></dd>" for name, value in entries)


def _table(header: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th class="{css}">{_text(name)}</th>' for name, css in header)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: str) -> str:
    return f"<td>{_text(value)}</td>"


def _number(value: str) -> str:
    return f'<td class="number">{_text(value)}</td>'


def _text(value: str) -> str:
    """``value`` as text of the page and never as markup."""
    visible = "".join("\ufffd" if unicodedata.category(character) in _UNFIT else character for character in value)
    return html.escape(visible, quote=True)
