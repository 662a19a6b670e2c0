"""Files that were made to do harm, or that no program should have written: each is refused with its word, at little cost.

All of them are decoded by one other process, in a fork each, so that a crash or a flood of memory would be seen.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from recordings import box, encoded, flac_claiming, flac_of_silence, m4a, noise, patched, tone, video, with_boxes

from avskrift.audio.decode import MAX_FILE_BYTES

MAX_SECONDS = 30.0
MAX_GROWTH_BYTES = 200 << 20
TEN_HOURS = 36_000.0
CONTAINERS = {
    "wav": ("WAV", "PCM_16"),
    "adpcm": ("WAV", "MS_ADPCM"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", None),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "aac": ("M4A", "AAC"),
    "alac": ("M4A", "ALAC"),
}

_MEASURE = """
import json, os, resource, sys
from pathlib import Path
from avskrift.audio.decode import decode_path
from avskrift.errors import AvskriftError

def measure(path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        answer = f"{len(decode_path(Path(path), **json.loads(sys.argv[1])))} samples"
    except AvskriftError as error:
        answer = f"{type(error).__name__}: {error}"
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"answer": answer, "growth": (used.ru_maxrss - before) * 1024, "seconds": used.ru_utime + used.ru_stime}

for path in sys.argv[2:]:
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, json.dumps(measure(path)).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        result = pipe.read().decode() or "{}"
    print(json.dumps(json.loads(result) | {"path": path, "status": os.wait()[1]}), flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    answer: str
    growth: int
    status: int


@cache
def whole(kind: str) -> bytes:
    return encoded(noise(4.0), 16_000, *CONTAINERS[kind])


def truncated(kind: str, share: float) -> Callable[[], bytes]:
    return lambda: whole(kind)[: int(share * len(whole(kind)))]


def wave(*chunks: tuple[bytes, int, bytes]) -> bytes:
    """A WAV file of chunks whose sizes are what they are said to be."""
    body = b"".join(name + struct.pack("<I", size) + content for name, size, content in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def ogg_page(content: bytes) -> bytes:
    """The first page of an Ogg stream of whatever kind. Source: RFC 3533, section 6."""
    header = struct.pack("<4sBBqIII", b"OggS", 0, 2, 0, 7, 0, 0) + bytes([1, len(content)])
    remainder = 0
    for octet in header + content:
        remainder ^= octet << 24
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x04C11DB7 if remainder >> 31 else 0)) & 0xFFFFFFFF
    return patched(header, b"OggS", 22, struct.pack("<I", remainder)) + content


def png() -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(bytes(90)))


def spoilt(value: float) -> bytes:
    samples = tone(1.0)
    samples[8000] = value
    return encoded(samples, subtype="FLOAT")


def packets(count: int, *, file_bytes: int, edits: int = 1) -> bytes:
    """An M4A whose tables claim ``count`` packets of a byte each."""
    return with_boxes(
        m4a(tone(1.0)),
        stsz=struct.pack(">III", 0, 1, count),
        stts=struct.pack(">IIII", 0, 1, count, 1024),
        stsc=struct.pack(">IIIII", 0, 1, 1, count, 1),
        elst=struct.pack(">II", 0, edits) + struct.pack(">IIHH", 48_000_000, 0, 1, 0) * edits,
        mdat=bytes(file_bytes),
    )


def nested(depth: int) -> bytes:
    """A box in a box in a box."""
    content = b""
    for _ in range(depth):
        content = box(b"moov", content)
    return box(b"ftyp", b"M4A \0\0\0\0") + content


