"""Reads CTranslate2's ``model.bin`` (binary version 6) and turns a Whisper in it back into ``transformers`` names.

The layout is the one that ctranslate2 4.x writes in ``ctranslate2/specs/model_spec.py``: counts and sizes are native
unsigned integers, strings carry a 16-bit length that includes a closing zero byte.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from avskrift.errors import PackageError

_BINARY_VERSION = 6
_DTYPES: dict[int, type[np.generic]] = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
Array = npt.NDArray[Any]


def read_variables(path: Path) -> tuple[str, dict[str, Array]]:
    """The name of the model's specification and its variables by name.

    Raises:
        PackageError: the file is cut short, or not such a file.
    """
    try:
        with path.open("rb") as file:
            version = _number(file, "I")
            if version != _BINARY_VERSION:
                raise PackageError(
                    f"{path}: CTranslate2 binary version {version}, {_BINARY_VERSION} is understood; convert the model again"
                )
            specification = _string(file)
            _number(file, "I")  # the specification's revision says nothing about the layout
            variables = dict(_variable(file) for _ in range(_number(file, "I")))
            for _ in range(_number(file, "I")):
                alias, name = _string(file), _string(file)  # variables with equal values are stored once
                variables[alias] = variables[name]
            return specification, variables
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise PackageError(f"{path}: not a whole CTranslate2 model ({error}); fetch or convert it again") from error


def whisper_state(variables: dict[str, Array]) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of a Whisper under their ``transformers`` names, float32.

    CTranslate2 stacks the projections of an attention that reads one sequence (q, k, v), and k, v where the keys come
    from the encoder; Whisper's k has no bias, which the stack holds as zeros.

    Raises:
        PackageError: a variable that no Whisper has, or one quantised to integers, from which the weights cannot be had back.
    """
    weights = {name: value for name, value in variables.items() if value.ndim and name.startswith(("encoder/", "decoder/"))}
    for name, value in weights.items():
        if value.dtype not in (np.float16, np.float32):
            raise PackageError(f"{name} is {value.dtype}: quantised weights do not convert back; take the float16 model")
    try:
        return dict(entry for name, value in weights.items() for entry in _targets(name, value.astype(np.float32)))
    except (KeyError, ValueError) as error:
        raise PackageError(f"a variable that no Whisper has ({error}); take a Whisper that CTranslate2 4.x converted") from error


def _targets(name: str, value: npt.NDArray[np.float32]) -> list[tuple[str, npt.NDArray[np.float32]]]:
    stem, kind = name.rsplit("/", 1)
    kind = {"gamma": "weight", "beta": "bias", "encodings": "weight"}.get(kind, kind)
    side, *inner = stem.split("/")
    if inner and inner[0].startswith("layer_") and inner[0] != "layer_norm":
        return _in_layer(f"model.{side}.layers.{inner[0].removeprefix('layer_')}", inner[1:], kind, value)
    top = {
        "conv1": "conv1",
        "conv2": "conv2",
        "position_encodings": "embed_positions",
        "layer_norm": "layer_norm",
        "embeddings": "embed_tokens",
        "projection": None,  # tied to the embeddings
    }
    target = top[inner[0]]
    return [(f"model.{side}.{target}.{kind}", value)] if target else []


def _in_layer(layer: str, inner: list[str], kind: str, value: npt.NDArray[np.float32]) -> list[tuple[str, npt.NDArray[np.float32]]]:
    block, part = inner
    if block == "ffn":
        target = {"layer_norm": "final_layer_norm", "linear_0": "fc1", "linear_1": "fc2"}[part]
        return [(f"{layer}.{target}.{kind}", value)]
    attention = {"self_attention": "self_attn", "attention": "encoder_attn"}[block]
    if part == "layer_norm":
        return [(f"{layer}.{attention}_layer_norm.{kind}", value)]
    stacked = {
        ("self_attention", "linear_0"): ("q_proj", "k_proj", "v_proj"),
        ("self_attention", "linear_1"): ("out_proj",),
        ("attention", "linear_0"): ("q_proj",),
        ("attention", "linear_1"): ("k_proj", "v_proj"),
        ("attention", "linear_2"): ("out_proj",),
    }[block, part]
    parts = np.split(value, len(stacked))
    return [
        (f"{layer}.{attention}.{projection}.{kind}", np.ascontiguousarray(piece))
        for projection, piece in zip(stacked, parts, strict=True)
        if (projection, kind) != ("k_proj", "bias")
    ]


def _number(file: BinaryIO, code: str) -> int:
    (value,) = struct.unpack(code, file.read(struct.calcsize(code)))
    return int(value)


def _string(file: BinaryIO) -> str:
    return file.read(_number(file, "H"))[:-1].decode("utf-8")


def _variable(file: BinaryIO) -> tuple[str, Array]:
    name = _string(file)
    shape = [_number(file, "I") for _ in range(_number(file, "B"))]
    dtype = _DTYPES[_number(file, "B")]
    data = file.read(_number(file, "I"))
    return name, np.frombuffer(data, dtype=dtype).reshape(shape)
