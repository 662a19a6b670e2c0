"""How long an MP3 file is, by its own frames.

An MP3 file has no header of its own: a Xing, Info or VBRI frame at its start may say how many frames follow. Where none
does, libsndfile guesses from the first frame's bit rate and stops reading there, which loses the end of some files.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers), ID3v2.4.0 section 3.1, LAME's VbrTag.c (the tags with the length).
"""

from __future__ import annotations

import mmap
import struct
import sys
from functools import cache

Bytes = bytes | mmap.mmap

# kbit/s of layer III by the header's four bits; 0 (free format) and 15 are not counted.
_BIT_RATES_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BIT_RATES_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_MPEG1 = (44_100, 48_000, 32_000)
_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")
_LENGTH_TAG_BYTES = 64  # a tag starts within the first bytes of the first frame
_ID3V1_BYTES = 128
FRAME_SAMPLES = 1152  # the most that a frame holds


def is_mp3(data: Bytes) -> bool:
    """Whether ``data`` begins with an ID3 tag or a frame of layer III."""
    # Eleven sync bits, then a version that exists (not 01) and layer III (01).
    synced = len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2 and data[1] & 0x18 != 0x08
    return synced or data[:3] == b"ID3"


def says_its_length(data: Bytes) -> bool:
    """Whether the first frame tells the number of frames."""
    start = _first_frame(data)
    return any(tag in start for tag in _LENGTH_TAGS)


def says_its_size(data: Bytes) -> bool:
    """Whether the first frame tells the number of bytes, and that is how many there are (an ID3v1 tag may follow)."""
    start = _first_frame(data)
    at = max(start.find(b"Xing"), start.find(b"Info"))
    if at < 0 or len(start) < at + 16:
        return False
    flags, frames, size = struct.unpack_from(">III", start, at + 4)
    told = size if flags & 1 else frames  # the number of frames comes first, if it is there
    return bool(flags & 2) and len(data) - _id3_bytes(data) - told in (0, _ID3V1_BYTES)


def count_samples(data: Bytes, *, most: int = sys.maxsize) -> int:
    """Samples a channel in the unbroken run of frames at the start of ``data``; stops counting beyond ``most``."""
    position, samples, last = _id3_bytes(data), 0, len(data) - 4
    while position <= last and samples <= most and data[position] == 0xFF:
        size, held = _frame(data[position + 1], data[position + 2])
        if not held:
            break
        position += size
        samples += held
    return samples


@cache
def _frame(second: int, third: int) -> tuple[int, int]:
    """The bytes and the samples of a frame whose header goes on with these two bytes; zeros if no frame does."""
    version, bit_rate, rate = second >> 3 & 3, third >> 4, third >> 2 & 3
    if not is_mp3(bytes((0xFF, second))) or bit_rate in (0, 15) or rate == 3:
        return 0, 0
    first = version == 3  # MPEG-1; 2 is MPEG-2 (half the rate) and 0 MPEG-2.5 (a quarter)
    hertz = _RATES_MPEG1[rate] // {3: 1, 2: 2, 0: 4}[version]
    kilobits = (_BIT_RATES_MPEG1 if first else _BIT_RATES_MPEG2)[bit_rate]
    samples = FRAME_SAMPLES if first else FRAME_SAMPLES // 2
    return samples // 8 * kilobits * 1000 // hertz + (third >> 1 & 1), samples


def _first_frame(data: Bytes) -> bytes:
    first = _id3_bytes(data)
    return data[first : first + _LENGTH_TAG_BYTES]


def _id3_bytes(data: Bytes) -> int:
    """The length of an ID3v2 tag with its header: four bytes of seven bits each."""
    start = data[:10]
    if start[:3] != b"ID3" or len(start) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True))
