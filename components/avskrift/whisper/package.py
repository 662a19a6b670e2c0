"""The model package: ``hf/``, ``ct2/``, ``model.json``, and the generated ``README.md`` and ``MLmodel``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from avskrift.audio.constants import FRAMES_PER_POSITION, HOP_LENGTH, WINDOW_FRAMES
from avskrift.errors import IntegrityError, PackageError
from avskrift.storage.manifest import FileDigest, manifest_digest, verify_folder
from avskrift.whisper.alignment_heads import AlignmentHeads

DESCRIPTION_FILE = "model.json"
DESCRIPTION_VERSION = 1
TRANSFORMERS_FOLDER = "hf"
CTRANSLATE2_FOLDER = "ct2"
_SEAL = "sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderContext:
    """How much the encoder must be given.

    ``full``: always 30 s, as Whisper was trained. ``variable``: the clip's own length, rounded up to
    ``multiple_frames`` log-mel frames (100 a second) and at least ``minimum_frames``; only for models adapted to it.
    """

    policy: Literal["full", "variable"] = "full"
    minimum_frames: int = 500  # of 30 s, on which it was trained, an adapted model loses nothing; docs/adr/0002
    multiple_frames: int = 50

    def __post_init__(self) -> None:
        """Raises ValueError for what no encoder can be given: it reads frames in pairs, and at most 3000."""
        if self.policy not in ("full", "variable"):
            raise ValueError(f"encoder context policy {self.policy!r} is neither full nor variable")
        for frames in (self.minimum_frames, self.multiple_frames):
            if not 0 < frames <= WINDOW_FRAMES or frames % FRAMES_PER_POSITION:
                raise ValueError(f"an encoder context of {frames} frames; it takes an even number up to {WINDOW_FRAMES}")

    def frames(self, samples: int) -> int:
        """Log-mel frames that the encoder is given for so many samples: enough for all of them, up to 30 s."""
        if self.policy == "full":
            return WINDOW_FRAMES
        needed = max(samples / HOP_LENGTH, self.minimum_frames)
        return min(WINDOW_FRAMES, self.multiple_frames * math.ceil(needed / self.multiple_frames))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary:
    """What the model was fine-tuned on, for its card. ``hours`` by split."""

    source: str
    licence: str
    hours: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """How ``ct2/`` agreed with ``hf/`` on a sample: words that ``transformers`` wrote, and how many CTranslate2 wrote differently."""

    clips: int
    words: int
    different: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageDescription:
    """``model.json``. What an older package does not say has its default."""

    base_model: str
    base_model_sha256: str
    languages: tuple[str, ...]  # what it was adapted to; empty for a base model
    encoder_context: EncoderContext
    files: dict[str, FileDigest]
    dataset_fingerprint: str = ""
    dataset: DatasetSummary | None = None
    training: dict[str, Any] = field(default_factory=dict)
    quantisation: str = "float16"  # of the weights in ct2/; the engine computes in int8 on a CPU, in float16 on a GPU
    alignment_heads: AlignmentHeads = ()  # that word timestamps are read from; ct2/config.json has them too
    round_trip: RoundTrip | None = None  # None where there was nothing to transcribe
    code_version: str = ""
    version: int = DESCRIPTION_VERSION

    @property
    def sha256(self) -> str:
        """The package's identity: one digest over the digests of its files."""
        return manifest_digest(self.files)


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package folder, opened by :func:`open_package`."""

    folder: Path
    description: PackageDescription

    @property
    def transformers(self) -> Path:
        return self.folder / TRANSFORMERS_FOLDER

    @property
    def ctranslate2(self) -> Path:
        return self.folder / CTRANSLATE2_FOLDER

    def verify(self) -> None:
        """Check every file's sha256 against ``model.json``.

        Raises:
            IntegrityError: a file is missing or was changed.
        """
        verify_folder(self.folder, self.description.files)


def is_package(folder: Path) -> bool:
    """Whether a folder looks like a model package (as opposed to a bare transformers folder)."""
    return (folder / DESCRIPTION_FILE).is_file()


def open_package(folder: Path) -> ModelPackage:
    """Read a package's description. Call :meth:`ModelPackage.verify` before loading its weights.

    Raises:
        PackageError: no ``model.json`` or one that breaks the contract.
        IntegrityError: a ``model.json`` that is not the one that was written; no other digest covers it.
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise PackageError(f"{folder}: no {DESCRIPTION_FILE}, so not a model package; make one with `avskrift export`")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        seal = raw.pop(_SEAL, None)  # an older package has none
        digest = _digest(raw)
        description = _described(raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PackageError(f"{path}: not a package description ({error}); export the model again") from error
    if description.version != DESCRIPTION_VERSION:
        raise PackageError(f"{path}: version {description.version}, {DESCRIPTION_VERSION} is understood; export the model again")
    if not description.files:
        raise PackageError(f"{path}: names no files, so nothing could be verified; export the model again")
    if seal not in (None, digest):
        raise IntegrityError(f"{path}: was changed after it was written (its sha256 differs); fetch or export the package again")
    return ModelPackage(folder, description)


def description_as_json(description: PackageDescription) -> dict[str, Any]:
    """The description as plain JSON values, sealed with a sha256 of them."""
    fields = dataclasses.asdict(description)
    return fields | {_SEAL: _digest(fields)}


def _described(raw: dict[str, Any]) -> PackageDescription:
    dataset, round_trip = raw.pop("dataset", None), raw.pop("round_trip", None)
    return PackageDescription(
        files={name: FileDigest(**entry) for name, entry in raw.pop("files").items()},
        encoder_context=EncoderContext(**raw.pop("encoder_context")),
        languages=tuple(raw.pop("languages")),
        dataset=DatasetSummary(**dataset) if dataset else None,
        alignment_heads=tuple((layer, head) for layer, head in raw.pop("alignment_heads", ())),
        round_trip=RoundTrip(**round_trip) if round_trip else None,
        **raw,
    )


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
