"""The model that KServe's server serves: a verified package, its engine, and the V1 and V2 protocols over them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from kserve import InferRequest, InferResponse, Model

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.errors import AudioError, AudioTooLargeError
from avskrift.logs import Log
from avskrift.serving import deadline, metrics, payloads, tracing
from avskrift.serving.admission import Admission
from avskrift.serving.answers import TooLate
from avskrift.serving.decoding import DecodingPool
from avskrift.serving.payloads import Recording
from avskrift.serving.scheduler import Heard, Place, Scheduler, Turn
from avskrift.serving.settings import Settings
from avskrift.whisper.package import ModelPackage
from avskrift.whisper.transcript import Audio, Options, Segment, Transcript
from avskrift.whisper.windows import Window, WindowText, WindowTranscriber, assemble

_Result = TypeVar("_Result")
OpenTranscriber = Callable[[ModelPackage, Settings], WindowTranscriber]

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
        self.admission = Admission(settings)
        self._open_transcriber = open_transcriber
        self._decoding = DecodingPool(longest_seconds=settings.max_audio_seconds)
        self._cutting = ThreadPoolExecutor(1, thread_name_prefix="windows")  # who speaks when in an hour takes seconds to find
        self._engine: WindowTranscriber | None = None
        self._queue: Scheduler | None = None

    def load(self) -> bool:
        """Check every byte of the package, load the engine, and transcribe a second of noise to warm it up.

        Raises:
            IntegrityError: the package is not what its ``model.json`` says.
            PackageError: the engine cannot load it.
        """
        started = time.monotonic()
        self._decoding.start()
        self.package.verify()
        engine = self._open_transcriber(self.package, self.settings)
        engine.transcribe([np.random.default_rng(0).normal(0, 0.1, _WARM_UP_SECONDS * SAMPLE_RATE).astype(np.float32)], Options())
        self._engine = engine
        self._queue = Scheduler(
            engine, gather_s=self.settings.gather_ms / 1000, expected=lambda: self.admission.arriving, on_batch=_count_batch
        )
        metrics.watch(queued_s=lambda: self.admission.audio_s, arriving=lambda: self.admission.arriving)
        metrics.MODEL.info({"name": self.name, "version": self.version, "sha256": self.package.description.sha256})
        self.loaded_at = int(time.time())
        self.ready = True
        _log.info("serving.loaded", sha256=self.package.description.sha256, version=self.version, seconds=time.monotonic() - started)
        return self.ready

    def close(self) -> None:
        """End the children that decode."""
        self._decoding.close()

    async def transcribe(self, recordings: Sequence[Recording]) -> list[Transcript]:
        """Decode and transcribe; one transcript each, in order.

        Raises:
            AudioError: a recording that cannot be decoded, is not of an accepted type, or is too large or too long.
            LanguageError: the model does not know a language that was named.
            Busy, TooLate: no room in the queue, or no answer before the deadline, which is that of the request.
        """
        until = deadline.of_this_request(self.settings.deadline_seconds)
        with self.admission.arrival(), tracing.phase("decode", recordings=len(recordings)):
            decoded = await _in_time(self._decode(recordings), until)
        with self._let_in(recordings, decoded, until) as places:
            whole = [
                self._whole(samples, one.options, place, until) for one, samples, place in zip(recordings, decoded, places, strict=True)
            ]
            tasks = [asyncio.ensure_future(each) for each in whole]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:  # where one failed, or whoever asked has left
                    task.cancel()

    async def stream(self, recording: Recording) -> AsyncGenerator[Segment | Transcript]:
        """The segments of a recording in order, each as soon as it is known, and its transcript at the end.

        Raises:
            As :meth:`transcribe`; before the first segment where the recording or the queue is at fault.
        """
        until = deadline.of_this_request(self.settings.deadline_seconds)
        with self.admission.arrival(), tracing.phase("decode", recordings=1):
            (samples,) = await _in_time(self._decode([recording]), until)
        with self._let_in([recording], [samples], until) as (place,):
            async with aclosing(self._hear(samples, recording.options, place, until)) as heard:
                async for item in heard:
                    yield item

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

    @contextmanager
    def _let_in(self, recordings: Sequence[Recording], decoded: Sequence[Audio], until: float) -> Iterator[list[Place]]:
        """A place in the queue for each recording of a request; for all of them or none."""
        if self._engine is None or self._queue is None:
            raise RuntimeError("load() comes before transcribe()")
        for recording in recordings:
            self._engine.check(recording.options)
        seconds = [len(samples) / SAMPLE_RATE for samples in decoded]
        left_s = until - time.monotonic()
        with self.admission.queued(sum(seconds), self._queue, left_s=left_s), self._queue.kept(seconds) as places:
            yield places

    async def _whole(self, samples: Audio, options: Options, place: Place, until: float) -> Transcript:
        async with aclosing(self._hear(samples, options, place, until)) as heard:
            items = [item async for item in heard]
        assert isinstance(items[-1], Transcript), "it comes last"
        return items[-1]

    async def _hear(self, samples: Audio, options: Options, place: Place, until: float) -> AsyncGenerator[Segment | Transcript]:
        """Cut, wait for turns, and put in order what was heard."""
        assert self._queue is not None
        started, duration_s = time.monotonic(), len(samples) / SAMPLE_RATE
        with tracing.phase("transcribe", audio_seconds=duration_s):
            windows = await _in_time(self._cut(samples), until)
            texts: list[WindowText] = []
            async with aclosing(_read_in_order(self._queue, windows, options, place, until)) as read:
                async for text in read:
                    texts.append(text)
                    for segment in text.segments:
                        yield segment
        metrics.AUDIO_SECONDS.inc(duration_s)
        metrics.LATENCY.labels("whole").observe(time.monotonic() - started)
        _log.info("serving.transcribed", windows=len(windows), audio_seconds=duration_s, seconds=time.monotonic() - started)
        transcript = assemble(duration_s, texts, language=options.language)
        # Times that nobody asked for are the windows', which are no sentences.
        yield transcript if options.timestamps != "none" else replace(transcript, segments=())

    async def _cut(self, samples: Audio) -> Sequence[Window]:
        assert self._engine is not None
        return await asyncio.get_running_loop().run_in_executor(self._cutting, self._engine.windows, samples)

    async def _decode(self, recordings: Sequence[Recording]) -> list[Audio]:
        """Samples of each; the limit of duration holds for all together, since they are in memory together."""
        started, left = time.monotonic(), self.settings.max_audio_seconds
        samples = []
        for recording in recordings:
            try:
                self._check_size(recording)
                samples.append(await self._decoding.decode(recording.data, max_seconds=left))
            except AudioError as error:
                raise type(error)(f"{recording.where}: {error}" if recording.where else str(error)) from error
            left -= len(samples[-1]) / SAMPLE_RATE
        self.admission.decoded(sum(map(len, samples)) / SAMPLE_RATE)
        metrics.LATENCY.labels("decode").observe(time.monotonic() - started)
        return samples

    def _check_size(self, recording: Recording) -> None:
        if len(recording.data) > self.settings.max_upload_bytes:
            raise AudioTooLargeError(
                f"the recording has {len(recording.data)} bytes and the limit is {self.settings.max_upload_bytes}; "
                "send it in parts or compressed as FLAC or MP3"
            )


async def _in_time(work: Awaitable[_Result], until: float) -> _Result:
    """What ``work`` gives.

    Raises:
        TooLate: the deadline (by time.monotonic()) passed.
    """
    try:
        return await deadline.awaited(work, until)
    except TimeoutError as error:
        raise TooLate("the recording was not transcribed before the deadline; send a shorter one, or try again") from error


async def _read_in_order(
    queue: Scheduler, windows: Sequence[Window], options: Options, place: Place, until: float
) -> AsyncGenerator[WindowText]:
    """The windows' texts in the order of the windows. Whoever stops asking has left the queue.

    Raises:
        TooLate: as :func:`_in_time`.
    """
    loop, news = asyncio.get_running_loop(), asyncio.Queue[Heard | Exception]()

    def tell(item: Heard | Exception) -> None:
        with suppress(RuntimeError):  # the loop has ended: the server is going
            loop.call_soon_threadsafe(news.put_nowait, item)

    turn = Turn(windows=windows, options=options, on_heard=tell, on_failure=tell)
    if windows:
        queue.submit(turn)
    queue.free(place)
    read: dict[int, WindowText] = {}
    try:
        for number in range(len(windows)):
            while number not in read:
                item = await _in_time(news.get(), until)
                if isinstance(item, Exception):
                    raise item
                read[item.number] = item.text
            yield read.pop(number)
    finally:
        queue.withdraw(turn)
        if turn.started is not None:
            metrics.LATENCY.labels("queue").observe(turn.started - turn.submitted)


def _count_batch(windows: int, took: float) -> None:
    metrics.BATCH_WINDOWS.observe(windows)
    metrics.LATENCY.labels("read").observe(took)
