"""From a recording to samples: read its header, apply the policy, then decode.

The only importer of libsndfile. What a header claims is checked before a sample is decoded, and what comes out is counted
while it is decoded, since headers lie: ten hours of silence are a FLAC file of 2 MB.
"""

from __future__ import annotations

import fcntl
import io
import math
import mmap
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from avskrift.audio import m4a, mp3
from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.containers import Header, container_of, refuse_incomplete, refuse_more
from avskrift.audio.mp3 import Bytes
from avskrift.errors import AudioError, AudioTooLargeError, AudioTypeError, EmptyAudioError, NotFiniteAudioError

Audio = npt.NDArray[np.float32]  # shape (samples,), 16 kHz mono, in [-1, 1]

MIN_RATE = 8_000  # Hz: telephone
MAX_RATE = 192_000
MAX_CHANNELS = 8
MAX_SECONDS = 2 * 3600.0  # where the caller sets no limit: 460 MB of samples
MAX_FILE_BYTES = 1 << 30
ACCEPTED = "WAV, FLAC, MP3, Ogg (Vorbis, Opus) or M4A (AAC, ALAC)"

_BLOCK_SAMPLES = 1 << 22  # 16 MiB: half a minute of stereo at 48 kHz is read at once
_PEAK_LIMIT = 8.0  # lossy codecs overshoot 1.0 a little; far above it, the samples were never scaled
_UNKNOWN_FRAMES = 1 << 48  # libsndfile's word for "the header does not say" is 2**63 - 1
_PCM16_SCALE = 32_768.0
_UNREAD_FORMATS = (1, 4, 18)  # libsndfile's SF_ERR_UNRECOGNISED_FORMAT, SF_ERR_UNSUPPORTED_ENCODING, SFE_UNIMPLEMENTED
_FLAC_LEVEL = 0.0  # of 1; libFLAC's usual 0.625 takes an eighth longer for files 3 % smaller
_SHORT_SECONDS = 0.1  # manifests round where a part ends


def decode(data: bytes, *, max_seconds: float | None = None) -> Audio:
    """Decode a recording to float32 mono samples at 16 kHz, shape ``(samples,)``, in [-1, 1].

    Channels are averaged. ``max_seconds`` None means two hours.

    Raises:
        AudioTypeError: not one of the accepted formats, or a video.
        AudioTooLargeError: longer than ``max_seconds``, by its header or when decoded.
        EmptyAudioError: no samples.
        NotFiniteAudioError: NaN or infinite samples.
        AudioError: damaged, cut short, or a rate or number of channels outside the policy.
    """
    with _opened(data) as recording:
        return _samples(recording, _Part(max_seconds=MAX_SECONDS if max_seconds is None else max_seconds))


def decode_path(path: Path, *, max_seconds: float | None = None, offset_s: float = 0.0, duration_s: float | None = None) -> Audio:
    """:func:`decode` for a file or for a part of one, which is not read into memory. No message names it.

    A part is ``duration_s`` (None: all) from ``offset_s`` on, and ``max_seconds`` is its limit. WAV, FLAC and Ogg are read
    from there; MP3 and M4A are decoded from their start. A part may end up to 0.1 s after the recording, no more.

    Raises:
        AudioTooLargeError: as :func:`decode`, or more than 1 GiB.
        AudioError: as :func:`decode`; or it cannot be read, is no regular file, or does not hold that part.
    """
    if not 0 <= offset_s < math.inf:
        raise AudioError(f"the recording has no part that starts at {offset_s:g} s; correct the offset")
    if duration_s is not None and not 0 < duration_s < math.inf:
        raise AudioError(f"the recording has no part that lasts {duration_s:g} s; correct the duration")
    part = _Part(max_seconds=MAX_SECONDS if max_seconds is None else max_seconds, offset_s=offset_s, duration_s=duration_s)
    with _mapped(path) as (data, file), _opened(data, file) as recording:
        return _samples(recording, part)


def decode_file(path: Path, *, max_seconds: float | None = None) -> Audio:
    """:func:`decode_path` for a whole file; the message of every error names it."""
    try:
        return decode_path(path, max_seconds=max_seconds)
    except AudioError as error:
        raise type(error)(f"{path}: {error}") from error


def probe(data: bytes) -> Header:
    """Read a recording's header; no sample is decoded.

    Raises:
        AudioTypeError: not one of the accepted formats.
        EmptyAudioError: no bytes.
        AudioError: a header that cannot be read.
    """
    with _opened(data) as recording:
        return recording.header


def pcm16(samples: Audio) -> npt.NDArray[np.int16]:
    """Samples as they are stored: rounded to 16 bits, clipped at full scale."""
    scaled: Audio = samples * np.float32(_PCM16_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -_PCM16_SCALE, _PCM16_SCALE - 1, out=scaled)
    return scaled.astype(np.int16)


