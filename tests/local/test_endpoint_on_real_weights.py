"""The endpoint with the real whisper-base: what many ask at once is what each would have been told alone."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from english_speech import english_clip

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import decode, encode_flac
from avskrift.corpus.demo import TINY, plan, speak
from avskrift.whisper.export import Provenance, export_package
from avskrift.whisper.package import EncoderContext, ModelPackage
from avskrift.whisper.transcriber import load_transcriber
from avskrift.whisper.transcript import Options

pytestmark = pytest.mark.weights

SILENCE, NOISE, ONE_WORD, SWEDISH, ENGLISH = "silence", "noise", "one word", "Swedish", "English"
LANGUAGES = (None, "sv", "en")


@pytest.fixture(scope="module")
def package(whisper_base: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    # Short contexts, as a fine-tuned model has them: many shapes, and so many ways to mix.
    provenance = Provenance(base_model="package:whisper-base", base_model_sha256="", encoder_context=EncoderContext(policy="variable"))
    return export_package(whisper_base, tmp_path_factory.mktemp("served") / "package", provenance)


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    """FLAC by name."""
    spoken = speak(plan(TINY)[0])
    _, english = english_clip(0)
    made = {
        SILENCE: np.zeros(3 * SAMPLE_RATE, dtype=np.float32),
        NOISE: (0.02 * np.random.default_rng(1).standard_normal(3 * SAMPLE_RATE)).astype(np.float32),
        ONE_WORD: spoken[: int(0.8 * SAMPLE_RATE)],
        SWEDISH: spoken,
        ENGLISH: english[: 6 * SAMPLE_RATE],
    }
    return {name: encode_flac(samples) for name, samples in made.items()}


@pytest.fixture(scope="module")
def url(package: ModelPackage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log_file = tmp_path_factory.mktemp("server") / "log"
    with log_file.open("wb") as log:
        command = [sys.executable, "-m", "avskrift.serving", "--package", str(package.folder), "--port", "0"]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"AVSKRIFT_GATHER_MS": "200"})
    try:
        while not (ready := re.search(r"serving\.ready .*port=(\d+)", log_file.read_text(encoding="utf-8"))):
            assert process.poll() is None, log_file.read_text(encoding="utf-8")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{ready[1]}/openai/v1/audio/transcriptions"
    finally:
        process.kill()
        process.wait()


def test_requests_in_several_languages_do_not_mix(package: ModelPackage, clips: dict[str, bytes], url: str) -> None:
    asked = [(name, language) for name in clips for language in LANGUAGES] * 2
    heard = asyncio.run(_all_at_once(url, clips, asked))
    engine = load_transcriber(package)
    for name, language in dict.fromkeys(asked):
        alone = engine.transcribe([decode(clips[name])], Options(language=language))[0].text
        assert heard[name, language] == {alone}, f"{name} in {language}"
    assert heard[SILENCE, None] == {""}


async def _all_at_once(url: str, clips: dict[str, bytes], asked: list[tuple[str, str | None]]) -> dict[tuple[str, str | None], set[str]]:
    found: dict[tuple[str, str | None], set[str]] = {}

    async def ask(session: aiohttp.ClientSession, name: str, language: str | None) -> None:
        form = aiohttp.FormData({"language": language} if language else {})
        form.add_field("file", clips[name], filename="clip.flac")
        async with session.post(url, data=form) as answer:
            assert answer.status == 200, await answer.text()
            found.setdefault((name, language), set()).add((await answer.json())["text"])

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(ask(session, name, language) for name, language in asked))
    return found
