"""The model that KServe's server serves: a verified package, its engine, and the V1 and V2 protocols over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from kserve import InferRequest, InferResponse, Model

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import decode
from avskrift.errors import AudioError, AudioTooLargeError
from avskrift.logs import Log
from avskrift.serving import payloads
from avskrift.serving.payloads import Recording
from avskrift.serving.settings import Settings
from avskrift.serving.transcription_thread import TranscriptionThread
from avskrift.whisper.package import ModelPackage
from avskrift.whisper.transcript import Audio, Options, Transcriber, Transcript

OpenTranscriber = Callable[[ModelPackage, Settings], Transcriber]

_WARM_UP_SECONDS = 1
_log = Log("serving")


class TranscriptionModel(Model):  # type: ignore[misc]  # kserve has no types
    """A model package behind KServe's protocols. Not ready before :meth:`load` returned."""

    def __init__(
        self, name: str, package: ModelPackage, *, settings: Settings, open_transcriber: OpenTranscriber, version: str = ""
    ) -> None:
        super().__init__(name)
        self.version = version
        self.package = package
        self.settings = settings
        self.loaded_at = 0
        self._open_transcriber = open_transcriber
        self._thread = TranscriptionThread()
        self._transcriber: Transcriber | None = None

    def load(self) -> bool:
        """Check every byte of the package, load the engine, and transcribe a second of silence to warm it up.

        Raises:
            IntegrityError: the package is not what its ``model.json`` says.
            PackageError: the engine cannot load it.
        """
        started = time.monotonic()
        self.package.verify()
        self._transcriber = self._open_transcriber(self.package, self.settings)
        self._transcriber.transcribe([np.zeros(_WARM_UP_SECONDS * SAMPLE_RATE, dtype=np.float32)], Options())
        self.loaded_at = int(time.time())
        self.ready = True
        _log.info("serving.loaded", sha256=self.package.description.sha256, version=self.version, seconds=time.monotonic() - started)
        return self.ready

    async def transcribe(self, recordings: Sequence[Recording]) -> list[Transcript]:
        """Decode and transcribe in the transcription thread; one transcript each, in order.

        Raises:
            AudioError: a recording that cannot be decoded, is not of an accepted type, or is too large or too long.
            LanguageError: the model does not know a language that was named.
        """
        return await self._thread.run(lambda: self._transcribe(recordings))

    async def predict(
        self,
        payload: dict[str, Any] | bytes | InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """V1 and V2; see :mod:`avskrift.serving.payloads` for the shapes and their errors."""
        del headers, response_headers  # part of KServe's signature
        if isinstance(payload, InferRequest):
            transcripts = await self.transcribe(payloads.v2_recordings(payload))
            return payloads.v2_answer(payload, transcripts, model_name=self.name, version=self.version)
        return payloads.v1_answer(await self.transcribe(payloads.v1_recordings(payload)))

    def get_input_types(self) -> list[dict[str, Any]]:
        return payloads.v2_inputs()

    def get_output_types(self) -> list[dict[str, Any]]:
        return payloads.v2_outputs()

    def _transcribe(self, recordings: Sequence[Recording]) -> list[Transcript]:
        if self._transcriber is None:
            raise RuntimeError("load() comes before transcribe()")
        started = time.monotonic()
        samples = self._decode(recordings)
        transcripts: dict[int, Transcript] = {}
        for options, indices in _alike(recordings).items():
            answers = self._transcriber.transcribe([samples[index] for index in indices], options)
            transcripts.update(zip(indices, answers, strict=True))
        seconds = sum(len(recording) for recording in samples) / SAMPLE_RATE
        _log.info("serving.transcribed", recordings=len(samples), audio_seconds=seconds, seconds=time.monotonic() - started)
        return [transcripts[index] for index in range(len(recordings))]

    def _decode(self, recordings: Sequence[Recording]) -> list[Audio]:
        """Samples of each; the limit of duration holds for all together, since they are in memory together."""
        left = self.settings.max_audio_seconds
        samples = []
        for recording in recordings:
            try:
                self._check_size(recording)
                samples.append(decode(recording.data, max_seconds=left))
            except AudioError as error:
                raise type(error)(f"{recording.where}: {error}" if recording.where else str(error)) from error
            left -= len(samples[-1]) / SAMPLE_RATE
        return samples

    def _check_size(self, recording: Recording) -> None:
        if len(recording.data) > self.settings.max_upload_bytes:
            raise AudioTooLargeError(
                f"the recording has {len(recording.data)} bytes and the limit is {self.settings.max_upload_bytes}; "
                "send it in parts or compressed as FLAC or MP3"
            )


def _alike(recordings: Sequence[Recording]) -> dict[Options, list[int]]:
    """Positions of the recordings that share their options, so that the engine can take them as one batch."""
    groups: dict[Options, list[int]] = {}
    for index, recording in enumerate(recordings):
        groups.setdefault(recording.options, []).append(index)
    return groups
