"""Releases of Common Voice of the published shape, built for tests and benchmarks: real MP3, all tables, as many clips as wanted.

The layout and the columns are those of the releases' documentation (github.com/common-voice/cv-dataset) and of Mozilla's
bundler, which packs a release's files by name, so ``clips/`` before the splits. No recording or sentence of Common Voice is in it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import struct
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import soundfile as sf

_BASIC = ("client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender")
_FULL = ("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age", "gender")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "7": (*_BASIC, "accent", "locale", "segment"),
    "13.0": (*_BASIC, "accents", "variant", "locale", "segment"),
    "17.0": (*_FULL, "accents", "variant", "locale", "segment"),
    "25.0": (*_FULL, "accents", "variant", "locale", "segment"),
}
NAMES: Mapping[str, str] = {
    "7": "cv-corpus-7.0-2021-07-21",
    "13.0": "cv-corpus-13.0-2023-03-09",
    "17.0": "cv-corpus-17.0-2024-03-15",
    "25.0": "cv-corpus-25.0-2026-03-09",
}
Sounds = Callable[[int], list[np.ndarray]]  # 16 sounds of about a second, at the sample rate that is asked for
# What a clip of each broken kind is refused for.
BROKEN: Mapping[str, str] = {
    "truncated": "undecodable",
    "empty": "empty_audio",
    "silent": "silent",
    "text": "undecodable",
    "absent": "missing",
}
_TABLES = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many clips of each sort. ``broken`` of each of the kinds in BROKEN come on top, among the train clips.

    Of the ``remainder``, the validated clips that are in no split, a quarter has a speaker of test or validation, a quarter
    a sentence of test or validation in another case and punctuation, and half has neither.
    """

    train: int = 24
    validation: int = 8
    test: int = 8
    remainder: int = 12
    invalidated: int = 4
    other: int = 4
    broken: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What was built: the names of clips by split ("remainder" too), by broken kind, and of the remainder that must be held back."""

    path: Path
    name: str
    locale: str
    clips: dict[str, list[str]] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=dict)
    speaker_is_held_out: list[str] = field(default_factory=list)
    sentence_is_held_out: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Clips by split, the broken ones too."""
        return {split: len(clips) for split, clips in self.clips.items()}

    @property
    def folder(self) -> str:
        """The language's folder inside the release."""
        return f"{self.name}/{self.locale}"


def write_release(
    path: Path,
    *,
    plan: Plan | None = None,
    release: str = "17.0",
    locale: str = "sv-SE",
    tables_first: bool = True,
    compression: int = 6,
    sounds: Sounds | None = None,
) -> Release:
    """Build a release at ``path``: ``.tar.gz`` or ``.tgz``, ``.tar``, or a folder. The same arguments give the same content.

    ``release`` is one of COLUMNS. Not ``tables_first`` is Mozilla's own order. ``sounds`` are what recordings are made of.
    """
    built = Release(path=path, name=NAMES[release], locale=locale)
    rows, clips = _plan(plan or Plan(), built, release)
    files = {name: table(release, table_rows) for name, table_rows in rows.items()} | _side_files(rows, clips, release)
    tables = {f"{built.folder}/{name}": data for name, data in sorted(files.items())}
    before = {name: data for name, data in tables.items() if tables_first or name < f"{built.folder}/clips"}

    def members() -> Iterator[tuple[str, bytes]]:
        yield from before.items()
        for name in sorted(clips):
            if clips[name] is not None:
                yield f"{built.folder}/clips/{name}", _data(clips[name], sounds or beeps)
        yield from ((name, data) for name, data in tables.items() if name not in before)

    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        write_tar(path, members(), compression=compression)
    else:
        for name, data in members():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return built


def write_tar(path: Path, members: Iterable[tuple[str | tarfile.TarInfo, bytes]], *, compression: int = 6) -> Path:
    """A tarball of ``members`` in their order; compressed unless its name ends in ``.tar``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if path.suffix == ".tar":
            archive = stack.enter_context(tarfile.open(path, "w"))
        else:
            archive = stack.enter_context(tarfile.open(path, "w:gz", compresslevel=compression))
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if info.isfile():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def table(release: str, rows: Iterable[Mapping[str, str]]) -> bytes:
    """A table with a release's columns; what a row does not have is empty."""
    columns = COLUMNS[release]
    lines = ["\t".join(columns), *("\t".join(row.get(column, "") for column in columns) for row in rows)]
    return "".join(f"{line}\n" for line in lines).encode()


def row(clip: str, *, sentence: str | None = None, speaker: str = "ada", **columns: str) -> dict[str, str]:
    """A row of a table, in the columns of every release."""
    said = sentence if sentence is not None else sentence_of(_number(clip))
    known = {"client_id": client_id(speaker), "path": clip, "sentence": said, "sentence_id": _digest(said)}
    return known | {"up_votes": "2", "down_votes": "0", "locale": "sv-SE"} | columns


def client_id(speaker: str) -> str:
    """128 hexadecimal digits."""
    return hashlib.sha512(speaker.encode()).hexdigest()


