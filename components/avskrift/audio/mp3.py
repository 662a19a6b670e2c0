"""How long an MP3 file is, by its own frames.

An MP3 file has no header of its own: a Xing, Info or VBRI frame at its start may say how many frames follow. Where none
does, libsndfile guesses from the first frame's bit rate and stops reading there, which loses the end of some files.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers), ID3v2.4.0 section 3.1.
"""

from __future__ import annotations

# kbit/s of layer III by the header's four bits; 0 (free format) and 15 are not counted.
_BIT_RATES_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BIT_RATES_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_MPEG1 = (44_100, 48_000, 32_000)
_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")
_LENGTH_TAG_BYTES = 64  # a tag starts within the first bytes of the first frame
FRAME_SAMPLES = 1152  # the most that a frame holds


def is_mp3(data: bytes) -> bool:
    """Whether ``data`` begins with an ID3 tag or a frame of layer III."""
    # Eleven sync bits, then a version that exists (not 01) and layer III (01).
    synced = len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2 and data[1] & 0x18 != 0x08
    return synced or data[:3] == b"ID3"


def says_its_length(data: bytes) -> bool:
    """Whether the first frame tells the number of frames."""
    first = _id3_bytes(data)
    return any(tag in data[first : first + _LENGTH_TAG_BYTES] for tag in _LENGTH_TAGS)


def count_samples(data: bytes) -> int:
    """Samples a channel in the unbroken run of frames at the start of ``data``."""
    position, samples = _id3_bytes(data), 0
    while frame := _frame(data, position):
        position += frame[0]
        samples += frame[1]
    return samples


def _frame(data: bytes, position: int) -> tuple[int, int] | None:
    """The bytes and the samples of the frame that starts at ``position``; None where none does."""
    header = data[position : position + 4]
    if len(header) < 4 or not is_mp3(header):
        return None
    version, bit_rate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if bit_rate in (0, 15) or rate == 3:
        return None
    first = version == 3  # MPEG-1; 2 is MPEG-2 (half the rate) and 0 MPEG-2.5 (a quarter)
    hertz = _RATES_MPEG1[rate] // {3: 1, 2: 2, 0: 4}[version]
    kilobits = (_BIT_RATES_MPEG1 if first else _BIT_RATES_MPEG2)[bit_rate]
    samples = FRAME_SAMPLES if first else FRAME_SAMPLES // 2
    return samples // 8 * kilobits * 1000 // hertz + (header[2] >> 1 & 1), samples


def _id3_bytes(data: bytes) -> int:
    """The length of an ID3v2 tag with its header: four bytes of seven bits each."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
