"""From the bytes of a recording to samples: probe the header, apply the policy, then decode.

The only importer of decoders besides ``corpus/dataset.py``. What a header claims is checked before a sample is decoded, and what
comes out is counted while it is decoded, since headers lie: ten hours of silence are a FLAC file of 2 MB.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from avskrift.audio import mp3
from avskrift.audio.constants import SAMPLE_RATE
from avskrift.errors import AudioError, AudioTooLargeError, AudioTypeError, EmptyAudioError, NotFiniteAudioError

Audio = npt.NDArray[np.float32]  # shape (samples,), 16 kHz mono, in [-1, 1]
Container = Literal["WAV", "FLAC", "MP3", "Ogg"]

MIN_RATE = 8_000  # Hz: telephone
MAX_RATE = 192_000
MAX_CHANNELS = 8
MAX_SECONDS = 2 * 3600.0  # where the caller sets no limit: 460 MB of samples
MAX_FILE_BYTES = 1 << 30
ACCEPTED = "WAV, FLAC, MP3 or Ogg (Vorbis, Opus)"

_BLOCK_FRAMES = 1 << 16
_PEAK_LIMIT = 8.0  # lossy codecs overshoot 1.0 a little; far above it, the samples were never scaled
_UNKNOWN_FRAMES = 1 << 48  # libsndfile's word for "the header does not say" is 2**63 - 1
_UNKNOWN_BYTES = 0x7FFF0000  # what sox, arecord and ffmpeg write into the header of a WAV file that goes through a pipe
_PCM16_SCALE = 32_768.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a recording claims about itself. ``frames`` (samples a channel) is None where it does not say."""

    container: Container
    rate: int
    channels: int
    frames: int | None


def decode(data: bytes, *, max_seconds: float | None = None) -> Audio:
    """Decode a recording to float32 mono samples at 16 kHz, shape ``(samples,)``, in [-1, 1].

    Channels are averaged. ``max_seconds`` None means two hours.

    Raises:
        AudioTypeError: not WAV, FLAC, MP3 or Ogg.
        AudioTooLargeError: longer than ``max_seconds``, by its header or when decoded.
        EmptyAudioError: no samples.
        NotFiniteAudioError: NaN or infinite samples.
        AudioError: damaged, cut short, or a rate or number of channels outside the policy.
    """
    limit = MAX_SECONDS if max_seconds is None else max_seconds
    with _opened(data) as (stream, header):
        _admit(header, limit)
        samples = np.concatenate([np.zeros(0, dtype=np.float32), *_at_16_khz(_blocks(stream, header, limit), header.rate)])
    if not len(samples):
        raise EmptyAudioError("the recording holds no samples; record it again")
    return np.clip(samples, -1.0, 1.0, out=samples)


def probe(data: bytes) -> Header:
    """Read a recording's header; no sample is decoded.

    Raises:
        AudioTypeError: not WAV, FLAC, MP3 or Ogg.
        EmptyAudioError: no bytes.
        AudioError: a header that cannot be read.
    """
    with _opened(data) as (_, header):
        return header


def read_file(path: Path) -> bytes:
    """The bytes of a recording, undecoded.

    Raises:
        AudioTooLargeError: more than 1 GiB.
        AudioError: it cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise AudioTooLargeError(
                f"{path}: {size / (1 << 30):.1f} GiB is over the limit of {MAX_FILE_BYTES >> 30} GiB; cut it into parts"
            )
        return path.read_bytes()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check the name and its permissions") from error


def decode_file(path: Path, *, max_seconds: float | None = None) -> Audio:
    """:func:`decode` for a file; the message of every error names it."""
    data = read_file(path)
    try:
        return decode(data, max_seconds=max_seconds)
    except AudioError as error:
        raise type(error)(f"{path}: {error}") from error


def pcm16(samples: Audio) -> npt.NDArray[np.int16]:
    """Samples as they are stored: rounded to 16 bits, clipped at full scale."""
    scaled: Audio = np.clip(np.rint(samples * _PCM16_SCALE), -_PCM16_SCALE, _PCM16_SCALE - 1)
    return scaled.astype(np.int16)


def encode_flac(samples: Audio | npt.NDArray[np.int16]) -> bytes:
    """Samples at 16 kHz, float32 or as :func:`pcm16` gives them, as a FLAC file of 16 bits. The same samples give the same bytes."""
    stored = samples if samples.dtype == np.int16 else pcm16(samples.astype(np.float32))
    with _nameless_file() as file:
        sf.write(file.fileno(), stored, SAMPLE_RATE, format="FLAC", subtype="PCM_16", closefd=False)
        file.seek(0)
        return file.read()


class _Stream(sf.SoundFile):  # type: ignore[misc]  # soundfile has no annotations
    """Reads straight on: soundfile would seek after every block, which upsets mpg123 and damaged FLAC files."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened(data: bytes) -> Iterator[tuple[_Stream, Header]]:
    """Open a recording of an accepted container; libsndfile's errors, in the body too, become the tree's."""
    if not data:
        raise EmptyAudioError("the recording has no bytes; send or record it again")
    container = _container(data)
    if container is None:
        raise AudioTypeError(f"the recording is not audio that can be read; convert it to {ACCEPTED}")
    try:
        with _file_of(data) as file, _Stream(file.fileno(), closefd=False) as stream:
            _refuse_cut(container, data)
            frames = _claimed_frames(container, data, stream.frames)
            yield stream, Header(container=container, rate=stream.samplerate, channels=stream.channels, frames=frames)
    except sf.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").strip(" .")
        raise AudioError(f"the recording is a damaged {container} file ({reason}); export or record it again") from error