FMT = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
LONG = "AudioTooLargeError"
CUT = "AudioError: the recording is cut short"
TYPE = "AudioTypeError"
EMPTY = "EmptyAudioError"
# The name of the file, what is in it, and how the answer begins.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    **{f"{kind}-{share}": (truncated(kind, share), "") for kind in CONTAINERS for share in (0.001, 0.02, 0.3, 0.6, 0.95)},
    "nothing.wav": (lambda: b"", EMPTY),
    "zero-frames.wav": (lambda: encoded(np.zeros(0, np.float32)), EMPTY),
    "zero-frames.flac": (lambda: encoded(np.zeros(0, np.float32), container="FLAC"), EMPTY),
    "no-packets.m4a": (lambda: packets(0, file_bytes=0), "Audio"),
    "0-hertz.wav": (lambda: patched(encoded(tone(1.0)), b"fmt ", 12, bytes(4)), "AudioError"),
    "0-channels.wav": (lambda: patched(encoded(tone(1.0)), b"fmt ", 10, bytes(2)), "AudioError"),
    "384-kilohertz.wav": (lambda: encoded(tone(1.0, 384_000), 384_000), "AudioError: the recording has a sample rate of 384000 Hz"),
    "384-kilohertz.flac": (lambda: encoded(tone(1.0, 384_000), 384_000, "FLAC"), "AudioError: the recording has a sample rate of 384000"),
    "32-channels.wav": (lambda: encoded(np.zeros((16_000, 32), np.float32)), "AudioError: the recording has 32 channels"),
    "nan.wav": (lambda: spoilt(np.nan), "NotFiniteAudioError"),
    "infinity.wav": (lambda: spoilt(-np.inf), "NotFiniteAudioError"),
    "ten-hours.flac": (lambda: flac_of_silence(TEN_HOURS, block=65_535), LONG),
    "ten-hours-of-unknown-length.flac": (lambda: flac_of_silence(TEN_HOURS, block=65_535, claimed=0), LONG),
    "ten-hours-that-claim-a-second.flac": (
        lambda: flac_of_silence(TEN_HOURS, block=65_535, claimed=16_000),
        "AudioError: the recording is cut short, or goes on",
    ),
    "a-second-that-claims-a-month.flac": (lambda: flac_of_silence(1.0, claimed=2**36 - 1), LONG),
    "a-second-that-claims-more.flac": (lambda: flac_claiming(flac_of_silence(1.0), 20_000), "AudioError"),
    "metadata-that-claims-the-rest.flac": (
        lambda: patched(encoded(noise(0.5), container="FLAC"), b"fLaC", 42, b"\0\xff\xff"),
        "AudioError: the recording is cut short, or goes on",
    ),
    "a-minute.mp3": (lambda: encoded(np.zeros(60 * 8000, np.float32), 8000, "MP3"), LONG),
    "a-minute.opus": (lambda: encoded(np.zeros(60 * 8000, np.float32), 8000, "OGG", "OPUS"), LONG),
    "a-minute.m4a": (lambda: m4a(np.zeros(60 * 8000, np.float32), 8000), LONG),
    "a-text.mp3": (lambda: "Det här är ingen inspelning.\n".encode() * 100, TYPE),
    "a-picture.wav": (png, TYPE),
    "a-program.flac": (lambda: Path("/proc/self/exe").read_bytes()[:100_000], TYPE),
    "a-video.m4a": (video, "AudioTypeError: the recording is a video"),
    "a-video-without-sound.mp4": (lambda: video(with_sound=False), "AudioTypeError: the recording is a video"),
    "a-film.m4a": (lambda: video("mov"), "AudioTypeError: the recording is a video"),
    "a-video.ogg": (lambda: video("ogg", "libvpx", with_sound=False), TYPE),
    "theora.ogg": (lambda: ogg_page(b"\x80theora\3\2\1" + bytes(33)), TYPE),
    "something.ogg": (lambda: ogg_page(b"nothing that anybody knows"), TYPE),
    "huge-fmt.wav": (lambda: wave((b"fmt ", 0xFFFFFFF0, FMT), (b"data", 4, bytes(4))), "AudioError"),
    "huge-list.wav": (lambda: wave((b"LIST", 0xFFFFFFFF, b""), (b"fmt ", 16, FMT), (b"data", 4, bytes(4))), "AudioError"),
    "huge-data.wav": (lambda: wave((b"fmt ", 16, FMT), (b"data", 0x7FFE0000, bytes(4))), CUT),
    "no-data.wav": (lambda: wave((b"fmt ", 16, FMT)), "AudioError"),
    "many-chunks.wav": (lambda: wave(*[(b"junk", 0, b"")] * 100_000, (b"fmt ", 16, FMT), (b"data", 4, bytes(4))), "AudioError"),
    "riff-in-riff.wav": (lambda: wave((b"RIFF", 4, b"WAVE")) * 1000, "AudioError"),
    "a-tag-and-no-more.mp3": (lambda: b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1 << 20), TYPE),
    "frames-of-zeros.mp3": (lambda: (b"\xff\xfb\x14\xc4" + bytes(44)) * 50_000, ""),
    "boxes-in-boxes.m4a": (lambda: nested(3000), "AudioTypeError: the recording is an MP4 file with 0 tracks"),
    "many-boxes.m4a": (lambda: box(b"ftyp", b"M4A \0\0\0\0") + box(b"free") * 500_000, "AudioError"),
    "a-box-of-all-there-is.m4a": (lambda: box(b"ftyp", b"M4A \0\0\0\0") + b"\0\0\0\1moov" + b"\xff" * 8, CUT),
    "a-billion-packets.m4a": (lambda: packets(1_000_000_000, file_bytes=0), "AudioError"),
    "as-many-packets-as-bytes.m4a": (lambda: packets(1_490_000, file_bytes=2_000_000, edits=2), "Audio"),
    "packets-after-the-end.m4a": (lambda: with_boxes(m4a(tone(1.0)), stco=struct.pack(">III", 0, 1, 2**31)), "AudioError"),
    "many-edits.m4a": (lambda: packets(1_490_000, file_bytes=2_000_000, edits=100), "AudioError"),
    "a-billion-packets-in-a-fragment.m4a": (
        lambda: patched(m4a(tone(1.0), movflags="frag_keyframe+empty_moov"), b"trun", 8, struct.pack(">I", 10**9)),
        "AudioError",
    ),
    "packets-of-a-minute.m4a": (lambda: patched(m4a(tone(1.0), codec="alac"), b"$alac", 9, struct.pack(">I", 1 << 24)), "AudioError"),
}
SPARSE = "sparse.wav"