def encode_flac(samples: Audio | npt.NDArray[np.int16]) -> bytes:
    """Samples at 16 kHz, float32 or as :func:`pcm16` gives them, as a FLAC file of 16 bits. The same samples give the same bytes."""
    stored = samples if samples.dtype == np.int16 else pcm16(samples.astype(np.float32))
    with nameless_file() as file:
        with _Stream(file.fileno(), "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC", closefd=False, compression_level=_FLAC_LEVEL) as stream:
            stream.write(stored)
        file.seek(0)
        return file.read()


def nameless_file() -> BinaryIO:
    """A file in memory, open for reading and writing without a buffer.

    Bytes in Python would be read through callbacks, in which a Ctrl-C is lost or taken for a damaged recording.
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("recording"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What is wanted of a recording: all of it, unless an offset or a duration is given."""

    max_seconds: float
    offset_s: float = 0.0
    duration_s: float | None = None

    @property
    def whole(self) -> bool:
        return not self.offset_s and self.duration_s is None


class _Recording(Protocol):
    """An open recording, by libsndfile or by FFmpeg."""

    @property
    def header(self) -> Header: ...

    def blocks(self, first: int, count: int) -> Iterator[npt.NDArray[np.float32]]:
        """At most ``count`` samples a channel from number ``first`` on, in blocks of shape (samples, channels)."""


def _samples(recording: _Recording, part: _Part) -> Audio:
    _admit(recording.header)
    span = _span(recording.header, part)
    samples = _at_16_khz(_mono(recording, span, part), recording.header.rate)
    if not len(samples):
        raise EmptyAudioError("the recording holds no samples; record it again")
    return np.clip(samples, -1.0, 1.0, out=samples)


def _admit(header: Header) -> None:
    """The policy, on what the header claims."""
    if not MIN_RATE <= header.rate <= MAX_RATE:
        raise AudioError(f"the recording has a sample rate of {header.rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are accepted")
    if not 1 <= header.channels <= MAX_CHANNELS:
        raise AudioError(f"the recording has {header.channels} channels; at most {MAX_CHANNELS} are accepted")
    if header.frames == 0:
        raise EmptyAudioError("the recording holds no samples; record it again")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """Which samples to read, at the recording's own rate: at most ``count`` from ``first`` on."""

    first: int
    count: int
    due: int  # 0 where nobody knows how many
    slack: float  # so many fewer than due are no fault
    limit: int


def _span(header: Header, part: _Part) -> _Span:
    first, rate, limit = round(part.offset_s * header.rate), header.rate, int(part.max_seconds * header.rate)
    held = math.inf if header.frames is None else header.frames - first
    if held <= 0:
        raise _past_the_end(part)
    due = held if part.duration_s is None else round(part.duration_s * rate)
    if limit < due < math.inf:
        what = "the recording" if part.whole else "the part of the recording"
        raise AudioTooLargeError(f"{what} lasts {due / rate:.1f} s, over the limit of {part.max_seconds:g} s; cut it into parts")
    slack = _SHORT_SECONDS * rate
    if part.whole:
        slack = {"MP3": mp3.FRAME_SAMPLES, "M4A": slack}.get(header.container, 0)
    if held < due - slack and due < math.inf:
        raise _cut_short(held / rate, due / rate, part)
    known = 0 if due == math.inf else int(due)
    return _Span(first=first, count=int(min(held, due, limit + 1)), due=known, slack=slack, limit=limit)


def _mono(recording: _Recording, span: _Span, part: _Part) -> Iterator[Audio]:
    """Mono blocks at the recording's own rate, checked and counted."""
    read, rate = 0, recording.header.rate
    for block in recording.blocks(span.first, span.count):
        read += len(block)
        if read > span.limit:
            raise AudioTooLargeError(
                f"the recording lasts more than the limit of {part.max_seconds:g} s, whatever its header says; cut it into parts"
            )
        _refuse_unfit(block)
        yield _mixed(block)
    if span.first and not read:
        raise _past_the_end(part)
    if read < span.due - span.slack:
        raise _cut_short(read / rate, span.due / rate, part)


def _refuse_unfit(block: npt.NDArray[np.float32]) -> None:
    low, high = float(block.min()), float(block.max())  # both NaN where a sample is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise NotFiniteAudioError("the recording holds samples that are NaN or infinite; export or record it again")
    if (peak := max(-low, high)) > _PEAK_LIMIT:
        raise AudioError(f"the recording has samples of {peak:.0f} times full scale; scale them to between -1 and 1")


def _mixed(block: npt.NDArray[np.float32]) -> Audio:
    """The mean of the channels: numpy's own walks along the rows, which takes ten times as long."""
    if block.shape[1] == 1:
        return block[:, 0]
    total: Audio = block[:, 0] + block[:, 1]
    for channel in range(2, block.shape[1]):
        total += block[:, channel]
    total /= block.shape[1]
    return total


