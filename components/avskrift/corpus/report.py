"""``report.html`` of a dataset folder, one of the :mod:`avskrift.pages`: what went in, what was left out and why."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from avskrift import pages
from avskrift.corpus import wording
from avskrift.corpus.dataset import REJECTED_FILE, SPLITS, Dataset, DatasetDescription
from avskrift.corpus.statistics import Share, Spread, Statistics, Voices, metadata, statistics
from avskrift.corpus.validation import Rejection
from avskrift.text.languages import LANGUAGES

REFUSED_HEARD = 10

_PAGE = Path(__file__).with_name("report_page.html")
_EXAMPLES_IN_SPLIT = 3
_ACCENTS_SHOWN = 8
_MARK = 5  # between the words below a chart: seconds, or characters a second
_NONE = '<p class="quiet">None.</p>'
_NUMBER = "number"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardRejection:
    """A refused clip to look at and to listen to. ``audio`` is a FLAC file's bytes; b"" where none could be read."""

    rejection: Rejection
    audio: bytes


def render_report(dataset: Dataset, heard: Sequence[HeardRejection]) -> str:
    """The report as one HTML document, with the audio of the first :data:`REFUSED_HEARD` of ``heard`` in it.

    Raises:
        DatasetError: a file of the dataset cannot be read, or does not hold what ``dataset.json`` says.
    """
    figures = statistics(dataset)
    description = dataset.description
    separation, separated = wording.separation(figures)
    return pages.document(
        _PAGE,
        title=f"{LANGUAGES.get(description.language, description.language).capitalize()} recordings, prepared",
        embeds=True,
        source=pages.text(f"From {description.source}"),
        cards=_cards(figures),
        verdict=pages.text(wording.verdict(figures)),
        separation=pages.text(separation),
        separation_class="good" if separated else "bad",
        splits=_splits(figures),
        durations=_spread_chart(figures.durations_s, "seconds", "s"),
        rates=_spread_chart(figures.characters_a_second, "letters and digits a second", "a second"),
        voices=_voices(figures.voices, figures.hours),
        genders=_shares(figures.genders, figures.hours),
        ages=_shares(wording.by_age(figures.ages), figures.hours),
        accents=_shares(figures.accents, figures.hours, shown=_ACCENTS_SHOWN),
        refused=_codes(figures.refused, figures.entries),
        held_back=_codes(figures.held_back, figures.entries),
        heard=_heard(heard[:REFUSED_HEARD]),
        examples=_examples(dataset),
        sources=_sources(description),
        provenance=_provenance(description),
    )


def _cards(figures: Statistics) -> str:
    voices = figures.voices
    unit, factor = wording.unit(figures.hours)
    most = (
        f"the one heard most has {pages.percent(voices.largest[0].hours / figures.hours)}" if voices.largest else "not named by the source"
    )
    return pages.cards(
        [
            ("Clips kept", f"{figures.clips:,}", f"of {figures.entries:,}"),
            (f"{unit} of audio", f"{figures.hours * factor:,.1f}", f"a clip lasts {figures.durations_s.median:.1f} s (median)"),
            ("Speakers", f"{voices.speakers:,}" if voices.speakers else "unknown", most),
            ("Refused", pages.percent(figures.refused_share), f"{sum(figures.refused.values()):,} recordings with a fault"),
        ]
    )


def _splits(figures: Statistics) -> str:
    unit, factor = wording.unit(figures.hours)
    header = [("Split", ""), ("Clips", _NUMBER), (unit, _NUMBER), ("Speakers", _NUMBER), ("Sentences", _NUMBER), ("", "chart")]
    largest = max(split.hours for split in figures.splits.values())
    rows = [
        [
            pages.cell(name),
            pages.number_cell(f"{split.clips:,}"),
            pages.number_cell(f"{split.hours * factor:,.1f}"),
            pages.number_cell(f"{split.speakers:,}" if split.speakers else "unknown"),
            pages.number_cell(f"{split.sentences:,}"),
            pages.bars_cell([(name, split.hours)], largest),
        ]
        for name, split in figures.splits.items()
    ]
    return pages.table(header, rows)


def _spread_chart(spread: Spread, axis: str, unit: str) -> str:
    """Columns of clips, one colour a split, as far as there are any; what they say in words; and as a table."""
    filled = max((place for counts in spread.counts.values() for place, count in enumerate(counts) if count), default=0)
    bins = next(iter(spread.counts.values()))
    mark = round(_MARK / spread.width)
    shown = min(len(bins), mark * math.ceil((filled + 1) / mark))
    edges = [spread.width * place for place in range(shown + 1)]
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    if shown == len(bins):
        names[-1] = f"{edges[-2]:g} and more"
    series = [pages.Series(name=split, css=split, values=counts[:shown]) for split, counts in spread.counts.items()]
    said = wording.spread(spread, unit)
    chart = pages.ColumnChart(
        label=f"Clips by {axis}. {said}",
        names=names,
        series=series,
        marks={place: f"{edges[place]:g}" for place in range(0, shown + 1, mark)},
        axis=axis,
    )
    rows = [
        [pages.cell(name), *(pages.number_cell(f"{one.values[place]:,}") for one in series)]
        for place, name in enumerate(names)
        if any(one.values[place] for one in series)
    ]
    table = pages.table([(axis.capitalize(), ""), *((one.name, _NUMBER) for one in series)], rows)
    return f"<p>{pages.text(said)}</p>{pages.column_chart(chart)}{pages.legend(series)}{pages.folded('The same as a table', table)}"


