"""Trainings so small that a test can afford dozens: a Whisper sixteen features wide, and clips of a second or so."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import encoded, tone
from transformers import WhisperConfig, WhisperForConditionalGeneration

from avskrift.corpus.dataset import Clip
from avskrift.text.languages import LANGUAGES
from avskrift.whisper.transformers_folder import generation_settings, write_preprocessor, write_tokenizer

_MERGES = 500
WORDS = ("ja", "nej", "hej på dig", "ett två tre", "det regnar i dag", "vi ses i morgon", "å, ä och ö", "tack så mycket")


@pytest.fixture(scope="module")
def smallest_whisper(bundled_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the smallest Whisper; a module takes it by a name of its own."""
    return write_smallest_whisper(tmp_path_factory.mktemp("smallest") / "whisper", bundled_whisper)


@pytest.fixture(scope="module", autouse=True)
def threads_as_before() -> Iterator[None]:
    """PyTorch's threads, which a training sets, are after a module what they were; a module that trains takes this too."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def write_smallest_whisper(folder: Path, bundled_whisper: Path) -> Path:
    """A ``transformers`` folder of a random Whisper, one layer a side, with whisper-base's tokenizer cut down to short words."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as cut:
        vocabulary = write_tokenizer(_cut_down(bundled_whisper / "tokenizer.json", Path(cut) / "tokenizer.json"), folder)
    sizes: dict[str, Any] = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "init_std": 0.2, "vocab_size": len(vocabulary)}
    sizes |= dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"), 1)
    sizes |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), vocabulary["<|endoftext|>"])
    with torch.random.fork_rng():
        torch.manual_seed(20)
        model = WhisperForConditionalGeneration(WhisperConfig(**sizes, decoder_start_token_id=vocabulary["<|startoftranscript|>"]))
    languages = [vocabulary[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in vocabulary]
    model.generation_config = generation_settings({"alignment_heads": [[0, 0]], "lang_ids": languages}, vocabulary)
    model.save_pretrained(folder)
    write_preprocessor(folder, model.config.num_mel_bins)
    return folder


def _cut_down(tokenizer: Path, target: Path) -> Path:
    """Bytes and the first merges alone; special tokens follow at once, in their order."""
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    model = content["model"]
    kept = {token: number for token, number in model["vocab"].items() if number < 256}
    model["merges"] = [merge for merge in model["merges"][:_MERGES] if _adds(merge.split(" "), kept)]
    model["vocab"] = kept
    for number, token in enumerate(content["added_tokens"], start=len(model["vocab"])):
        token["id"] = number
    content["post_processor"] = None  # names special tokens by their old numbers
    target.write_text(json.dumps(content), encoding="utf-8")
    return target


def _adds(pieces: list[str], vocabulary: dict[str, int]) -> bool:
    """Take the word that two known pieces make into the vocabulary."""
    if not all(piece in vocabulary for piece in pieces):
        return False
    vocabulary.setdefault("".join(pieces), len(vocabulary))
    return True


def spoken(clip_id: str, *, seconds: float = 1.0, text: str | None = None, weight: float = 1.0) -> Clip:
    """A clip with a tone of its own for speech."""
    number = sum(clip_id.encode())
    samples = tone(seconds, hertz=200.0 + 7 * (number % 100))
    said = WORDS[number % len(WORDS)] if text is None else text
    return Clip(clip_id=clip_id, audio=encoded(samples, container="FLAC"), duration_s=len(samples) / 16_000, text=said, weight=weight)