def _at_16_khz(blocks: Iterator[Audio], rate: int) -> Audio:
    """soxr's HQ. It gives the same samples for a recording in one block, which takes less time, as for one in several."""
    nothing = np.zeros(0, dtype=np.float32)
    first, second = next(blocks, nothing), next(blocks, nothing)
    if rate == SAMPLE_RATE:
        return np.concatenate([first, second, *blocks]) if len(second) else first
    if not len(second):
        whole: Audio = soxr.resample(first, rate, SAMPLE_RATE, quality="HQ")
        return whole
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    resampled = [resampler.resample_chunk(block) for block in chain((first, second), blocks)]
    return np.concatenate([*resampled, resampler.resample_chunk(nothing, last=True)])


def _past_the_end(part: _Part) -> AudioError:
    return AudioError(f"the recording ends before {part.offset_s:g} s, where the part that was asked for starts; correct the offset")


def _cut_short(held_s: float, due_s: float, part: _Part) -> AudioError:
    if part.whole:
        return AudioError(f"the recording is cut short: {due_s:.2f} s by its header, {held_s:.2f} s in the file; copy or record it again")
    return AudioError(
        f"the recording holds {held_s:.2f} s of the {due_s:.2f} s that were asked for from {part.offset_s:g} s on; "
        "correct the offset and the duration, or copy it again"
    )


class _Stream(sf.SoundFile):  # type: ignore[misc]  # soundfile has no annotations
    """Reads and writes straight on: soundfile would seek after every block, which upsets mpg123 and damaged FLAC files."""

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class _BySndfile:
    """A recording that libsndfile has opened."""

    header: Header
    data: Bytes
    stream: _Stream

    def blocks(self, first: int, count: int) -> Iterator[npt.NDArray[np.float32]]:
        header = self.header
        if first + count >= self.stream.frames:
            refuse_more(header.container, self.data, self.stream.frames)
        if first and header.frames is not None and header.container != "MP3":
            self.stream.seek(first)
        else:
            for _ in self._read(first):
                pass
        yield from self._read(count)

    def _read(self, count: int) -> Iterator[npt.NDArray[np.float32]]:
        most = _BLOCK_SAMPLES // self.header.channels
        while count and len(block := self.stream.read(min(count, most), dtype="float32", always_2d=True)):
            count -= len(block)
            yield block


@contextmanager
def _opened(data: Bytes, file: BinaryIO | None = None) -> Iterator[_Recording]:
    """Open a recording of an accepted container: ``data`` in a ``file``, or bytes. Decoders' errors, in the body too, become the tree's."""
    if not len(data):
        raise EmptyAudioError("the recording has no bytes; send or record it again")
    if len(data) > MAX_FILE_BYTES:
        raise AudioTooLargeError(
            f"the recording is {len(data) / (1 << 30):.1f} GiB, over the limit of {MAX_FILE_BYTES >> 30} GiB; cut it into parts"
        )
    container = container_of(data)
    if container is None:
        raise AudioTypeError(f"the recording is not audio that can be read; convert it to {ACCEPTED}")
    if container == "M4A":
        copy = io.BytesIO(data) if file is None else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        with copy, m4a.opened(copy) as recording:
            yield recording
        return
    refuse_incomplete(container, data)
    try:
        with nullcontext(file) if file else _file_of(data) as source, _Stream(source.fileno(), closefd=False) as stream:
            says = stream.frames <= _UNKNOWN_FRAMES and (container != "MP3" or mp3.says_its_length(data))
            header = Header(container=container, rate=stream.samplerate, channels=stream.channels, frames=stream.frames if says else None)
            yield _BySndfile(header, data, stream)
    except sf.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").strip(" .")
        if error.code in _UNREAD_FORMATS:
            raise AudioTypeError(
                f"the recording is {container} of a kind that cannot be read ({reason}); convert it to {ACCEPTED}"
            ) from error
        raise AudioError(f"the recording is a damaged {container} file ({reason}); export or record it again") from error


@contextmanager
def _mapped(path: Path) -> Iterator[tuple[Bytes, BinaryIO]]:
    """A regular file and its bytes, which the system reads in as they are looked at."""
    with _regular_file(path) as file:
        _leave_access_times(file)
        size = os.fstat(file.fileno()).st_size
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else nullcontext(b"") as data:
            yield data, file


def _regular_file(path: Path) -> BinaryIO:
    """Opened without waiting, as a pipe would have it until somebody writes."""
    try:
        file = open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY))  # noqa: SIM115
    except ValueError as error:
        raise AudioError("the recording cannot be read (no file has such a name); correct the name") from error
    except OSError as error:
        raise AudioError(f"the recording cannot be read ({error.strerror}); check its name and its permissions") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise AudioError("the recording cannot be read (a pipe or a device, no regular file); name a file")
    return file


@contextmanager
def _file_of(data: Bytes) -> Iterator[BinaryIO]:
    with nameless_file() as file:
        file.write(data)
        file.seek(0)
        _leave_access_times(file)
        yield file


def _leave_access_times(file: BinaryIO) -> None:
    """mpg123 reads a few hundred bytes at a time: noting when takes the system as long as reading (6 % of a decoded MP3)."""
    with suppress(OSError, AttributeError):  # another user's file; a system without it
        fcntl.fcntl(file.fileno(), fcntl.F_SETFL, os.O_NOATIME)