def sentence_of(number: int) -> str:
    """Swedish; another one for each number below 160,000, also when normalised."""
    number, who = divmod(number, len(_WHO))
    number, what = divmod(number, len(_WHAT))
    when, where = divmod(number, len(_WHERE))
    return f"{_WHO[who]} {_WHAT[what]} {_WHERE[where]} {_WHEN[when % len(_WHEN)]}."


def recording(number: int, *, parts: int = 4, sounds: Sounds | None = None) -> bytes:
    """An MP3 of some four seconds, 48 kHz for even numbers and 32 kHz for odd ones; other audio for each number below 100,000.

    It is put together from the frames of a few encoded sounds: encoding a second takes twenty times as long.
    """
    number, odd = divmod(number, 2)
    encoded = _encoded_sounds(sounds or beeps, 32_000 if odd else 48_000)
    number = number * 40_503 % len(encoded) ** parts  # an odd step: every number comes once, and neighbours are unlike
    chosen = []
    for _ in range(parts):
        number, index = divmod(number, len(encoded))
        chosen.append(encoded[index])
    return _joined(chosen)


def silence() -> bytes:
    """An MP3 of two seconds without a sound."""
    return _encoded(np.zeros(64_000), 32_000)


def _plan(plan: Plan, built: Release, release: str) -> tuple[dict[str, list[dict[str, str]]], dict[str, int | str | None]]:
    """Rows by table, and what each clip is: the number of its recording, a broken kind, or None where it is absent."""
    maker = _Maker(release, built.locale)
    for split, table_name in _TABLES.items():
        count = getattr(plan, split)
        built.clips[split] = [maker.add(table_name, f"{split}-{index // 4}") for index in range(count)]
    for kind in BROKEN:
        built.broken[kind] = [maker.add("train.tsv", f"train-{index}", kind) for index in range(plan.broken)]
        built.clips["train"] += built.broken[kind]
    maker.rows["validated.tsv"] = [row for table_name in _TABLES.values() for row in maker.rows[table_name]]
    _add_remainder(plan, built, maker)
    for index in range(plan.invalidated):
        maker.add("invalidated.tsv", f"invalidated-{index}", up_votes="1", down_votes="2")
    for index in range(plan.other):
        maker.add("other.tsv", f"other-{index}", up_votes="1", down_votes="0")
    return maker.rows, maker.clips


def _add_remainder(plan: Plan, built: Release, maker: _Maker) -> None:
    held_out = [row for name in ("dev.tsv", "test.tsv") for row in maker.rows[name]]
    built.clips["remainder"] = []
    for index in range(plan.remainder):
        pair = held_out[index % len(held_out)] if held_out else None
        if pair and index % 4 == 0:
            clip = maker.add("validated.tsv", "", client_id=pair["client_id"])
            built.speaker_is_held_out.append(clip)
        elif pair and index % 4 == 1:
            clip = maker.add("validated.tsv", f"remainder-{index // 8}", sentence=pair["sentence"].upper().replace(".", "!"))
            built.sentence_is_held_out.append(clip)
        else:
            clip = maker.add("validated.tsv", f"remainder-{index // 8}")
        built.clips["remainder"].append(clip)


class _Maker:
    """Adds clips to tables, each with a name, a sentence and a recording of its own."""

    def __init__(self, release: str, locale: str) -> None:
        self.rows: dict[str, list[dict[str, str]]] = {
            name: [] for name in (*_TABLES.values(), "validated.tsv", "invalidated.tsv", "other.tsv")
        }
        self.clips: dict[str, int | str | None] = {}
        self._locale = locale
        self._genders = _OLD_GENDERS if release in ("7", "13.0") else _GENDERS

    def add(self, table_name: str, speaker: str, kind: str = "", **columns: str) -> str:
        number = len(self.clips)
        # A prime step through a prime number of names: the clips of a split do not lie side by side.
        name = f"common_voice_{self._locale}_{18_000_000 + number * 7_919 % 1_000_003}.mp3"
        sentence = sentence_of(number)
        if number % 10 == 9:
            sentence = f'"{sentence}"'  # which no reader may take for the start of a quoted cell
        voice = int(_digest(speaker)[:4], 16)
        said = {"age": _AGES[voice % len(_AGES)], "gender": self._genders[voice % len(self._genders)], "locale": self._locale}
        accent = _ACCENTS[voice % len(_ACCENTS)]
        made = row(name, sentence=sentence, speaker=speaker, accent=accent, accents=accent, **said)
        self.rows[table_name].append(made | columns)
        self.clips[name] = None if kind == "absent" else (kind or number)
        return name


