"""From a ``transformers`` folder to a model package."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ctranslate2
from transformers.utils import logging as transformers_logging

import avskrift
from avskrift.errors import PackageError
from avskrift.storage.atomic import atomic_folder, write_json
from avskrift.storage.door import fetch
from avskrift.storage.manifest import digest_folder, manifest_digest
from avskrift.storage.paths import cache, home
from avskrift.whisper.card import model_card
from avskrift.whisper.package import (
    CTRANSLATE2_FOLDER,
    DESCRIPTION_FILE,
    TRANSFORMERS_FOLDER,
    EncoderContext,
    ModelPackage,
    PackageDescription,
    description_as_json,
    is_package,
    open_package,
)
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transformers_folder import TOKENIZER_FILE, check_transformers_folder, open_model

CARD_FILE = "README.md"
_COPIED = (".safetensors", ".json", ".txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a model comes from; see :class:`avskrift.whisper.package.PackageDescription`."""

    base_model: str
    base_model_sha256: str
    encoder_context: EncoderContext
    languages: tuple[str, ...] = ()
    dataset_fingerprint: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)


def export_package(transformers: Path, out: Path, provenance: Provenance) -> ModelPackage:
    """Write the package of a ``transformers`` folder to ``out``, whole or not at all.

    Raises:
        ModelUnavailableError: ``transformers`` is not a Whisper in safetensors.
        PackageError: CTranslate2's converter refuses the model, or its tokenizer is not a multilingual Whisper's.
    """
    check_transformers_folder(transformers, str(transformers))
    WhisperTokens(transformers / TOKENIZER_FILE)  # the engine reads it: what it cannot read is refused here
    with atomic_folder(out) as folder:
        _copy_model(transformers, folder / TRANSFORMERS_FOLDER)
        _convert(transformers, folder / CTRANSLATE2_FOLDER)
        (folder / CARD_FILE).write_text(
            model_card(
                provenance.base_model, provenance.languages, provenance.encoder_context, provenance.dataset_fingerprint, provenance.training
            ),
            encoding="utf-8",
        )
        description = PackageDescription(
            base_model=provenance.base_model,
            base_model_sha256=provenance.base_model_sha256,
            languages=provenance.languages,
            encoder_context=provenance.encoder_context,
            files=digest_folder(folder, without=[DESCRIPTION_FILE]),
            dataset_fingerprint=provenance.dataset_fingerprint,
            training=dict(provenance.training),
            code_version=avskrift.__version__,
        )
        write_json(folder / DESCRIPTION_FILE, description_as_json(description))
    return open_package(out)


def as_package(uri: str) -> ModelPackage:
    """The package behind any model URI. A model that is not one is exported once, unadapted (30 s context), and cached.

    Raises:
        ModelUnavailableError: the model cannot be had.
    """
    folder = fetch(uri)
    if is_package(folder):
        return open_package(folder)
    transformers = open_model(uri)
    sha256 = transformers_digest(transformers)
    target = cache() / "exported" / sha256[:32]
    if target.is_dir():
        return open_package(target)
    provenance = Provenance(base_model=uri, base_model_sha256=sha256, encoder_context=EncoderContext(policy="full"))
    return export_package(transformers, target, provenance)


def transformers_digest(folder: Path) -> str:
    """The identity of a ``transformers`` folder's bytes."""
    return manifest_digest(digest_folder(folder))


def _copy_model(source: Path, target: Path) -> None:
    """Weights, settings and tokenizer; pickles and a trainer's checkpoints stay where they are."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in _COPIED:
            _link_or_copy(file.resolve(), target / file.name)  # resolved: the hub's cache is made of links


def _link_or_copy(source: Path, target: Path) -> None:
    """In our own state folder files are replaced by rename and never written in place, so two names may share the bytes."""
    if source.is_relative_to(home().resolve()):
        with suppress(OSError):
            target.hardlink_to(source)
            return
    shutil.copyfile(source, target)


def _convert(transformers: Path, out: Path) -> None:
    transformers_logging.disable_progress_bar()
    # The timestamp tokens are in tokenizer.json, which the engine reads; CTranslate2 itself only needs the vocabulary's size.
    companions = [name for name in (TOKENIZER_FILE, "preprocessor_config.json") if (transformers / name).is_file()]
    converter = ctranslate2.converters.TransformersConverter(str(transformers), copy_files=companions)
    try:
        converter.convert(str(out), quantization="float16")
    except (ValueError, RuntimeError, AttributeError) as error:
        raise PackageError(f"{transformers}: CTranslate2 cannot convert it ({error})") from error
