"""What a dataset folder holds, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from avskrift import pages
from avskrift.corpus import wording
from avskrift.corpus.dataset import Dataset, DatasetDescription
from avskrift.corpus.statistics import Share, Spread, Statistics

WIDTH = 100

_BAR_WIDTH, _BARS = 40, 16
_SPEAKERS, _SHARES = 5, 10


def show(dataset: Dataset, figures: Statistics, console: Console) -> None:
    """What the dataset's report shows, but for what can be heard and the examples."""
    separation, separated = wording.separation(figures)
    console.print(_text(str(dataset.folder), "bold"))
    console.print(_text(wording.verdict(figures)))
    console.print(_text(separation, "green" if separated else "bold red"))
    _section(console, "Splits", _splits(figures))
    _section(console, "How long the clips are", wording.spread(figures.durations_s, "s"), _bars(figures.durations_s, console))
    rates = figures.characters_a_second
    _section(console, "Letters and digits a second", wording.spread(rates, "a second"), _bars(rates, console))
    voices = wording.voices(figures.voices, figures.hours)
    _section(console, "Who speaks", voices, _shares(figures.voices.largest[:_SPEAKERS], figures.hours))
    for heading, shares in (("Gender", figures.genders), ("Age", wording.by_age(figures.ages)), ("Accent", figures.accents)):
        if any(share.name for share in shares):
            _section(console, heading, _shares(shares[:_SHARES], figures.hours))
    _section(console, "Refused, for a fault", _codes(figures.refused, figures.entries))
    _section(console, "Held back, so that the splits share nothing", _codes(figures.held_back, figures.entries))
    _section(console, "Where it comes from", _sources(dataset.description), _provenance(dataset.description))


def _section(console: Console, heading: str, *content: str | Table) -> None:
    console.print()
    console.print(_text(heading, "bold"))
    for part in content:
        if isinstance(part, Table):
            console.print(part if part.row_count else "none")
        else:
            console.print(_text(part))


def _splits(figures: Statistics) -> Table:
    unit, factor = wording.unit(figures.hours)
    rows = [
        (
            name,
            f"{split.clips:,}",
            f"{split.hours * factor:,.1f}",
            f"{split.speakers:,}" if split.speakers else "unknown",
            f"{split.sentences:,}",
        )
        for name, split in figures.splits.items()
    ]
    return _table(["", "Clips", unit, "Speakers", "Sentences"], rows)


def _bars(spread: Spread, console: Console) -> Table:
    """A row for each range of values, from the first that a clip is in to the last; so many bins together that they fit."""
    totals = [sum(counts) for counts in zip(*spread.counts.values(), strict=True)]
    filled = [place for place, clips in enumerate(totals) if clips]
    first, last = (filled[0], filled[-1]) if filled else (0, -1)
    together = -(-(last + 1 - first) // _BARS) or 1
    first -= first % together
    sums = {place: sum(totals[place : place + together]) for place in range(first, last + 1, together)}
    most = max(sums.values(), default=1)
    rows = [(_range(spread, place, place + together), f"{clips:,}", _bar(clips / most, console)) for place, clips in sums.items()]
    return _table(["", "Clips", ""], rows)


def _range(spread: Spread, place: int, end: int) -> str:
    if end >= len(next(iter(spread.counts.values()))):
        return f"{place * spread.width:g} and more"
    return f"{place * spread.width:g} to {end * spread.width:g}"


def _bar(share: float, console: Console) -> str:
    """In eighths of a character where the terminal has them. What is not nothing can be seen."""
    if console.options.ascii_only:
        return "#" * (round(share * _BAR_WIDTH) or bool(share))
    whole, eighths = divmod(round(share * _BAR_WIDTH * 8) or bool(share), 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()


def _shares(shares: Sequence[Share], hours: float) -> Table:
    unit, factor = wording.unit(hours)
    rows = [
        (share.name or wording.NOT_STATED, f"{share.clips:,}", f"{share.hours * factor:,.1f}", pages.percent(share.hours / hours))
        for share in shares
    ]
    return _table(["", "Clips", unit, "Share"], rows)


def _codes(codes: Mapping[str, int], entries: int) -> Table:
    rows = [(code, f"{clips:,}", pages.percent(clips / entries), wording.MEANINGS.get(code, "")) for code, clips in codes.items()]
    return _table(["", "Clips", "Share", ""], rows)


def _sources(description: DatasetDescription) -> Table:
    unit, factor = wording.unit(sum(split.hours for split in description.splits.values()))
    rows = [
        (source.uri, f"{source.clips:,}", f"{source.hours * factor:,.1f}", f"{source.rejected:,}", f"{source.weight:g}", source.licence)
        for source in description.sources
    ]
    return _table(["", "Clips", unit, "Left out", "Weight", "Licence"], rows)


def _provenance(description: DatasetDescription) -> Table:
    rows = [
        ("fingerprint", description.fingerprint),
        ("sources' sha256", description.source_sha256),
        ("normaliser", description.normaliser),
        ("speaker salt checks as", description.speaker_salt_check),
    ]
    return _table(["", ""], rows)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Columns without lines; one with a heading and no words under it is of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_header=any(headings))
    for heading in headings:
        table.add_column(heading, justify="right" if heading and heading != "Licence" else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row))
    return table


def _text(value: str, style: str = "") -> Text:
    """``value`` as it is: not as rich's markup, and unable to speak to the terminal."""
    return Text(pages.visible(value), style=style)
