"""What a dataset folder holds, in figures: from its parquet files, without reading their audio."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from avskrift.corpus.dataset import CLIP_SCHEMA, REJECTED_FILE, SPLITS, Dataset
from avskrift.corpus.validation import HELD_BACK
from avskrift.errors import DatasetError
from avskrift.text.normaliser import normalise

SPEAKERS_NAMED = 20
DURATION_BINS, DURATION_BIN_S = 60, 0.5
RATE_BINS, RATE_BIN = 35, 1.0  # characters a second

_ROWS = 1024
_COLUMNS = ("clip_id", "duration_s", "text", "speaker_id", "gender", "age", "accent")
_TRAITS = ("speaker_id", "gender", "age", "accent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The clips that have something in common. ``name`` is "" for those of which the source does not say it."""

    name: str
    clips: int
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a figure is spread over the clips.

    ``counts[split][n]`` clips lie from ``n * width`` to below ``(n + 1) * width``; the last bin also has all that is beyond
    it. Nine of ten clips lie between ``low`` and ``high``. All figures are 0 where there are no clips.
    """

    width: float
    counts: dict[str, list[int]]
    smallest: float
    low: float
    median: float
    high: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFigures:
    """One split. ``speakers`` are those that are known; ``sentences`` differ from each other when normalised."""

    clips: int
    hours: float
    speakers: int
    sentences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """Who speaks: the speakers heard longest by name, the ``others``, and the clips of which no speaker is known."""

    speakers: int
    largest: list[Share]
    others: Share
    unknown: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A dataset in figures.

    ``characters_a_second`` counts the letters and digits of the normalised sentence. ``genders``, ``ages`` and ``accents``
    begin with the most clips. ``refused`` and ``held_back`` count the clips that were left out, by code: for a fault, and so
    that the splits share nothing. ``shared_*`` count what stands in more than one split.
    """

    splits: dict[str, SplitFigures]
    durations_s: Spread
    characters_a_second: Spread
    voices: Voices
    genders: list[Share]
    ages: list[Share]
    accents: list[Share]
    refused: dict[str, int]
    held_back: dict[str, int]
    shared_speakers: int
    shared_sentences: int

    @property
    def clips(self) -> int:
        return sum(split.clips for split in self.splits.values())

    @property
    def hours(self) -> float:
        return sum(split.hours for split in self.splits.values())

    @property
    def entries(self) -> int:
        """All that the sources offered: the clips in the splits and those left out."""
        return self.clips + sum(self.refused.values()) + sum(self.held_back.values())

    @property
    def refused_share(self) -> float:
        """Of all entries, those refused for a fault."""
        return sum(self.refused.values()) / self.entries if self.entries else 0.0


def statistics(dataset: Dataset) -> Statistics:
    """Count what ``dataset`` holds. Takes some 40 bytes of memory for each clip.

    Raises:
        DatasetError: a file cannot be read, or does not hold what ``dataset.json`` says.
    """
    tallies = {split: _Tally() for split in SPLITS}
    by_trait = {trait: _Shares() for trait in _TRAITS}
    for split, tally in tallies.items():
        for batch in metadata(dataset, split, _COLUMNS):
            tally.add(batch, dataset.description.language)
            for trait, shares in by_trait.items():
                shares.add(batch[trait], batch["duration_s"])
    codes = left_out(dataset)
    _check_described(dataset, tallies, codes)
    return Statistics(
        splits={split: tally.figures() for split, tally in tallies.items()},
        durations_s=_spread({split: tally.durations_s for split, tally in tallies.items()}, DURATION_BINS, DURATION_BIN_S),
        characters_a_second=_spread({split: tally.rates for split, tally in tallies.items()}, RATE_BINS, RATE_BIN),
        voices=_voices(by_trait["speaker_id"].ordered()),
        genders=by_trait["gender"].ordered(),
        ages=by_trait["age"].ordered(),
        accents=by_trait["accent"].ordered(),
        refused={code: clips for code, clips in codes.most_common() if code not in HELD_BACK},
        held_back={code: clips for code, clips in codes.most_common() if code in HELD_BACK},
        shared_speakers=_in_several([np.array(list(tally.speakers), dtype=np.str_) for tally in tallies.values()]),
        shared_sentences=_in_several([tally.distinct_sentences() for tally in tallies.values()]),
    )


def left_out(dataset: Dataset) -> Counter[str]:
    """The clips that are not in the splits, by code.

    Raises:
        DatasetError: ``rejected.parquet`` cannot be read.
    """
    codes: Counter[str] = Counter()
    for batch in _rows(dataset.folder / REJECTED_FILE, pa.schema([("code", pa.string())])):
        codes.update(batch["code"])
    return codes


