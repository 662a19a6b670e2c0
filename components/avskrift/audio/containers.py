"""What a recording's own bytes say, read without a decoder: which container it is, and whether all of it is there.

Decoders are silent about much of that: libsndfile takes a WAV or Ogg file for as long as its bytes last, and reads no
further than the length in a FLAC or MP3 header however much follows.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Literal

from avskrift.audio import mp3
from avskrift.audio.mp3 import Bytes
from avskrift.errors import AudioError

Container = Literal["WAV", "FLAC", "MP3", "Ogg", "M4A"]

ENDS_ELSEWHERE = "the recording is cut short, or goes on after the end that its header names; copy or export it again"

_UNKNOWN_BYTES = 0x7FFF0000  # what sox, arecord and ffmpeg write into the header of a WAV file that goes through a pipe
_MOST_CHUNKS = 10_000  # of a WAV file; a real one has fewer than twenty
_LARGEST_FLAC_FRAME = 4 << 20  # bytes, where the header does not say: 65,535 samples of eight channels in 32 bits are 2 MiB
_FLAC_TAGS = 4096  # bytes that others have written behind the last frame
_MP3_DELAYS = 2 * 4095  # samples that a LAME tag can tell the decoder to drop, at each end
_OGG_PAGE_HEADER = 27


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a recording claims about itself. ``frames`` (samples a channel) is None where it does not say."""

    container: Container
    rate: int
    channels: int
    frames: int | None


def container_of(data: Bytes) -> Container | None:
    """The container by its first bytes, as a name proves nothing. ``M4A`` stands for any MP4 file."""
    start = data[:12]
    if start[:4] in (b"RIFF", b"RF64") and start[8:] == b"WAVE":
        return "WAV"
    if start[:4] == b"fLaC":
        return "FLAC"
    if start[:4] == b"OggS":
        return "Ogg"
    if start[4:8] == b"ftyp":
        return "M4A"
    return "MP3" if mp3.is_mp3(start) else None


def refuse_incomplete(container: Container, data: Bytes) -> None:
    """Refuse a WAV or Ogg file that is cut short, and an Ogg file of which libsndfile would read the first stream alone.

    Raises:
        AudioError: fewer bytes than the file's own structure promises, or several streams.
    """
    missing = _missing_wav_bytes(data) if container == "WAV" else _missing_ogg_bytes(data) if container == "Ogg" else 0
    if missing > 0:
        raise AudioError(f"the recording is cut short: {missing} bytes fewer than its header promises; copy or record it again")
    if container == "Ogg" and _ogg_serial(data, data.rfind(b"OggS")) != _ogg_serial(data, 0):
        raise AudioError("the recording is an Ogg file of several streams; export each as a file")


def refuse_more(container: Container, data: Bytes, frames: int) -> None:
    """Refuse a FLAC or MP3 file that goes on after the ``frames`` of its header, which is where libsndfile stops.

    Raises:
        AudioError: more follows; or, in a FLAC file, less is there.
    """
    if container == "FLAC" and not _flac_ends_at(data, frames):
        raise AudioError(ENDS_ELSEWHERE)
    if container != "MP3" or mp3.says_its_size(data):
        return
    if mp3.says_its_length(data):
        spare = _MP3_DELAYS + mp3.FRAME_SAMPLES  # the frame with the length is counted too
        if mp3.count_samples(data, most=frames + spare) > frames + spare:
            raise AudioError(ENDS_ELSEWHERE)
    elif mp3.count_samples(data, most=frames + mp3.FRAME_SAMPLES) > frames + mp3.FRAME_SAMPLES:
        raise AudioError("the recording is an MP3 file of variable bit rate that does not say how long it is; export it again, or as FLAC")


def _missing_wav_bytes(data: Bytes) -> int:
    """How many bytes the data chunk lacks. Source: Microsoft, *Multimedia Programming Interface and Data Specifications 1.0*, RIFF."""
    position = 12
    for _ in range(_MOST_CHUNKS):
        if position + 8 > len(data):
            return 0
        name, size = struct.unpack_from("<4sI", data, position)
        if name == b"data":
            return 0 if size >= _UNKNOWN_BYTES else int(position + 8 + size - len(data))
        position += 8 + size + size % 2
    raise AudioError(f"the recording is a damaged WAV file (more than {_MOST_CHUNKS} chunks); export or record it again")


def _missing_ogg_bytes(data: Bytes) -> int:
    """How many bytes the last page lacks. Source: RFC 3533, section 6."""
    segments = data.rfind(b"OggS") + _OGG_PAGE_HEADER
    if segments > len(data):
        return segments - len(data)
    count = data[segments - 1]
    lengths = data[segments : segments + count]
    return segments + count + sum(lengths) - len(data)


def _ogg_serial(data: Bytes, page: int) -> bytes:
    return data[page + 14 : page + 18]


def _flac_ends_at(data: Bytes, frames: int) -> bool:
    """Whether a frame near the end of the file says that it ends at sample ``frames``. Source: RFC 9639, sections 8 and 9.1."""
    first = _flac_first_frame(data)
    block, largest = struct.unpack_from(">H", data, 10)[0], int.from_bytes(data[15:18], "big")
    sync, lowest = data[first : first + 2], max(first, len(data) - (largest or _LARGEST_FLAC_FRAME) - _FLAC_TAGS)
    if len(sync) < 2:  # the metadata claims the rest of the file; to look for nothing in a mapped file would never end
        return False
    at = len(data)
    # Those two bytes turn up in sound as well: it takes a header's checksum and the right number to pass for the last frame.
    while (at := data.rfind(sync, lowest, at + 1)) >= 0:
        if _flac_frame_end(data[at : at + 16], block) == frames:
            return True
        at -= 1
    return False


def _flac_first_frame(data: Bytes) -> int:
    """The position after the last block of metadata."""
    position, last = 4, False
    while not last and position + 4 <= len(data):
        word = struct.unpack_from(">I", data, position)[0]
        last = bool(word >> 31)
        position += 4 + (word & 0xFFFFFF)
    return position


def _flac_frame_end(header: bytes, block: int) -> int | None:
    """The number of the sample after a frame; None if these bytes are no header of a frame. ``block`` is what a full frame holds."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xFE != 0xF8:
        return None
    ones = 8 - (header[4] ^ 0xFF).bit_length()  # the leading ones say how many octets the number takes, as in UTF-8
    size_code, rate_code = header[2] >> 4, header[2] & 15
    size_octets, rate_octets = {6: 1, 7: 2}.get(size_code, 0), {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    size_at = 4 + max(1, ones)
    end = size_at + size_octets + rate_octets
    if not size_code or ones > 7 or end >= len(header) or _crc8(header[:end]) != header[end]:
        return None
    number = header[4] & 0x7F >> ones
    for octet in header[5:size_at]:
        number = number << 6 | octet & 0x3F
    size = _flac_size(size_code, header[size_at : size_at + size_octets])
    return size + (number if header[1] & 1 else number * block)


def _flac_size(code: int, octets: bytes) -> int:
    if octets:
        return int.from_bytes(octets, "big") + 1
    if code == 1:
        return 192
    return 576 << (code - 2) if code < 6 else 256 << (code - 8)


def _crc8(data: bytes) -> int:
    remainder = 0
    for octet in data:
        remainder = _crc8_of(remainder ^ octet)
    return remainder


@cache
def _crc8_of(octet: int) -> int:
    """Of the polynomial x^8 + x^2 + x + 1."""
    for _ in range(8):
        octet = octet << 1 ^ (0x107 if octet & 0x80 else 0)
    return octet