def _data(clip: int | str | None, sounds: Sounds) -> bytes:
    if isinstance(clip, int):
        return recording(clip, sounds=sounds)
    broken = {
        "truncated": lambda: recording(0)[: len(recording(0)) // 2],
        "empty": lambda: b"",
        "silent": silence,
        "text": lambda: "Detta är inte en inspelning.\n".encode() * 40,
    }
    return broken[str(clip)]()


def _side_files(rows: Mapping[str, list[dict[str, str]]], clips: Mapping[str, object], release: str) -> dict[str, bytes]:
    """What else lies in the language's folder; nothing of it is needed."""
    durations = "".join(f"{name}\t4000\n" for name in sorted(clips))
    files = {"reported.tsv": b"sentence\tsentence_id\tlocale\treason\n"}
    if release in ("17.0", "25.0"):
        sentences = "".join(f"{row['sentence_id']}\t{row['sentence']}\n" for row in rows["validated.tsv"])
        files["clip_durations.tsv"] = f"clip\tduration[ms]\n{durations}".encode()
        files["validated_sentences.tsv"] = f"sentence_id\tsentence\n{sentences}".encode()
        files["unvalidated_sentences.tsv"] = b"sentence_id\tsentence\n"
    if release == "25.0":
        files["README.md"] = b"# A datasheet\n"
    return files


def beeps(rate: int) -> list[np.ndarray]:
    """Sixteen sounds of about a second that no two ears confuse."""
    noise = np.random.default_rng(rate)
    sounds = []
    for number in range(16):
        seconds = np.arange(int(rate * (0.75 + 0.03 * number))) / rate
        pitch, beat = 110.0 * 2 ** (number / 6), 2.0 + number % 5
        tone = sum(np.sin(2 * np.pi * pitch * harmonic * seconds) / harmonic for harmonic in (1, 2, 3))
        sounds.append(np.abs(np.sin(np.pi * beat * seconds)) * tone * 0.2 + noise.normal(0.0, 0.05, len(seconds)))
    return sounds


@functools.lru_cache
def _encoded_sounds(sounds: Sounds, rate: int) -> list[list[bytes]]:
    """Each sound as its MP3 frames; the first of them says how many follow."""
    return [_frames(_encoded(sound, rate)) for sound in sounds(rate)]


def _encoded(samples: np.ndarray, rate: int) -> bytes:
    """At a constant bit rate of some 64 kbit/s, like Common Voice's own."""
    file = io.BytesIO()
    level = 0.88 if rate == 48_000 else 0.9
    sf.write(file, samples.astype(np.float32), rate, format="MP3", bitrate_mode="CONSTANT", compression_level=level)
    return file.getvalue()


def _frames(data: bytes) -> list[bytes]:
    """The frames of an MPEG-1 layer III file without tags. Source: ISO/IEC 11172-3, 2.4.1.3."""
    kilobits = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    rates = (44_100, 48_000, 32_000)
    frames, position = [], 0
    while position < len(data):
        header = data[position + 2]
        size = 144 * kilobits[header >> 4] * 1000 // rates[header >> 2 & 3] + (header >> 1 & 1)
        frames.append(data[position : position + size])
        position += size
    return frames


def _joined(sounds: list[list[bytes]]) -> bytes:
    """One file of several sounds. The first frame of each borrows no bits from what went before it, so they can be joined."""
    head = sounds[0][0]
    body = [frame for sound in sounds for frame in sound[1:]]
    counts = head.index(b"Info") + 8
    size = len(head) + sum(map(len, body))
    return b"".join([head[:counts], struct.pack(">II", len(body), size), head[counts + 8 :], *body])


def _number(clip: str) -> int:
    return int(_digest(clip)[:8], 16) % 160_000


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_OLD_GENDERS = ("", "male", "female", "other")
_GENDERS = ("", "male_masculine", "female_feminine", "non-binary", "do_not_wish_to_say")
_AGES = ("", "teens", "twenties", "thirties", "fourties", "fifties", "sixties")
_ACCENTS = ("", "Göteborgska", "Skånska,Uppvuxen i Lund", "rikssvenska")
_WHO = [f"{whose} {who}" for whose, who in product(("Min", "Din", "Vår", "Er"), ("granne", "kusin", "moster", "lärare", "chef"))]
_WHAT = [
    *("målar staketet", "lagar en gammal cykel", "bakar limpor", "räknar fåglar", "skriver långa brev"),
    *("klipper häcken", "övar på dragspel", "plockar lingon", "vaxar skidor", "sorterar frimärken"),
    *("väver mattor", "tvättar fönstren", "sår morötter", "kokar sylt", "läser tidningen"),
    *("hugger ved", "matar ankorna", "byter däck", "stickar vantar", "ritar kartor"),
]
_WHERE = [
    *("i Åmål", "på ön", "vid ån", "bakom ladan", "hemma i köket", "utanför Örebro", "under eken", "nere i hamnen"),
    *("på torget", "i trappan", "bredvid kyrkan", "ute på gården", "i Härnösand", "på vinden", "vid älven", "i källaren"),
    *("på balkongen", "längs vägen", "i växthuset", "uppe på fjället"),
]
_WHEN = [
    *("varje vår", "om kvällarna", "när det regnar", "före jul", "tidigt på morgonen", "hela sommaren", "på söndagar"),
    *("efter skolan", "utan att klaga", "så fort det går", "en gång om året", "medan kaffet kokar", "i sakta mak"),
    *("tills det blir mörkt", "med stor glädje", "för sista gången", "i strålande sol", "när ingen ser på"),
    *("långt in på natten", "precis som förr"),
]
