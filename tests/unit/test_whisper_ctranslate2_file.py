"""CTranslate2's model.bin is read back without a loss."""

from __future__ import annotations

import struct
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from avskrift.errors import PackageError
from avskrift.whisper.ctranslate2_file import read_variables, whisper_state
from avskrift.whisper.package import ModelPackage


@pytest.fixture(scope="session")
def model_bin(tiny_package: ModelPackage) -> Path:
    return tiny_package.ctranslate2 / "model.bin"


def convert(transformers: Path, out: Path, quantization: str) -> Path:
    ctranslate2.converters.TransformersConverter(str(transformers)).convert(str(out), quantization=quantization)
    return out / "model.bin"


def test_the_weights_come_back_under_their_transformers_names_rounded_to_float16(tiny_whisper: Path, model_bin: Path) -> None:
    specification, variables = read_variables(model_bin)
    assert specification == "WhisperSpec"
    state = whisper_state(variables)
    expected = load_file(tiny_whisper / "model.safetensors")
    expected.pop("proj_out.weight", None)
    assert set(state) == set(expected)
    for name, value in state.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, expected[name].astype(np.float16).astype(np.float32), err_msg=name)


def test_float32_weights_come_back_bit_for_bit(tiny_whisper: Path, tmp_path: Path) -> None:
    state = whisper_state(read_variables(convert(tiny_whisper, tmp_path / "ct2", "float32"))[1])
    expected = load_file(tiny_whisper / "model.safetensors")
    assert all(np.array_equal(value, expected[name]) for name, value in state.items())


def test_quantised_weights_are_refused_with_what_to_take_instead(tiny_whisper: Path, tmp_path: Path) -> None:
    _, variables = read_variables(convert(tiny_whisper, tmp_path / "ct2", "int8"))
    with pytest.raises(PackageError, match=r"is int8: quantised weights do not convert back; take the float16 model"):
        whisper_state(variables)


def test_a_variable_that_no_whisper_has_is_named() -> None:
    for name in ("decoder/layer_0/mamba/weight", "decoder/rotary/weight", "encoder/layer_0/ffn/linear_9/weight"):
        with pytest.raises(PackageError, match="a variable that no Whisper has"):
            whisper_state({name: np.zeros((2, 2), np.float32)})


@pytest.mark.parametrize("share", [0.0, 1e-6, 1e-5, 0.01, 0.3, 0.7, 0.999, 0.999999])
def test_a_file_cut_short_is_refused_with_its_name(model_bin: Path, tmp_path: Path, share: float) -> None:
    whole = model_bin.read_bytes()
    (tmp_path / "model.bin").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PackageError, match=r"model\.bin: (not a whole CTranslate2 model|CTranslate2 binary version)"):
        read_variables(tmp_path / "model.bin")


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip file", struct.pack("I", 5) + bytes(100), b"version https://git-lfs.github.com"])
def test_another_file_is_refused_by_its_version(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(PackageError, match=r"binary version \d+, 6 is understood; convert the model again"):
        read_variables(tmp_path / "model.bin")


def test_noise_behind_a_right_version_is_refused(tmp_path: Path) -> None:
    noise = torch.randint(0, 256, (20, 5000), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    for row in noise:
        (tmp_path / "model.bin").write_bytes(struct.pack("I", 6) + row.tobytes())
        with pytest.raises(PackageError, match="not a whole CTranslate2 model"):
            read_variables(tmp_path / "model.bin")
