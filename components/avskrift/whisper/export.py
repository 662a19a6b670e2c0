"""From a ``transformers`` folder to a model package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ctranslate2
from transformers import WhisperConfig
from transformers.utils import logging as transformers_logging

import avskrift
from avskrift.errors import PackageError
from avskrift.storage.atomic import atomic_folder, write_json
from avskrift.storage.door import fetch
from avskrift.storage.manifest import digest_folder, manifest_digest
from avskrift.storage.paths import cache, home
from avskrift.whisper.alignment_heads import AlignmentHeads, DecoderShape, alignment_heads
from avskrift.whisper.card import model_card
from avskrift.whisper.mlmodel import MLMODEL_FILE, mlmodel
from avskrift.whisper.package import (
    CTRANSLATE2_FOLDER,
    DESCRIPTION_FILE,
    TRANSFORMERS_FOLDER,
    DatasetSummary,
    EncoderContext,
    ModelPackage,
    PackageDescription,
    description_as_json,
    is_package,
    open_package,
)
from avskrift.whisper.round_trip import Sample, compare
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transformers_folder import TOKENIZER_FILE, check_transformers_folder, open_model

CARD_FILE = "README.md"
_COPIED = (".safetensors", ".json", ".txt")
_QUANTISATION = "float16"  # half the bytes of float32, and the engine makes int8 of it where that is faster


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a model comes from; see :class:`avskrift.whisper.package.PackageDescription`."""

    base_model: str
    base_model_sha256: str
    encoder_context: EncoderContext
    languages: tuple[str, ...] = ()
    dataset_fingerprint: str = ""
    dataset: DatasetSummary | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def export_package(transformers: Path, out: Path, provenance: Provenance, *, sample: Sample | None = None) -> ModelPackage:
    """Write the package of a ``transformers`` folder to ``out``, whole or not at all.

    With a ``sample``, ``ct2/`` must write of it what ``hf/`` writes; see :mod:`avskrift.whisper.round_trip`.

    Raises:
        ModelUnavailableError: ``transformers`` is not a Whisper in safetensors.
        PackageError: CTranslate2's converter refuses the model or makes another of it, its tokenizer is not a multilingual
            Whisper's, or it names alignment heads that it does not have.
    """
    check_transformers_folder(transformers, str(transformers))
    WhisperTokens(transformers / TOKENIZER_FILE)  # the engine reads it: what it cannot read is refused here
    with atomic_folder(out) as folder:
        source, converted = folder / TRANSFORMERS_FOLDER, folder / CTRANSLATE2_FOLDER
        _copy_model(transformers, source)
        _convert(transformers, converted)
        described = PackageDescription(
            base_model=provenance.base_model,
            base_model_sha256=provenance.base_model_sha256,
            languages=provenance.languages,
            encoder_context=provenance.encoder_context,
            files={},
            dataset_fingerprint=provenance.dataset_fingerprint,
            dataset=provenance.dataset,
            training=dict(provenance.training),
            quantisation=_QUANTISATION,
            alignment_heads=_settle_alignment_heads(transformers, converted),
            round_trip=compare(source, converted, sample, provenance.encoder_context) if sample else None,
            code_version=avskrift.__version__,
        )
        (folder / CARD_FILE).write_text(model_card(described), encoding="utf-8")
        (folder / MLMODEL_FILE).write_text(mlmodel(), encoding="utf-8")
        described = replace(described, files=digest_folder(folder, without=[DESCRIPTION_FILE]))
        write_json(folder / DESCRIPTION_FILE, description_as_json(described))
    return open_package(out)


def as_package(uri: str) -> ModelPackage:
    """The package behind any model URI. A model that is not one is exported once, unadapted (30 s context), and cached.

    Its bytes are not checked: call :meth:`avskrift.whisper.package.ModelPackage.verify` before loading them.

    Raises:
        ModelUnavailableError: the model cannot be had.
        PackageError, IntegrityError: it cannot be exported, or its ``model.json`` cannot be used.
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
        converter.convert(str(out), quantization=_QUANTISATION)
    except (ValueError, RuntimeError, AttributeError) as error:
        raise PackageError(f"{transformers}: CTranslate2 cannot convert it ({error})") from error


def _settle_alignment_heads(transformers: Path, converted: Path) -> AlignmentHeads:
    """Put the model's own heads into ``ct2/config.json``, or its size's; CTranslate2 knows them by a model's name alone."""
    config = WhisperConfig(**json.loads((transformers / "config.json").read_text(encoding="utf-8")))
    shape = DecoderShape(config.decoder_layers, config.decoder_attention_heads, config.num_mel_bins)
    generation = transformers / "generation_config.json"
    said = json.loads(generation.read_text(encoding="utf-8")).get("alignment_heads") if generation.is_file() else None
    heads = alignment_heads(said, shape)
    target = converted / "config.json"
    written = json.loads(target.read_text(encoding="utf-8")) | {"alignment_heads": [list(pair) for pair in heads]}
    target.write_text(json.dumps(written, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return heads
