"""A package that was changed is loaded by nobody: each place that would load one refuses it first, and names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from avskrift.errors import IntegrityError
from avskrift.serving.model import TranscriptionModel
from avskrift.serving.settings import from_environment
from avskrift.steps.evaluate import step as evaluating
from avskrift.whisper.package import ModelPackage, open_package
from avskrift.whisper.transformers_folder import open_model
from avskrift_pipelines.command.transcribing import transcribe

Loads = Callable[[Path, Path], object]  # from a package and a dataset


def _must_not_load(*_: object) -> None:
    raise AssertionError("a package that was changed must not be loaded")


def _evaluate(package: Path, dataset: Path) -> None:
    config = evaluating.Config(package_uri=str(package), dataset=dataset, baseline_uri=str(package), out=package.parent / "out")
    evaluating.run_with(config, _must_not_load)  # type: ignore[arg-type]


def _serve(package: Path, _: Path) -> None:
    TranscriptionModel("avskrift", open_package(package), settings=from_environment(), open_transcriber=_must_not_load).load()  # type: ignore[arg-type]


def _transcribe(package: Path, _: Path) -> None:
    recording = package.parent / "recording.flac"
    recording.write_bytes(b"not reached")
    transcribe([recording], model=str(package))


def _train_on_from(package: Path, _: Path) -> None:
    open_model(str(package))


LOADERS = [_evaluate, _serve, _transcribe, _train_on_from]


@pytest.fixture
def changed(tiny_package: ModelPackage, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_package.folder, tmp_path / "package"))


@pytest.mark.parametrize("name", ["ct2/model.bin", "ct2/tokenizer.json", "hf/model.safetensors"])
@pytest.mark.parametrize("loads", LOADERS)
def test_a_flipped_byte_is_refused_by_the_name_of_its_file(changed: Path, tiny_dataset: Path, loads: Loads, name: str) -> None:
    content = bytearray((changed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (changed / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{name} has sha256"):
        loads(changed, tiny_dataset)


@pytest.mark.parametrize("loads", LOADERS)
def test_a_description_that_was_edited_is_refused_too(changed: Path, tiny_dataset: Path, loads: Loads) -> None:
    """No file's digest would tell: the encoder context decides what the model is given."""
    raw = json.loads((changed / "model.json").read_text(encoding="utf-8"))
    raw["encoder_context"]["policy"] = "variable"
    (changed / "model.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"model\.json: was changed after it was written"):
        loads(changed, tiny_dataset)


def test_a_file_that_is_missing_is_named(changed: Path) -> None:
    (changed / "ct2" / "vocabulary.json").unlink()
    with pytest.raises(IntegrityError, match=r"ct2/vocabulary\.json is missing"):
        open_package(changed).verify()
