"""A folder of hostile files: each is refused with its code, and the rest is prepared."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from avskrift.audio.constants import SAMPLE_RATE

GOOD = 100
MOST_MEMORY_MB = 200
STEP = """
import json, resource, sys
from avskrift.steps.prepare.step import Config, run
def peak():
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
result = run(Config(source=sys.argv[1], out=sys.argv[2], on_missing="skip", max_rejected=0.5, workers=2))
print(json.dumps({"peak_mb": peak(), "clips": {split: s.clips for split, s in result.splits.items()}, "rejected": result.rejected}))
"""


def noise(seed: int, seconds: float = 1.5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, int(seconds * SAMPLE_RATE)).astype(np.float32)


def wav(
    *, rate: int = SAMPLE_RATE, channels: int = 1, frames: int = 8000, form: int = 1, bits: int = 16, body: bytes | None = None
) -> bytes:
    """A WAV file whose header says what it is told to."""
    block = channels * bits // 8
    data = bytes(frames * block) if body is None else body
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, form, channels, rate, min(rate * block, 2**32 - 1), block, bits)
    return b"RIFF" + struct.pack("<I", 4 + len(head) + 8 + len(data)) + b"WAVE" + head + struct.pack("<4sI", b"data", len(data)) + data


def encoded(samples: np.ndarray, container: str, rate: int = SAMPLE_RATE) -> bytes:
    file = io.BytesIO()
    sf.write(file, samples, rate, format=container)
    return file.getvalue()


def ten_hours_of_silence() -> bytes:
    file = io.BytesIO()
    with sf.SoundFile(file, "w", SAMPLE_RATE, 1, format="FLAC", subtype="PCM_16") as stream:
        for _ in range(600):
            stream.write(np.zeros(60 * SAMPLE_RATE, np.int16))
    return file.getvalue()


def claiming_a_second(flac: bytes) -> bytes:
    """The same FLAC file whose header says that it lasts one second."""
    field = int.from_bytes(flac[18:26], "big") >> 36 << 36 | SAMPLE_RATE
    return flac[:18] + field.to_bytes(8, "big") + flac[26:]


def video() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25), options={})
        stream.width, stream.height = 64, 64
        for _ in range(25):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated.wav": (lambda: encoded(noise(1), "WAV")[:-5000], "undecodable"),
    "truncated.flac": (lambda: encoded(noise(2), "FLAC")[:-3000], "undecodable"),
    "truncated.ogg": (lambda: encoded(noise(3), "OGG")[:-2000], "undecodable"),
    "zero-frames.wav": (lambda: wav(frames=0), "empty_audio"),
    "zero-hertz.wav": (lambda: wav(rate=0), "undecodable"),
    "384-khz.wav": (lambda: wav(rate=384_000), "undecodable"),
    "32-channels.wav": (lambda: wav(channels=32), "undecodable"),
    "nan.wav": (lambda: wav(form=3, bits=32, body=np.full(8000, np.nan, "<f4").tobytes()), "not_finite"),
    "ten-hours.flac": (ten_hours_of_silence, "too_long"),
    "lying-header.flac": (lambda: claiming_a_second(ten_hours_of_silence()), "too_long|undecodable"),
    "text.mp3": (lambda: b"This is a text file and not a recording.\n" * 100, "undecodable"),
    "video.mp4": (video, "undecodable"),
    "empty.wav": (lambda: b"", "empty_audio"),
    "absurd-chunk.wav": (lambda: b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\x7f" + bytes(100), "undecodable"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hundred recordings with transcripts, and the hostile ones among them."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(GOOD):
        (folder / f"{number:03}.wav").write_bytes(encoded(noise(number + 10), "WAV"))
        (folder / f"{number:03}.txt").write_text(f"mening nummer {number}")
    for name, (make, _) in HOSTILE.items():
        (folder / name).write_bytes(make())
        (folder / name).with_suffix(".txt").write_text(f"fientlig {name}")
    outside = tmp_path / "secret.wav"
    outside.write_bytes(encoded(noise(5), "WAV"))
    (folder / "link.wav").symlink_to(outside)
    (folder / "link.txt").write_text("en länk ut")
    return folder


def prepared(source: Path, out: Path) -> dict[str, dict[str, int]]:
    ended = subprocess.run([sys.executable, "-c", STEP, str(source), str(out)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_each_is_refused_with_its_code_and_the_rest_is_prepared_in_little_memory(folder: Path, tmp_path: Path) -> None:
    harmless = tmp_path / "harmless"
    harmless.mkdir()
    for path in [*folder.glob("0*.wav"), *folder.glob("0*.txt")]:
        (harmless / path.name).write_bytes(path.read_bytes())
    before = prepared(harmless, tmp_path / "before")
    after = prepared(folder, tmp_path / "after")
    rejected = {row["source"]: row["code"] for row in pq.read_table(tmp_path / "after" / "rejected.parquet").to_pylist()}
    for name, (_, code) in HOSTILE.items():
        assert rejected.pop(name) in code.split("|"), name
    assert rejected == {"link.wav": "outside"}
    assert sum(after["clips"].values()) == GOOD
    assert after["peak_mb"] < before["peak_mb"] + MOST_MEMORY_MB  # type: ignore[operator]


def test_names_in_metadata_that_lead_out_of_the_folder_are_refused_and_the_rest_is_prepared(folder: Path, tmp_path: Path) -> None:
    rows = [(f"{number:03}.wav", f"mening nummer {number}") for number in range(GOOD)]
    rows += [("../secret.wav", "en smitväg"), ("/etc/passwd", "en till")]
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "text"), *rows])
    after = prepared(folder, tmp_path / "after")
    assert after["rejected"]["outside"] >= 2  # type: ignore[call-overload]
    assert sum(after["clips"].values()) == GOOD


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_does_not_hold_the_step_up(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.wav").write_bytes(encoded(noise(number), "WAV"))
        (folder / f"{number}.txt").write_text(f"mening nummer {number}")
    os.mkfifo(folder / "pipe.wav")
    (folder / "pipe.txt").write_text("en pipa")
    assert prepared(folder, tmp_path / "out")["rejected"] == {"undecodable": 1}
