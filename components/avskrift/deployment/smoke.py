"""The smoke test: one real transcription over HTTP, before anybody is sent to an endpoint."""

from __future__ import annotations

import io
import math
import struct
import wave
from dataclasses import dataclass

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.deployment.client import transcribe
from avskrift.errors import DeploymentError, EndpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeTest:
    """A recording to send. ``speech``: somebody speaks in it, so an empty transcript is a failure."""

    audio: bytes
    file_type: str  # wav, flac or mp3
    speech: bool
    language: str = ""


def tone() -> bytes:
    """One second of a quiet 440 Hz tone as a WAV file: what to send where no recording is at hand."""
    samples = (round(3000 * math.sin(2 * math.pi * 440 * n / SAMPLE_RATE)) for n in range(SAMPLE_RATE))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, SAMPLE_RATE, "NONE", "not compressed"))
        file.writeframes(struct.pack(f"<{SAMPLE_RATE}h", *samples))
    return buffer.getvalue()


def smoke(test: SmokeTest, *, url: str, service: str, version: str) -> str:
    """Transcribe the recording at ``url`` and return the text. ``service`` is the model's name there, ``version`` for messages.

    Raises:
        DeploymentError: the endpoint answered with an error, or heard nothing where somebody speaks.
    """
    try:
        text = transcribe(url, test.audio, file_type=test.file_type, model=service, language=test.language)
    except EndpointError as error:
        raise DeploymentError(f"version {version} failed its smoke test: {error}") from error
    if test.speech and not text.strip():
        raise DeploymentError(f"version {version} failed its smoke test: it heard nothing in a recording of speech; check the package")
    return text