def _voices(voices: Voices, hours: float) -> str:
    said = wording.voices(voices, hours)
    if not voices.speakers:
        return f'<p class="quiet">{pages.text(said)}</p>'
    unit, factor = wording.unit(hours)
    chart = pages.ColumnChart(
        label=f"{unit} of each of the {len(voices.largest)} speakers heard most. {said}",
        names=[share.name for share in voices.largest],
        series=[pages.Series(name=unit.lower(), css="bar", values=[share.hours * factor for share in voices.largest])],
        marks={0.5: "1", len(voices.largest) - 0.5: str(len(voices.largest))},
        axis=f"{unit.lower()} of the speakers heard most",
    )
    rows = [("all others", voices.others), ("unknown", voices.unknown)]
    shares = [*((share.name, share) for share in voices.largest), *((name, share) for name, share in rows if share.clips)]
    return f"<p>{pages.text(said)}</p>{pages.column_chart(chart)}{pages.folded('The same as a table', _share_table(shares, hours))}"


def _shares(shares: Sequence[Share], hours: float, *, shown: int = 20) -> str:
    if not any(share.name for share in shares):
        return '<p class="quiet">Not stated by the source.</p>'
    table = _share_table([(share.name or wording.NOT_STATED, share) for share in shares[:shown]], hours)
    return table + (f'<p class="quiet">And {len(shares) - shown:,} more.</p>' if len(shares) > shown else "")


def _share_table(shares: Sequence[tuple[str, Share]], hours: float) -> str:
    unit, factor = wording.unit(hours)
    largest = max((share.hours for _, share in shares), default=0.0)
    rows = [
        [
            pages.cell(name),
            pages.number_cell(f"{share.clips:,}"),
            pages.number_cell(f"{share.hours * factor:,.1f}"),
            pages.number_cell(pages.percent(share.hours / hours)),
            pages.bars_cell([("bar", share.hours)], largest),
        ]
        for name, share in shares
    ]
    return pages.table([("", ""), ("Clips", _NUMBER), (unit, _NUMBER), ("Share", _NUMBER), ("", "chart")], rows)


def _codes(codes: Mapping[str, int], entries: int) -> str:
    if not codes:
        return _NONE
    largest = max(codes.values())
    rows = [
        [
            f'<td><code>{pages.text(code)}</code><div class="quiet">{pages.text(wording.MEANINGS.get(code, ""))}</div></td>',
            pages.number_cell(f"{clips:,}"),
            pages.number_cell(pages.percent(clips / entries)),
            pages.bars_cell([("bar", clips)], largest),
        ]
        for code, clips in codes.items()
    ]
    return pages.table([("", ""), ("Clips", _NUMBER), ("Share", _NUMBER), ("", "chart")], rows)


def _heard(heard: Sequence[HeardRejection]) -> str:
    if not heard:
        return _NONE
    items = "".join(
        f"<li><strong>{pages.text(one.rejection.code)}</strong>: {pages.text(one.rejection.reason)}"
        f'<br><code class="quiet"><bdi>{pages.text(one.rejection.source)}</bdi></code>{_player(one)}</li>'
        for one in heard
    )
    return f'<ul class="clips">{items}</ul><p class="quiet">All of them are listed in {REJECTED_FILE}.</p>'


def _player(heard: HeardRejection) -> str:
    if not heard.audio:
        return '<br><span class="quiet">No audio to listen to.</span>'
    return pages.player(heard.audio, f"Refused clip {heard.rejection.clip_id}")


def _examples(dataset: Dataset) -> str:
    rows = [
        [
            pages.cell(split),
            pages.said_cell(clip["text"], dataset.description.language),
            pages.number_cell(f"{clip['duration_s']:.1f}"),
            pages.code_cell(clip["source"]),
        ]
        for split in SPLITS
        for clip in _some(dataset, split)
    ]
    return pages.table([("Split", ""), ("Transcript", ""), ("Seconds", _NUMBER), ("Recording", "")], rows)


def _some(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    """Some of the split's first clips, always the same, spread over them: neighbours often have one speaker."""
    first = next(metadata(dataset, split, ("clip_id", "text", "duration_s", "source")), {})
    clips = [dict(zip(first, values, strict=True)) for values in zip(*first.values(), strict=True)]
    return heapq.nsmallest(_EXAMPLES_IN_SPLIT, clips, key=lambda clip: sha256(clip["clip_id"].encode()).digest())


def _sources(description: DatasetDescription) -> str:
    unit, factor = wording.unit(sum(split.hours for split in description.splits.values()))
    header = [("Source", ""), ("Licence", ""), ("Weight", _NUMBER), ("Clips", _NUMBER), (unit, _NUMBER), ("Left out", _NUMBER)]
    rows = [
        [
            pages.code_cell(source.uri),
            pages.cell(source.licence),
            pages.number_cell(f"{source.weight:g}"),
            pages.number_cell(f"{source.clips:,}"),
            pages.number_cell(f"{source.hours * factor:,.1f}"),
            pages.number_cell(f"{source.rejected:,}"),
        ]
        for source in description.sources
    ]
    return pages.table(header, rows)


def _provenance(description: DatasetDescription) -> str:
    return pages.definitions(
        [
            ("Fingerprint", description.fingerprint),
            ("Sources' sha256", description.source_sha256),
            ("Licence", description.licence),
            ("Language", description.language),
            ("Normaliser", description.normaliser),
            ("Speaker salt", f"checks as {description.speaker_salt_check}"),
        ]
    )
