"""What models heard, kept: the model that serves today is measured at every evaluation, and hears the same each time.

Two kinds of entries, each a sealed JSON file under a name made of all that decides what is heard: a whole split's texts, and
the transcripts of what else a model listened to. Texts are transcripts of recordings, so the folder is as private as those.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from avskrift.errors import EvaluationError, IntegrityError, StorageError
from avskrift.evaluation.result import Speed
from avskrift.evaluation.sealed import read_sealed, with_seal
from avskrift.logs import Log
from avskrift.storage.atomic import sweep, write_json
from avskrift.storage.paths import cache
from avskrift.whisper.package import EncoderContext, ModelPackage
from avskrift.whisper.transcript import Audio, Options, Transcriber, Transcript

Kept = TypeVar("Kept")
_VERSION = 1  # raised whenever what an entry means changes
_log = Log("evaluation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A package as an engine runs it: what decides what is heard. ``engine`` is its ``identity()``, which holds its version."""

    package_sha256: str
    encoder_context: EncoderContext
    engine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The recordings of a split; ``content`` is a sha256 over them in order, since a fingerprint does not say which comes first."""

    dataset_fingerprint: str
    name: str
    content: str
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardSplit:
    """The text of each clip, in order, and how fast that was, by the machine that it was on."""

    texts: tuple[str, ...]
    speeds: dict[str, Speed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listened:
    """Transcripts by the digest of recording and options."""

    transcripts: dict[str, Transcript] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HypothesisCache:
    """Entries in a folder. Whatever cannot be read is measured again, whatever cannot be written is left."""

    folder: Path

    def heard(self, model: Model, split: Split, *, clips: int) -> HeardSplit | None:
        """What the model heard of the split's so many clips; None where that is not known."""
        kept = self._read(_key(model, split), HeardSplit)
        if kept is None or len(kept.texts) == clips:
            return kept
        _log.warning("evaluation.cache_entry_ignored", reason=f"{len(kept.texts)} texts for {clips} clips")
        return None

    def keep(self, model: Model, split: Split, heard: HeardSplit) -> None:
        """Keep what the model heard, instead of an older entry."""
        self._write(_key(model, split), heard)

    def remembering(self, model: Model, transcriber: Transcriber) -> Transcriber:
        """The transcriber, asked only for what it has not transcribed before."""
        return _Remembering(self, _key(model), transcriber)

    def _read(self, key: str, kind: type[Kept]) -> Kept | None:
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            return read_sealed(path, kind, name="an entry of the cache", author="evaluate", remedy="it is measured again")
        except (EvaluationError, IntegrityError, OSError) as error:
            _log.warning("evaluation.cache_entry_ignored", reason=type(error).__name__)
            return None

    def _write(self, key: str, entry: HeardSplit | _Listened) -> None:
        try:
            write_json(self._path(key), with_seal(dataclasses.asdict(entry)))
        except (StorageError, ValueError) as error:  # a figure that no JSON holds is for the evaluation itself to refuse
            _log.warning("evaluation.cache_entry_not_written", reason=type(error).__name__)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def hypothesis_cache() -> HypothesisCache:
    """The cache of this machine."""
    folder = cache() / "hypotheses"
    sweep(folder)  # a run that was killed may have left half an entry
    return HypothesisCache(folder)


class _Remembering:
    """Satisfies :class:`avskrift.whisper.transcript.Transcriber`."""

    def __init__(self, store: HypothesisCache, key: str, transcriber: Transcriber) -> None:
        self._store, self._key, self._transcriber = store, key, transcriber

    @property
    def languages(self) -> frozenset[str]:
        return self._transcriber.languages

    def identity(self) -> str:
        return self._transcriber.identity()

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        kept = self._store._read(self._key, _Listened) or _Listened()
        digests = [_digest(recording, options) for recording in recordings]
        unknown = [place for place, digest in enumerate(digests) if digest not in kept.transcripts]
        if not unknown:
            return [kept.transcripts[digest] for digest in digests]
        heard = self._transcriber.transcribe([recordings[place] for place in unknown], options)
        if len(heard) != len(unknown):
            return heard  # whoever asked refuses it
        known = kept.transcripts | {digests[place]: transcript for place, transcript in zip(unknown, heard, strict=True)}
        self._store._write(self._key, _Listened(transcripts=known))
        return [known[digest] for digest in digests]


def _key(model: Model, split: Split | None = None) -> str:
    decides = [_VERSION, dataclasses.asdict(model), dataclasses.asdict(split) if split else None]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _digest(recording: Audio, options: Options) -> str:
    asked = json.dumps(dataclasses.asdict(options), sort_keys=True)
    return hashlib.sha256(recording.tobytes() + asked.encode()).hexdigest()


def model_of(package: ModelPackage, transcriber: Transcriber) -> Model:
    """The package as ``transcriber``, which was loaded from it, runs it."""
    described = package.description
    return Model(package_sha256=described.sha256, encoder_context=described.encoder_context, engine=transcriber.identity())