def metadata(dataset: Dataset, split: str, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Stream ``columns`` of one split in stored order, some clips at a time; audio is not read unless it is named.

    Raises:
        DatasetError: a shard cannot be read, or lacks a column.
    """
    schema = pa.schema([CLIP_SCHEMA.field(column) for column in columns])
    for shard in dataset.shards(split):
        yield from _rows(shard, schema)


def _rows(path: Path, schema: pa.Schema) -> Iterator[dict[str, list[Any]]]:
    try:
        with pq.ParquetFile(path) as file:
            absent = [name for name in schema.names if name not in file.schema_arrow.names]
            if absent:
                raise DatasetError(f"{path}: has no column {absent[0]!r}; prepare the dataset again")
            for batch in file.iter_batches(batch_size=_ROWS, columns=schema.names):
                rows = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
                empty = [name for name in schema.names if rows[name].null_count]
                if empty:
                    raise DatasetError(f"{path}: has rows without {empty[0]!r}; prepare the dataset again")
                yield rows.to_pydict()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as part of a dataset ({error}); prepare the dataset again") from error


@dataclass(slots=True)
class _Tally:
    """One split, clip by clip. Sentences are kept as 64 bits of a hash: of a million, two are alike once in 40 million times."""

    durations_s: array[float] = field(default_factory=lambda: array("d"))
    rates: array[float] = field(default_factory=lambda: array("d"))
    sentences: array[int] = field(default_factory=lambda: array("Q"))
    speakers: set[str] = field(default_factory=set)

    def add(self, batch: Mapping[str, Sequence[Any]], language: str) -> None:
        for clip_id, seconds, text in zip(batch["clip_id"], batch["duration_s"], batch["text"], strict=True):
            if not 0 < seconds < float("inf"):
                raise DatasetError(f"clip {clip_id}: is said to last {seconds} s; prepare the dataset again")
            sentence = normalise(text, language)
            self.durations_s.append(seconds)
            self.rates.append(len(sentence.replace(" ", "")) / seconds)
            if sentence:
                self.sentences.append(int.from_bytes(blake2b(sentence.encode(), digest_size=8).digest(), "little"))
        self.speakers.update(speaker for speaker in batch["speaker_id"] if speaker)

    def distinct_sentences(self) -> npt.NDArray[np.uint64]:
        return np.unique(_numbers(self.sentences, np.uint64))

    def figures(self) -> SplitFigures:
        return SplitFigures(
            clips=len(self.durations_s),
            hours=sum(self.durations_s) / 3600,
            speakers=len(self.speakers),
            sentences=len(self.distinct_sentences()),
        )


class _Shares:
    """Clips and seconds by name."""

    def __init__(self) -> None:
        self._clips: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, names: Iterable[str], durations_s: Iterable[float]) -> None:
        for name, seconds in zip(names, durations_s, strict=True):
            self._clips[name] += 1
            self._seconds[name] += seconds

    def ordered(self) -> list[Share]:
        """The most clips first, and of equal ones by name; who is not named comes last."""
        names = sorted(self._clips, key=lambda name: (not name, -self._clips[name], name))
        return [Share(name=name, clips=self._clips[name], hours=self._seconds[name] / 3600) for name in names]


def _voices(speakers: Sequence[Share]) -> Voices:
    known = sorted((share for share in speakers if share.name), key=lambda share: -share.hours)
    return Voices(
        speakers=len(known),
        largest=known[:SPEAKERS_NAMED],
        others=_together(known[SPEAKERS_NAMED:]),
        unknown=_together([share for share in speakers if not share.name]),
    )


def _together(shares: Sequence[Share]) -> Share:
    return Share(name="", clips=sum(share.clips for share in shares), hours=sum(share.hours for share in shares))


def _spread(values: Mapping[str, array[float]], bins: int, width: float) -> Spread:
    together = np.concatenate([_numbers(found, np.float64) for found in values.values()])
    marks = np.percentile(together, [0, 5, 50, 95, 100]) if len(together) else np.zeros(5)
    smallest, low, median, high, largest = map(float, marks)
    counts = {split: _binned(_numbers(found, np.float64), bins, width) for split, found in values.items()}
    return Spread(width=width, counts=counts, smallest=smallest, low=low, median=median, high=high, largest=largest)


def _numbers(values: array[Any], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.frombuffer(values, dtype=kind) if values else np.empty(0, dtype=kind)


def _binned(values: npt.NDArray[np.float64], bins: int, width: float) -> list[int]:
    places = np.minimum(values / width, bins - 1).astype(np.int64)
    return [int(count) for count in np.bincount(places, minlength=bins)]


def _in_several(groups: Sequence[npt.NDArray[Any]]) -> int:
    """How many values are in more than one of the groups, each of which has a value once."""
    _, counts = np.unique(np.concatenate(groups), return_counts=True)
    return int((counts > 1).sum())


def _check_described(dataset: Dataset, tallies: Mapping[str, _Tally], codes: Counter[str]) -> None:
    found = {split: len(tally.durations_s) for split, tally in tallies.items()} | {"refused": sum(codes.values())}
    description = dataset.description
    said = {split: summary.clips for split, summary in description.splits.items()} | {"refused": description.rejected}
    for name, clips in found.items():
        if said.get(name, 0) != clips:
            raise DatasetError(
                f"{dataset.folder}: {said.get(name, 0)} {name} clips are described and {clips} are there; prepare the dataset again"
            )
