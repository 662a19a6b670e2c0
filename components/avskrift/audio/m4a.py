"""M4A: AAC or ALAC sound in an MP4 file, decoded by FFmpeg (PyAV)."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt

from avskrift.audio import mp4
from avskrift.audio.containers import ENDS_ELSEWHERE, Header
from avskrift.errors import AudioError, AudioTooLargeError, AudioTypeError

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

Block = npt.NDArray[np.float32]  # shape (samples a channel, channels)

SLACK_SECONDS = 0.1  # encoders fill up the last packet, and some do not say so
_MOST_BYTES = 256 << 20  # five hours at 128 kbit/s
_BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True, slots=True)
class Recording:
    """The sound of an open MP4 file."""

    header: Header
    container: InputContainer
    stream: AudioStream

    def blocks(self, first: int, count: int) -> Iterator[Block]:
        """At most ``count`` samples a channel from number ``first`` on; what is before them is decoded and dropped.

        Raises:
            AudioError: its rate or channels change on the way, or it goes on after the end that its header names.
        """
        gathered: list[Block] = []
        held = at = 0
        for block in self._packets():
            part = block[max(0, first - at) : max(0, first + count - at)]
            at += len(block)
            if len(part):  # an empty view would keep what was dropped
                gathered.append(part)
                held += len(part)
            if held >= _BLOCK_FRAMES:
                yield np.concatenate(gathered)
                gathered, held = [], 0
            if at >= first + count and first + count != self.header.frames:
                break
        if held:
            yield np.concatenate(gathered)

    def _packets(self) -> Iterator[Block]:
        header, read = self.header, 0
        for frame in self._frames():
            if (frame.sample_rate, frame.layout.nb_channels) != (header.rate, header.channels):
                raise AudioError("the recording changes its sample rate or its channels on the way; export it again")
            read += frame.samples
            if header.frames is not None and read > header.frames + SLACK_SECONDS * header.rate:
                raise AudioError(ENDS_ELSEWHERE)
            yield _float32(frame)

    def _frames(self) -> Iterator[AudioFrame]:
        with _damage_refused():
            yield from self.container.decode(self.stream)


@contextmanager
def opened(file: io.BytesIO | mmap.mmap) -> Iterator[Recording]:
    """Open an MP4 file that holds one track of AAC or ALAC sound and no video. ``file`` is a copy, which is changed.

    Raises:
        AudioTypeError: it holds something else, or PyAV is not installed.
        AudioTooLargeError: more than 256 MiB.
        AudioError: damaged or cut short.
    """
    try:
        import av
    except ImportError as error:
        raise AudioTypeError("the recording is an M4A file, which takes the package `av`; install it, or convert to FLAC") from error
    with file.getbuffer() if isinstance(file, io.BytesIO) else memoryview(file) as data:
        if len(data) > _MOST_BYTES:
            raise AudioTooLargeError(
                f"the recording is an M4A file of more than {_MOST_BYTES >> 20} MiB; cut it into parts, or convert it to FLAC"
            )
        mp4.disarm(data)
    with _damage_refused():
        container = av.open(file, mode="r", format="mp4", metadata_errors="ignore", io_open=_refuse_other_files)
    with container:
        stream = _sound(container)
        yield Recording(_header(stream), container, stream)


@contextmanager
def _damage_refused() -> Iterator[None]:
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise mp4.damaged(error.strerror or "nothing can be read") from error
    except ValueError as error:  # of a mapped file, where FFmpeg looks beyond its end
        raise mp4.damaged(str(error)) from error


def _sound(container: InputContainer) -> AudioStream:
    streams = container.streams.audio
    if len(streams) != 1 or len(container.streams) != 1 or streams[0].codec_context is None or streams[0].codec.name not in ("aac", "alac"):
        raise AudioTypeError("the recording is an MP4 file with sound that is not AAC or ALAC; export it as M4A or FLAC")
    streams[0].codec_context.thread_count = 1
    return streams[0]


def _header(stream: AudioStream) -> Header:
    rate = stream.codec_context.sample_rate
    seconds = stream.duration * stream.time_base if stream.duration and stream.time_base else 0
    frames = round(seconds * rate) if seconds > 0 else None
    return Header(container="M4A", rate=rate, channels=stream.codec_context.channels, frames=frames)


def _float32(frame: AudioFrame) -> Block:
    values: npt.NDArray[np.generic] = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if frame.format.name.startswith("flt"):
        return values.T.astype(np.float32, copy=False)
    return values.T.astype(np.float32) / np.float32(1 << (8 * frame.format.bytes - 1))


def _refuse_other_files(*_: object) -> NoReturn:
    raise AudioTypeError("the recording is an MP4 file that refers to other files; export its sound as M4A or FLAC")
