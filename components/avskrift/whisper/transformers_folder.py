"""Any model URI as a ``transformers`` folder: config, safetensors, tokenizer, generation settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration
from transformers.utils import logging as transformers_logging

from avskrift.audio.constants import HOP_LENGTH, N_FFT, SAMPLE_RATE, WINDOW_SECONDS
from avskrift.errors import ModelUnavailableError, PackageError
from avskrift.storage.atomic import atomic_folder
from avskrift.storage.door import fetch
from avskrift.storage.manifest import digest_folder, manifest_digest
from avskrift.storage.paths import cache
from avskrift.whisper.alignment_heads import DecoderShape, alignment_heads
from avskrift.whisper.ctranslate2_file import read_variables, whisper_state
from avskrift.whisper.package import is_package, open_package

WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
_WEIGHTS_FILES = "model*.safetensors"  # one, or shards
_TIED = "proj_out.weight"  # the embeddings again
_HEAD_WIDTH = 64  # every Whisper has 64 features a head
_TIMESTAMPS = 1501  # <|0.00|> to <|30.00|> in steps of 20 ms


def open_model(uri: str) -> Path:
    """The ``transformers`` folder of a model; a CTranslate2 model is converted once and cached.

    Raises:
        ModelUnavailableError: it cannot be had, or is not a Whisper in safetensors.
        IntegrityError: bundled weights with the wrong sha256; a model package that was changed.
        PackageError: a model package that breaks its contract.
    """
    folder = fetch(uri)
    if is_package(folder):
        package = open_package(folder)
        package.verify()  # training starts from the bytes on record, or not at all
        folder = package.transformers
    if (folder / "model.bin").is_file() and not (folder / WEIGHTS_FILE).is_file():
        return _converted(folder)
    check_transformers_folder(folder, uri)
    return folder


def check_transformers_folder(folder: Path, named: str) -> None:
    """Refuse what is not a Whisper that ``transformers`` can load without running pickled code.

    Raises:
        ModelUnavailableError: naming ``named`` and what is wrong.
    """
    config = folder / "config.json"
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        kind = settings.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelUnavailableError(f"{named}: no readable config.json; give a folder that transformers' save_pretrained wrote") from error
    if kind != "whisper":
        raise ModelUnavailableError(f"{named}: is a {kind!r} model, not a whisper; give a Whisper")
    if not (folder / TOKENIZER_FILE).is_file():
        raise ModelUnavailableError(f"{named}: no {TOKENIZER_FILE}; save the model's WhisperTokenizerFast into the folder")
    files = sorted(folder.glob(_WEIGHTS_FILES))
    if not files:
        raise ModelUnavailableError(f"{named}: no {WEIGHTS_FILE}; pickled weights are never loaded, save it with transformers 5")
    _check_weights(settings, files, named)


def _check_weights(settings: dict[str, Any], files: Sequence[Path], named: str) -> None:
    """Names and shapes, from the files' headers: transformers would fill what is missing with noise and go on."""
    try:
        with torch.device("meta"):
            expected = WhisperForConditionalGeneration(WhisperConfig(**settings)).state_dict()
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelUnavailableError(f"{named}: its config.json describes no Whisper ({error}); fetch or save the model again") from error
    stored: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                stored |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError) as error:
            raise ModelUnavailableError(f"{named}: {file.name} is not whole ({error}); fetch or save the model again") from error
    wrong = sorted(name for name, value in expected.items() if name != _TIED and stored.get(name) != tuple(value.shape))
    if wrong:
        raise ModelUnavailableError(
            f"{named}: its weights lack {len(wrong)} of the {len(expected)} that config.json asks for, like {wrong[0]};"
            " save a whole WhisperForConditionalGeneration"
        )


def _converted(source: Path) -> Path:
    target = cache() / "transformers" / f"{source.name}-{manifest_digest(digest_folder(source))[:16]}"
    if not target.is_dir():
        with atomic_folder(target) as folder:
            convert(source, folder)
    return target


def convert(source: Path, folder: Path) -> None:
    """Write the CTranslate2 Whisper in ``source`` (float16 or float32) into ``folder`` as ``transformers`` files.

    Raises:
        PackageError: not a whole Whisper in CTranslate2's format.
    """
    specification, variables = read_variables(source / "model.bin")
    if specification != "WhisperSpec":
        raise PackageError(f"{source}: a {specification} model, not a Whisper; give a Whisper that CTranslate2 4.x converted")
    state = whisper_state(variables)
    try:
        settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
        vocabulary = write_tokenizer(source / TOKENIZER_FILE, folder)
        config = _config(state, vocabulary)
        model = WhisperForConditionalGeneration(config)
        loaded = model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
        shape = DecoderShape(config.decoder_layers, config.decoder_attention_heads, config.num_mel_bins)
        heads = alignment_heads(settings.get("alignment_heads"), shape)
        generation = generation_settings(settings | {"alignment_heads": [list(pair) for pair in heads]}, vocabulary)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise PackageError(f"{source}: its files do not make a Whisper ({error}); fetch or convert the model again") from error
    # proj_out is tied to the embeddings, so it is the one name that may be missing.
    if loaded.unexpected_keys or set(loaded.missing_keys) - {_TIED}:
        wrong = f"missing {loaded.missing_keys}, unexpected {loaded.unexpected_keys}"
        raise PackageError(f"{source}: its weights do not make a Whisper ({wrong}); fetch or convert the model again")
    model.generation_config = generation
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    write_preprocessor(folder, model.config.num_mel_bins)