def measured(*paths: Path, **part: float) -> dict[str, Outcome]:
    """What became of each file; ``part`` is passed on to the decoder."""
    command = [sys.executable, "-c", _MEASURE, json.dumps({"max_seconds": MAX_SECONDS} | part), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        Path(one["path"]).name: Outcome(answer=one.get("answer", ""), growth=one.get("growth", 0), status=one["status"]) for one in found
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("hostile")
    for name, (make, _) in HOSTILE.items():
        (folder / name).write_bytes(make())
    with (folder / SPARSE).open("wb") as file:
        file.write(encoded(tone(1.0)))
        file.truncate(3 << 30)
    return measured(*(folder / name for name in [*HOSTILE, SPARSE]))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_its_word_and_costs_little(outcomes: dict[str, Outcome], name: str) -> None:
    outcome, expected = outcomes[name], HOSTILE[name][1]
    assert outcome.status == 0
    assert outcome.answer.partition(":")[0].endswith("Error")
    assert outcome.answer.startswith(expected)
    assert outcome.growth < MAX_GROWTH_BYTES


def test_a_sparse_file_of_three_gibibytes_is_refused_by_its_size(outcomes: dict[str, Outcome]) -> None:
    assert outcomes[SPARSE].answer.startswith(f"AudioTooLargeError: the recording is 3.0 GiB, over the limit of {MAX_FILE_BYTES >> 30} GiB")
    assert outcomes[SPARSE].growth < MAX_GROWTH_BYTES


def test_a_part_of_a_long_recording_is_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    size = 1_000_000_000
    path.write_bytes(b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + struct.pack("<I", 16) + FMT + b"data" + struct.pack("<I", size))
    with path.open("ab") as file:
        file.truncate(size + 44)
    outcome = measured(path, offset_s=31_000.0, duration_s=10.0)[path.name]
    assert outcome.answer == "160000 samples"
    assert outcome.growth < 16 << 20