@contextmanager
def _file_of(data: bytes) -> Iterator[BinaryIO]:
    with _nameless_file() as file:
        file.write(data)
        file.seek(0)
        yield file


def _nameless_file() -> BinaryIO:
    """A file in memory. Bytes in Python would be read through callbacks, in which a Ctrl-C is lost or taken for a damaged recording."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("recording"), "w+b")
    return tempfile.TemporaryFile()


def _container(data: bytes) -> Container | None:
    """The container by its first bytes: a name proves nothing."""
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "WAV"
    if data[:4] == b"fLaC":
        return "FLAC"
    if data[:4] == b"OggS":
        return "Ogg"
    return "MP3" if mp3.is_mp3(data) else None


def _claimed_frames(container: Container, data: bytes, frames: int) -> int | None:
    """What the header says of the length, as opposed to what libsndfile makes up where it says nothing."""
    if container != "MP3" or mp3.says_its_length(data):
        return None if frames > _UNKNOWN_FRAMES else frames
    if mp3.count_samples(data) > frames + mp3.FRAME_SAMPLES:
        raise AudioError("the recording is an MP3 file of variable bit rate that does not say how long it is; export it again, or as FLAC")
    return None


def _admit(header: Header, max_seconds: float) -> None:
    """The policy, on what the header claims."""
    if not MIN_RATE <= header.rate <= MAX_RATE:
        raise AudioError(f"the recording has a sample rate of {header.rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are accepted")
    if header.channels > MAX_CHANNELS:
        raise AudioError(f"the recording has {header.channels} channels; at most {MAX_CHANNELS} are accepted")
    if header.frames == 0:
        raise EmptyAudioError("the recording holds no samples; record it again")
    if header.frames is not None and header.frames > max_seconds * header.rate:
        raise AudioTooLargeError(
            f"the recording lasts {header.frames / header.rate:.1f} s, over the limit of {max_seconds:g} s; cut it into parts"
        )


def _blocks(stream: _Stream, header: Header, max_seconds: float) -> Iterator[Audio]:
    """Mono blocks at the recording's own rate, checked and counted."""
    read = 0
    while len(block := stream.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        read += len(block)
        if read > max_seconds * header.rate:
            raise AudioTooLargeError(
                f"the recording lasts more than the limit of {max_seconds:g} s, whatever its header says; cut it into parts"
            )
        if not np.isfinite(block).all():
            raise NotFiniteAudioError("the recording holds samples that are NaN or infinite; export or record it again")
        if np.abs(block).max() > _PEAK_LIMIT:
            raise AudioError(f"the recording has samples of {np.abs(block).max():.0f} times full scale; scale them to between -1 and 1")
        yield block.mean(axis=1, dtype=np.float32)
    slack = mp3.FRAME_SAMPLES if header.container == "MP3" else 0
    if header.frames is not None and read < header.frames - slack:
        held, promised = read / header.rate, header.frames / header.rate
        raise AudioError(f"the recording is cut short: {promised:.2f} s by its header, {held:.2f} s in the file; copy or record it again")


def _at_16_khz(blocks: Iterator[Audio], rate: int) -> Iterator[Audio]:
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _refuse_cut(container: Container, data: bytes) -> None:
    """Refuse the truncation that libsndfile is silent about: it takes a WAV or Ogg file for as long as its bytes last."""
    missing = {"WAV": _missing_wav_bytes, "Ogg": _missing_ogg_bytes}.get(container)
    if missing and (count := missing(data)) > 0:
        raise AudioError(f"the recording is cut short: {count} bytes fewer than its header promises; copy or record it again")


def _missing_wav_bytes(data: bytes) -> int:
    """How many bytes the data chunk lacks. Source: Microsoft, *Multimedia Programming Interface and Data Specifications 1.0*, RIFF."""
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        if name == b"data":
            return 0 if size >= _UNKNOWN_BYTES else int(position + 8 + size - len(data))
        position += 8 + size + size % 2
    return 0


def _missing_ogg_bytes(data: bytes) -> int:
    """How many bytes the last page lacks. Source: RFC 3533, section 6."""
    start = data.rfind(b"OggS")
    segments = start + 27
    if segments > len(data):
        return segments - len(data)
    count = data[segments - 1]
    lengths = data[segments : segments + count]
    return segments + count + sum(lengths) - len(data)