def load_model(folder: Path, device: torch.device) -> WhisperForConditionalGeneration:
    """The model of a ``transformers`` folder in float32 on ``device``, with PyTorch's fused attention. See :func:`open_model`."""
    transformers_logging.disable_progress_bar()
    model = WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", use_safetensors=True, local_files_only=True
    )
    model.to(device=device)
    return model


def copy_companions(source: Path, folder: Path) -> None:
    """Copy everything but weights (tokenizer, processor) from one ``transformers`` folder to another."""
    for file in source.iterdir():
        is_companion = file.suffix in (".json", ".txt") and not file.name.startswith(("model.", "config.", "generation_config."))
        if file.is_file() and is_companion and not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)


def _config(state: dict[str, npt.NDArray[np.float32]], vocabulary: dict[str, int]) -> WhisperConfig:
    """Every size is read off the weights' shapes."""
    width, mels, _ = state["model.encoder.conv1.weight"].shape
    encoder_layers, decoder_layers = (_layers(state, side) for side in ("encoder", "decoder"))
    end = vocabulary["<|endoftext|>"]
    return WhisperConfig(
        vocab_size=state["model.decoder.embed_tokens.weight"].shape[0],
        num_mel_bins=mels,
        d_model=width,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=width // _HEAD_WIDTH,
        decoder_attention_heads=width // _HEAD_WIDTH,
        encoder_ffn_dim=state["model.encoder.layers.0.fc1.weight"].shape[0],
        decoder_ffn_dim=state["model.decoder.layers.0.fc1.weight"].shape[0],
        max_source_positions=state["model.encoder.embed_positions.weight"].shape[0],
        max_target_positions=state["model.decoder.embed_positions.weight"].shape[0],
        decoder_start_token_id=vocabulary["<|startoftranscript|>"],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )


def _layers(state: dict[str, npt.NDArray[np.float32]], side: str) -> int:
    prefix = f"model.{side}.layers."
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix))


def generation_settings(settings: dict[str, Any], vocabulary: dict[str, int]) -> GenerationConfig:
    """What ``transformers`` needs to generate, from CTranslate2's ``settings`` and a tokenizer's vocabulary."""
    end = vocabulary["<|endoftext|>"]
    language_ids = set(settings.get("lang_ids", ()))
    return GenerationConfig(
        alignment_heads=settings.get("alignment_heads"),
        begin_suppress_tokens=settings.get("suppress_ids_begin"),
        suppress_tokens=settings.get("suppress_ids"),
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=vocabulary["<|startoftranscript|>"],
        is_multilingual=bool(language_ids),
        lang_to_id={token: number for token, number in vocabulary.items() if number in language_ids},
        task_to_id={task: vocabulary[f"<|{task}|>"] for task in ("transcribe", "translate")},
        no_timestamps_token_id=vocabulary["<|notimestamps|>"],
        prev_sot_token_id=vocabulary["<|startofprev|>"],
        max_initial_timestamp_index=50,
        max_length=448,
        return_timestamps=False,
    )


def write_tokenizer(source: Path, folder: Path) -> dict[str, int]:
    """Copy a tokenizer.json, with the timestamp tokens that CTranslate2's copy leaves out; return its vocabulary."""
    tokenizer = json.loads(source.read_text(encoding="utf-8"))
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    first = added["<|notimestamps|>"] + 1
    for index in range(_TIMESTAMPS):
        content = f"<|{index * 0.02:.2f}|>"
        if content not in added:
            plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
            tokenizer["added_tokens"].append({"id": first + index, "content": content, **plain})
    (folder / TOKENIZER_FILE).write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    end = "<|endoftext|>"
    settings = {
        "tokenizer_class": "WhisperTokenizer",
        "add_prefix_space": False,
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "unk_token": end,
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return {**tokenizer["model"]["vocab"], **{token["content"]: token["id"] for token in tokenizer["added_tokens"]}}


def write_preprocessor(folder: Path, mels: int) -> None:
    """Write the settings of Whisper's feature extractor."""
    settings = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "chunk_length": WINDOW_SECONDS,
        "feature_size": mels,
        "hop_length": HOP_LENGTH,
        "n_fft": N_FFT,
        "n_samples": WINDOW_SECONDS * SAMPLE_RATE,
        "nb_max_frames": WINDOW_SECONDS * SAMPLE_RATE // HOP_LENGTH,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
        "sampling_rate": SAMPLE_RATE,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
