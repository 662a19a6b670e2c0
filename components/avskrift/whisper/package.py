"""The model package: ``hf/``, ``ct2/``, ``model.json`` and a generated ``README.md``."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from avskrift.audio.constants import FRAMES_PER_POSITION, WINDOW_FRAMES
from avskrift.errors import PackageError
from avskrift.storage.manifest import FileDigest, manifest_digest, verify_folder

DESCRIPTION_FILE = "model.json"
DESCRIPTION_VERSION = 1
TRANSFORMERS_FOLDER = "hf"
CTRANSLATE2_FOLDER = "ct2"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderContext:
    """How much the encoder must be given.

    ``full``: always 30 s, as Whisper was trained. ``variable``: the clip's own length, rounded up to
    ``multiple_frames`` log-mel frames (100 a second) and at least ``minimum_frames``; only for models adapted to it.
    """

    policy: Literal["full", "variable"] = "full"
    minimum_frames: int = 100
    multiple_frames: int = 50

    def __post_init__(self) -> None:
        """Raises ValueError for what no encoder can be given: it reads frames in pairs, and at most 3000."""
        if self.policy not in ("full", "variable"):
            raise ValueError(f"encoder context policy {self.policy!r} is neither full nor variable")
        for frames in (self.minimum_frames, self.multiple_frames):
            if not 0 < frames <= WINDOW_FRAMES or frames % FRAMES_PER_POSITION:
                raise ValueError(f"an encoder context of {frames} frames; it takes an even number up to {WINDOW_FRAMES}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageDescription:
    """``model.json``."""

    base_model: str
    base_model_sha256: str
    languages: tuple[str, ...]  # what it was adapted to; empty for a base model
    encoder_context: EncoderContext
    files: dict[str, FileDigest]
    dataset_fingerprint: str = ""
    training: dict[str, Any] = field(default_factory=dict)
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
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise PackageError(f"{folder}: no {DESCRIPTION_FILE}, so not a model package; make one with `avskrift export`")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FileDigest(**entry) for name, entry in raw.pop("files").items()}
        context = EncoderContext(**raw.pop("encoder_context"))
        languages = tuple(raw.pop("languages"))
        description = PackageDescription(files=files, encoder_context=context, languages=languages, **raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PackageError(f"{path}: not a package description ({error}); export the model again") from error
    if description.version != DESCRIPTION_VERSION:
        raise PackageError(f"{path}: version {description.version}, {DESCRIPTION_VERSION} is understood; export the model again")
    if not files:
        raise PackageError(f"{path}: names no files, so nothing could be verified; export the model again")
    return ModelPackage(folder, description)


def description_as_json(description: PackageDescription) -> dict[str, Any]:
    """The description as plain JSON values."""
    return dataclasses.asdict(description)
