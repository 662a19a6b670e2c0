"""Recordings for the tests of the audio door: every accepted container, and files that no honest program writes."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile as sf

Samples = npt.NDArray[np.float32]
SUFFIXES = {"WAV": ".wav", "FLAC": ".flac", "MP3": ".mp3", "OGG": ".ogg", "M4A": ".m4a"}


def tone(seconds: float, rate: int = 16_000, hertz: float = 440.0) -> Samples:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float, rate: int = 16_000, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


def encoded(samples: npt.NDArray[Any], rate: int = 16_000, container: str = "WAV", subtype: str | None = None) -> bytes:
    """Samples of shape (n,) or (n, channels) as the bytes of a file. M4A takes the subtypes AAC and ALAC."""
    if container == "M4A":
        return m4a(samples, rate, codec=(subtype or "AAC").lower())
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def m4a(samples: Samples, rate: int = 16_000, codec: str = "aac", **options: str) -> bytes:
    """Sound in an MP4 file; ``options`` are those of FFmpeg's muxer."""
    with NamedTemporaryFile(suffix=".m4a") as file:
        with av.open(file.name, "w", format="mp4", options=options) as container:
            stream = container.add_stream(codec, rate=rate, layout={1: "mono", 2: "stereo"}[samples[0].size])
            _mux(container, stream, samples)
        return Path(file.name).read_bytes()


def video(container: str = "mp4", codec: str = "mpeg4", *, with_sound: bool = True) -> bytes:
    """A second of a grey picture, with a tone or without."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        pictures: Any = output.add_stream(codec, rate=10, width=64, height=64, pix_fmt="yuv420p")
        sound = output.add_stream("aac", rate=16_000, layout="mono") if with_sound else None
        for moment in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, dtype=np.uint8), format="rgb24")
            picture.pts = moment
            output.mux(pictures.encode(picture))
        output.mux(pictures.encode(None))
        if sound:
            _mux(output, sound, tone(1.0))
    return buffer.getvalue()


def flac_of_silence(seconds: float, rate: int = 16_000, *, claimed: int | None = None, block: int = 4096) -> bytes:
    """A FLAC file of constant frames, as small as the format allows. Source: RFC 9639, sections 8.2 and 9."""
    frames = -(-round(seconds * rate) // block)
    total = frames * block if claimed is None else claimed
    info = struct.pack(">HH6xQ16x", block, block, rate << 44 | 15 << 36 | total)
    sound = bytearray(b"fLaC" + struct.pack(">I", 1 << 31 | len(info)) + info)
    for number in range(frames):
        header = b"\xff\xf8\x70\x08" + _coded(number) + struct.pack(">H", block - 1)
        frame = header + bytes([_crc(header, 8, 0x07)]) + b"\0\0\0"
        sound += frame + struct.pack(">H", _crc(frame, 16, 0x8005))
    return bytes(sound)


def flac_claiming(data: bytes, samples: int) -> bytes:
    """A FLAC file whose header says ``samples``: 36 bits from the middle of byte 21 on."""
    changed = bytearray(data)
    changed[21] = (changed[21] & 0xF0) | samples >> 32
    changed[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(changed)


def box(name: bytes, content: bytes = b"") -> bytes:
    """A box of an MP4 file."""
    return struct.pack(">I4s", 8 + len(content), name) + content


def with_boxes(data: bytes, **contents: bytes) -> bytes:
    """An MP4 file whose boxes of these names hold something else. Chunk offsets stay, so the index had better be at the end."""
    made, at = b"", 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + size]
        if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf"):
            content = with_boxes(content, **contents)
        made += box(name, contents.get(name.decode("latin-1"), content))
        at += size
    return made


def patched(data: bytes, after: bytes, at: int, new: bytes) -> bytes:
    """``data`` with ``new`` written ``at`` bytes after the start of the first ``after``."""
    start = data.index(after) + at
    return data[:start] + new + data[start + len(new) :]


def _mux(container: Any, stream: Any, samples: Samples) -> None:
    planes = np.ascontiguousarray(np.atleast_2d(samples.T))
    frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=stream.layout.name)
    frame.sample_rate, frame.pts = stream.rate, 0
    size = 4096 if stream.codec.name == "alac" else 1024
    cutter = av.AudioResampler(format=stream.format, layout=stream.layout, rate=stream.rate, frame_size=size)
    for piece in [*cutter.resample(frame), *cutter.resample(None)]:
        container.mux(stream.encode(piece))
    container.mux(stream.encode(None))


def _coded(number: int) -> bytes:
    """A number as FLAC writes that of a frame: like a letter in UTF-8."""
    if number < 0x80:
        return bytes([number])
    octets: list[int] = []
    while number >= 1 << (6 - len(octets)):
        octets.append(0x80 | number & 0x3F)
        number >>= 6
    return bytes([0xFF & ~0 << (7 - len(octets)) | number, *reversed(octets)])


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    remainder, top, mask = 0, 1 << (bits - 1), (1 << bits) - 1
    for octet in data:
        remainder ^= octet << (bits - 8)
        for _ in range(8):
            remainder = (remainder << 1 ^ (polynomial if remainder & top else 0)) & mask
    return remainder
