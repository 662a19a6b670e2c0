"""Any model becomes a folder that transformers loads, or is refused with what is wrong."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from avskrift.errors import ModelUnavailableError, PackageError
from avskrift.storage.paths import cache
from avskrift.whisper.package import ModelPackage
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transformers_folder import convert, copy_companions, load_model, open_model


@pytest.fixture
def folder(tiny_whisper: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_whisper, tmp_path / "model"))


@pytest.fixture
def ct2(tiny_package: ModelPackage, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_package.ctranslate2, tmp_path / "ct2"))


def weights(folder: Path) -> dict[str, np.ndarray]:
    return dict(load_file(folder / "model.safetensors"))


def test_a_ctranslate2_model_becomes_a_folder_that_transformers_loads_whole(tiny_whisper: Path, ct2: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    convert(ct2, out)
    model, loaded = WhisperForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not any(loaded.values()), "nothing missing, unexpected or of another shape"
    expected = weights(tiny_whisper)
    for name, value in weights(out).items():
        np.testing.assert_array_equal(value, expected[name].astype(np.float16).astype(np.float32), err_msg=name)
    original = WhisperForConditionalGeneration.from_pretrained(tiny_whisper)
    sizes = [name for name in vars(original.config) if name.startswith(("d_model", "encoder_", "decoder_", "max_", "num_mel", "vocab"))]
    assert len(sizes) > 10
    assert {name: getattr(model.config, name) for name in sizes} == {name: getattr(original.config, name) for name in sizes}
    settings = model.generation_config
    assert (settings.lang_to_id["<|sv|>"], settings.task_to_id["transcribe"], settings.no_timestamps_token_id) == (50273, 50359, 50363)
    assert settings.suppress_tokens == original.generation_config.suppress_tokens
    assert settings.begin_suppress_tokens == [220, 50257]


@pytest.mark.parametrize(("said", "expected"), [([[0, 0]], [[0, 0]]), (None, [[1, 0]])])
def test_its_alignment_heads_come_along_or_are_those_of_its_last_layers(
    ct2: Path, tmp_path: Path, said: list[list[int]] | None, expected: list[list[int]]
) -> None:
    settings = json.loads((ct2 / "config.json").read_text())
    (ct2 / "config.json").write_text(json.dumps(settings | {"alignment_heads": said}))
    out = tmp_path / "out"
    out.mkdir()
    convert(ct2, out)
    assert json.loads((out / "generation_config.json").read_text())["alignment_heads"] == expected


def test_its_processor_loads_and_knows_text_times_and_sound(ct2: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    convert(ct2, out)
    processor = WhisperProcessor.from_pretrained(out)
    assert processor.tokenizer.convert_tokens_to_ids(["<|sv|>", "<|0.00|>", "<|30.00|>"]) == [50273, 50364, 51864]
    assert processor.tokenizer.decode(processor.tokenizer("god dag å ä ö").input_ids, skip_special_tokens=True) == "god dag å ä ö"
    assert processor(np.zeros(16_000, np.float32), sampling_rate=16_000, return_tensors="np").input_features.shape == (1, 80, 3000)


def test_transformers_itself_generates_with_what_was_converted(ct2: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    convert(ct2, out)
    model = WhisperForConditionalGeneration.from_pretrained(out)
    written = model.generate(torch.zeros(1, 80, 3000), language="sv", task="transcribe", max_new_tokens=4)
    assert written.shape[0] == 1


def test_a_ctranslate2_model_is_converted_once(ct2: Path) -> None:
    first = open_model(str(ct2))
    assert first.is_relative_to(cache() / "transformers")
    before = (first / "model.safetensors").stat()
    assert open_model(str(ct2)) == first
    assert (first / "model.safetensors").stat() == before


def test_two_ctranslate2_models_in_folders_of_one_name_are_told_apart(ct2: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(ct2, tmp_path / "other" / "ct2"))
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"suppress_ids_begin": [220]}))
    first, second = open_model(str(ct2)), open_model(str(other))
    assert first != second
    read = [json.loads((folder / "generation_config.json").read_text())["begin_suppress_tokens"] for folder in (first, second)]
    assert read == [[220, 50257], [220]]


def test_a_folder_and_the_package_around_it_open_as_they_are(tiny_whisper: Path, tiny_package: ModelPackage) -> None:
    assert open_model(str(tiny_whisper)) == tiny_whisper
    assert open_model(tiny_package.folder.as_uri()) == tiny_package.transformers


def test_a_model_is_loaded_in_float32_whatever_it_was_saved_in(folder: Path) -> None:
    save_file({name: value.astype(np.float16) for name, value in weights(folder).items()}, folder / "model.safetensors")
    assert {parameter.dtype for parameter in load_model(open_model(str(folder)), torch.device("cpu")).parameters()} == {torch.float32}


def _cut_short(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _without_a_layer(folder: Path) -> None:
    save_file({name: value for name, value in weights(folder).items() if "decoder.layers.1." not in name}, folder / "model.safetensors")


def _of_another_width(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"d_model": 128}))


def _another_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "wav2vec2"}')


def _no_settings(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def _senseless_settings(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"encoder_attention_heads": 7}))


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _adapters_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_cut_short, "model.safetensors is not whole"),
        (_without_a_layer, "its weights lack 24 of the 90 that config.json asks for, like model.decoder.layers.1.encoder_attn"),
        (_of_another_width, "that config.json asks for"),
        (_another_kind, "is a 'wav2vec2' model, not a whisper"),
        (_no_settings, "no readable config.json"),
        (_senseless_settings, "config.json describes no Whisper"),
        (_no_tokenizer, "no tokenizer.json"),
        (_pickled, "pickled weights are never loaded"),
        (_adapters_only, "no model.safetensors"),
    ],
)
def test_what_is_no_whole_whisper_in_safetensors_is_refused(folder: Path, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(folder)
    with pytest.raises(ModelUnavailableError) as refused:
        open_model(str(folder))
    assert str(refused.value).startswith(f"{folder}: ")
    assert reason in str(refused.value)


def test_a_model_in_shards_is_whole(tiny_whisper: Path, tmp_path: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(tiny_whisper)
    model.save_pretrained(tmp_path / "shards", max_shard_size="2MB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    copy_companions(tiny_whisper, tmp_path / "shards")
    assert open_model(str(tmp_path / "shards")) == tmp_path / "shards"


def _another_specification(folder: Path) -> None:
    (folder / "model.bin").write_bytes(struct.pack("I", 6) + struct.pack("H", 16) + b"TransformerSpec\0" + struct.pack("III", 1, 0, 0))


def _no_ct2_settings(folder: Path) -> None:
    (folder / "config.json").unlink()


def _broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_another_specification, "a TransformerSpec model, not a Whisper"),
        (_no_ct2_settings, "its files do not make a Whisper"),
        (_no_tokenizer, "its files do not make a Whisper"),
        (_broken_tokenizer, "its files do not make a Whisper"),
    ],
)
def test_what_is_no_whole_ctranslate2_whisper_is_refused_and_nothing_is_cached(
    ct2: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(ct2)
    with pytest.raises(PackageError, match=reason) as refused:
        open_model(str(ct2))
    assert str(refused.value).startswith(f"{ct2}: ")
    assert [path for path in cache().rglob("*") if path.is_file()] == []


def test_a_model_saved_beside_its_companions_can_be_opened(tiny_whisper: Path, tmp_path: Path) -> None:
    model = load_model(tiny_whisper, torch.device("cpu"))
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "generation_config.json").write_text('{"kept": true}')
    copy_companions(tiny_whisper, tmp_path / "saved")
    assert open_model(str(tmp_path / "saved")) == tmp_path / "saved"
    assert json.loads((tmp_path / "saved" / "generation_config.json").read_text()) == {"kept": True}
    assert WhisperTokens(tmp_path / "saved" / "tokenizer.json").prompt("sv") == [50258, 50273, 50359, 50363]
