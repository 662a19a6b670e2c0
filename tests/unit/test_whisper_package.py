"""A model package says what it is, vouches for its bytes and loads everywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctranslate2
import pytest
import torch
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperProcessor

import avskrift
from avskrift.errors import IntegrityError, ModelUnavailableError, PackageError
from avskrift.storage.manifest import digest_folder
from avskrift.storage.paths import cache, home
from avskrift.whisper.export import Provenance, as_package, export_package, transformers_digest
from avskrift.whisper.package import DatasetSummary, EncoderContext, ModelPackage, is_package, open_package
from avskrift.whisper.transformers_folder import copy_companions, load_model

ADAPTED = Provenance(
    base_model="package:whisper-base",
    base_model_sha256="b" * 64,
    encoder_context=EncoderContext(policy="variable", minimum_frames=200),
    languages=("sv",),
    dataset_fingerprint="f" * 64,
    dataset=DatasetSummary(source="commonvoice:cv.tar.gz", licence="CC0-1.0", hours={"train": 9.5, "test": 1.25}),
    training={"epochs": 2, "learning_rate": 5e-5},
)


@pytest.fixture(scope="module")
def adapted(tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return export_package(tiny_whisper, tmp_path_factory.mktemp("adapted") / "package", ADAPTED)


@pytest.fixture
def broken(tiny_package: ModelPackage, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_package.folder, tmp_path / "package"))


def test_a_package_describes_itself_completely(adapted: ModelPackage) -> None:
    raw = json.loads((adapted.folder / "model.json").read_text(encoding="utf-8"))
    names = {path.relative_to(adapted.folder).as_posix() for path in adapted.folder.rglob("*") if path.is_file()}
    seal = raw.pop("sha256")
    assert set(raw.pop("files")) == names - {"model.json"}
    assert {"README.md", "hf/model.safetensors", "hf/tokenizer.json", "ct2/model.bin", "ct2/tokenizer.json"} < names
    assert raw == {
        "base_model": "package:whisper-base",
        "base_model_sha256": "b" * 64,
        "languages": ["sv"],
        "encoder_context": {"policy": "variable", "minimum_frames": 200, "multiple_frames": 50},
        "dataset_fingerprint": "f" * 64,
        "dataset": {"source": "commonvoice:cv.tar.gz", "licence": "CC0-1.0", "hours": {"train": 9.5, "test": 1.25}},
        "training": {"epochs": 2, "learning_rate": 5e-5},
        "quantisation": "float16",
        "alignment_heads": [[1, 0]],
        "round_trip": None,
        "code_version": avskrift.__version__,
        "version": 1,
    }
    assert len(seal) == 64
    assert adapted == open_package(adapted.folder)
    adapted.verify()


def test_a_package_loads_with_transformers_and_ctranslate2_as_it_is(tiny_package: ModelPackage) -> None:
    model, loaded = WhisperForConditionalGeneration.from_pretrained(tiny_package.transformers, output_loading_info=True)
    assert not any(loaded.values())
    assert model.generation_config.lang_to_id["<|sv|>"] == 50273
    assert WhisperProcessor.from_pretrained(tiny_package.transformers).tokenizer.convert_tokens_to_ids("<|sv|>") == 50273
    engine = ctranslate2.models.Whisper(str(tiny_package.ctranslate2), compute_type="int8")
    assert engine.is_multilingual
    assert engine.n_mels == 80


@pytest.mark.parametrize("name", ["ct2/model.bin", "hf/model.safetensors", "hf/tokenizer.json", "README.md"])
def test_a_flipped_byte_in_any_file_is_found_and_named(broken: Path, name: str) -> None:
    package = open_package(broken)
    package.verify()
    content = bytearray((broken / name).read_bytes())
    content[len(content) // 2] ^= 1
    (broken / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{name} has sha256"):
        package.verify()


def test_the_digest_of_a_package_is_that_of_its_bytes(adapted: ModelPackage, tiny_package: ModelPackage, tiny_whisper: Path) -> None:
    again = export_package(tiny_whisper, home() / "again", ADAPTED)
    assert again.description.sha256 == adapted.description.sha256 != tiny_package.description.sha256


BASE_HEADS = [[3, 1], [4, 2], [4, 3], [4, 7], [5, 1], [5, 2], [5, 4], [5, 6]]  # OpenAI's of whisper-base


@pytest.mark.parametrize(("said", "expected"), [(BASE_HEADS, BASE_HEADS), ([[2, 3], [0, 7]], [[2, 3], [0, 7]]), (None, BASE_HEADS)])
def test_a_model_of_whisper_bases_shape_keeps_its_alignment_heads_or_gets_whisper_bases(
    tiny_whisper: Path, tmp_path: Path, said: list[list[int]] | None, expected: list[list[int]]
) -> None:
    """As deep, with as many heads and mel bins; narrow, so that it is small. Loaded and saved once, as fine-tuning does."""
    config = WhisperConfig.from_pretrained(tiny_whisper)
    config.decoder_layers, config.decoder_attention_heads = 6, 8
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig.from_pretrained(tiny_whisper)
    model.generation_config.alignment_heads = said
    for folder in (tmp_path / "base", tmp_path / "fine-tuned"):
        model.save_pretrained(folder)
        copy_companions(tiny_whisper, folder)
        model = load_model(folder, torch.device("cpu"))
    package = export_package(tmp_path / "fine-tuned", tmp_path / "package", ADAPTED)
    package.verify()
    assert json.loads((package.ctranslate2 / "config.json").read_text(encoding="utf-8"))["alignment_heads"] == expected
    assert [list(pair) for pair in package.description.alignment_heads] == expected
    ctranslate2.models.Whisper(str(package.ctranslate2))


def test_alignment_heads_that_a_model_does_not_have_are_refused(tiny_whisper: Path, tmp_path: Path) -> None:
    """CTranslate2 would look for them beyond its memory."""
    wrong = Path(shutil.copytree(tiny_whisper, tmp_path / "wrong"))
    settings = json.loads((wrong / "generation_config.json").read_text())
    (wrong / "generation_config.json").write_text(json.dumps(settings | {"alignment_heads": [[5, 6]]}))
    with pytest.raises(PackageError, match=r"alignment_heads \[\[5, 6\]\] are not pairs of a layer and a head of a decoder with 2 layers"):
        export_package(wrong, tmp_path / "package", ADAPTED)
    assert [path for path in tmp_path.iterdir() if "package" in path.name] == []


def test_nothing_pickled_and_no_clutter_comes_along_and_a_persons_own_files_are_copied(tiny_whisper: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(tiny_whisper, tmp_path / "mine"))
    for name in ("optimizer.pt", "pytorch_model.bin", "checkpoint-500/pytorch_model.bin"):
        (mine / name).parent.mkdir(exist_ok=True)
        torch.save({}, mine / name)
    package = export_package(mine, tmp_path / "package", ADAPTED)
    assert digest_folder(package.transformers) == digest_folder(tiny_whisper)
    with (mine / "model.safetensors").open("r+b") as file:  # training goes on in the same folder
        file.seek(-1000, 2)
        file.write(bytes(1000))
    package.verify()


def test_a_folder_of_links_as_the_hub_caches_it_is_exported_whole(tiny_whisper: Path) -> None:
    """``snapshots/REVISION/config.json`` is a relative link into ``blobs/``."""
    store = home() / "cache" / "hub" / "models--org--whisper"
    (store / "blobs").mkdir(parents=True)
    (store / "snapshots" / "abc").mkdir(parents=True)
    for number, file in enumerate(sorted(tiny_whisper.iterdir())):
        shutil.copy(file, store / "blobs" / str(number))
        (store / "snapshots" / "abc" / file.name).symlink_to(f"../../blobs/{number}")
    package = export_package(store / "snapshots" / "abc", home() / "package", ADAPTED)
    assert digest_folder(package.transformers) == digest_folder(tiny_whisper)
    assert not any(path.is_symlink() for path in package.folder.rglob("*"))
    weights = next(blob for blob in (store / "blobs").iterdir() if blob.samefile(store / "snapshots" / "abc" / "model.safetensors"))
    assert (package.transformers / "model.safetensors").samefile(weights), "in our own state folder bytes lie on the disk once"


def test_a_folder_that_the_processor_of_transformers_5_saved_can_be_exported(tiny_whisper: Path, tmp_path: Path) -> None:
    WhisperForConditionalGeneration.from_pretrained(tiny_whisper).save_pretrained(tmp_path / "saved")
    WhisperProcessor.from_pretrained(tiny_whisper).save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "preprocessor_config.json").exists()
    export_package(tmp_path / "saved", tmp_path / "package", ADAPTED).verify()


def test_an_older_package_stays_until_the_new_one_is_whole(tiny_whisper: Path, broken: Path) -> None:
    before = digest_folder(broken)
    unreadable = Path(shutil.copytree(tiny_whisper, broken.parent / "unreadable"))
    (unreadable / "tokenizer.json").write_text("{}")
    with pytest.raises(PackageError, match=r"unreadable/tokenizer\.json: not a tokenizer"):
        export_package(unreadable, broken, ADAPTED)
    (unreadable / "config.json").unlink()
    with pytest.raises(ModelUnavailableError, match=r"unreadable: no readable config\.json"):
        export_package(unreadable, broken, ADAPTED)
    assert digest_folder(broken) == before
    assert sorted(path.name for path in broken.parent.iterdir()) == ["package", "unreadable"]


def test_a_base_model_is_exported_once_for_thirty_seconds_and_cached(tiny_whisper: Path) -> None:
    package = as_package(str(tiny_whisper))
    assert package.description.encoder_context.policy == "full"
    assert package.description.languages == ()
    assert package.folder.is_relative_to(cache() / "exported")
    before = (package.ctranslate2 / "model.bin").stat()
    again = as_package(tiny_whisper.as_uri())
    assert again == package, "the same bytes, by another name"
    assert (package.ctranslate2 / "model.bin").stat() == before
    package.verify()


def test_a_changed_model_has_another_digest(tiny_whisper: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(tiny_whisper, tmp_path / "changed"))
    assert transformers_digest(changed) == transformers_digest(tiny_whisper)
    settings = json.loads((changed / "generation_config.json").read_text())
    (changed / "generation_config.json").write_text(json.dumps(settings | {"max_length": 100}))
    assert transformers_digest(changed) != transformers_digest(tiny_whisper)


def test_a_ctranslate2_model_can_be_served_too(tiny_package: ModelPackage) -> None:
    package = as_package(str(tiny_package.ctranslate2))
    package.verify()
    ctranslate2.models.Whisper(str(package.ctranslate2), compute_type="int8")


def test_a_package_is_used_where_it_lies(tiny_package: ModelPackage) -> None:
    assert as_package(str(tiny_package.folder)) == tiny_package
    assert is_package(tiny_package.folder)
    assert not is_package(tiny_package.transformers)
    assert not cache().exists()


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw.pop(name)


def _with(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw.update(changes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without("files"), "files"),
        (_without("encoder_context"), "encoder_context"),
        (_without("base_model"), "base_model"),
        (_with(surprise=1), "surprise"),
        (_with(files={}), "names no files, so nothing could be verified"),
        (_with(files={"ct2/model.bin": {"sha256": "0"}}), "size"),
        (_with(version=2), "version 2, 1 is understood"),
        (_with(encoder_context={"policy": "short"}), "policy 'short' is neither full nor variable"),
        (_with(encoder_context={"multiple_frames": 0}), "an encoder context of 0 frames"),
        (_with(encoder_context={"minimum_frames": 51}), "an encoder context of 51 frames"),
        (_with(encoder_context={"minimum_frames": "100"}), "not a package description"),
        (_with(encoder_context={"policy": "variable", "minimum_frames": 4000}), "it takes an even number up to 3000"),
    ],
)
def test_a_description_that_breaks_the_contract_is_refused(broken: Path, change: Callable[[dict[str, Any]], object], reason: str) -> None:
    raw = json.loads((broken / "model.json").read_text())
    change(raw)
    (broken / "model.json").write_text(json.dumps(raw))
    with pytest.raises(PackageError) as refused:
        open_package(broken)
    assert str(refused.value).startswith(f"{broken}/model.json: ")
    assert reason in str(refused.value)
    assert str(refused.value).endswith("export the model again")


@pytest.mark.parametrize("content", ["", "[]", "null", "{"])
def test_a_description_that_is_no_json_object_is_refused(broken: Path, content: str) -> None:
    (broken / "model.json").write_text(content)
    with pytest.raises(PackageError, match=r"model\.json: not a package description"):
        open_package(broken)


def test_a_folder_that_is_no_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"no model\.json, so not a model package; make one with `avskrift export`"):
        open_package(tmp_path)


def test_companions_are_copied_and_weights_are_not(tiny_whisper: Path, tmp_path: Path) -> None:
    copy_companions(tiny_whisper, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]
