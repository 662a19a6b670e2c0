"""How fast prepare is, and what it costs: a Common-Voice-shaped tarball of MP3, beside bare decoding and the usual recipe.

    python benchmarks/prepare.py [--clips 8000] [--small 1000] [--large 20000] [--rounds 3]

Prints three tables: clips a second (ours, of (a) decoding and resampling the same clips with nothing else, and (b)
`datasets.map` with WhisperFeatureExtractor), bytes on disk for a clip, and peak memory for two sizes of corpus.
Ours and the peers take turns in the same run; each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import soundfile as sf
import soxr
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from common_voice import Plan, write_release

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.demo import DEFAULT, speak
from avskrift.corpus.demo import plan as plan_demo
from avskrift.corpus.sources.commonvoice.source import CommonVoiceSource

RECIPE_CLIPS = 300  # the recipe is slow, and its speed does not hang on the number of clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8000, help="clips whose speed is measured")
    parser.add_argument("--small", type=int, default=1000, help="clips of the smaller corpus whose memory is measured")
    parser.add_argument("--large", type=int, default=20000, help="clips of the larger one")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each speed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avskrift-bench-") as name:
        work = Path(name)
        os.environ["AVSKRIFT_HOME"] = str(work / "home")
        console = Console()
        console.print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        tarball = release(work / "speed", options.clips)
        clips = clips_of(tarball)
        console.print(f"{len(clips)} MP3 clips of {sum(map(len, clips)) / len(clips) / 1000:.1f} kB")
        speeds = measure_speeds(work, tarball, clips, options.rounds)
        console.print(speed_table(speeds))
        console.print(disk_table(work, len(clips)))
        console.print(memory_table(work, options.small, options.large))


def release(path: Path, clips: int) -> Path:
    """A tarball with about so many clips, a tenth each in dev and test."""
    plan = Plan(train=clips * 8 // 10, validation=clips // 10, test=clips // 10, remainder=0, invalidated=0, other=0)
    return write_release(path.with_suffix(".tar.gz"), plan=plan, tables_first=False, compression=1, sounds=voices).path


def voices(rate: int) -> list[npt.NDArray[np.float32]]:
    """The starts of sixteen sentences of the demo corpus, so that a clip of four lasts 4 s, as in sv-SE 25 (47.7 h in 42,664 clips).

    Noise or tones would compress as no speech does.
    """
    spoken = (speak(utterance) for utterance in islice(plan_demo(DEFAULT, language="sv"), 16))
    return [soxr.resample(samples[: 12_400 + 500 * number], SAMPLE_RATE, rate) for number, samples in enumerate(spoken)]


def clips_of(tarball: Path) -> list[bytes]:
    """The MP3 bytes of all clips."""
    source = CommonVoiceSource(uri=f"commonvoice:{tarball}", language="sv")
    return [entry.read.data for entry in source.entries()]  # type: ignore[attr-defined]


def measure_speeds(work: Path, tarball: Path, clips: Sequence[bytes], rounds: int) -> dict[str, float]:
    """Clips a second by what was measured, the median of the rounds; all in turn, so that all meet the same machine."""
    cores = os.cpu_count() or 1
    tasks: dict[str, Callable[[], float]] = {
        "bare 1": lambda: len(clips) / timed(lambda: bare(clips)),
        "ours 1": lambda: len(clips) / timed(lambda: prepare(tarball, work / "ours", workers=1)),
        f"bare {cores}": lambda: len(clips) / timed(lambda: bare_in_processes(clips, cores)),
        f"ours {cores}": lambda: len(clips) / timed(lambda: prepare(tarball, work / "ours", workers=cores)),
        "recipe 1": lambda: RECIPE_CLIPS / timed(lambda: recipe(clips[:RECIPE_CLIPS], work / "recipe")),
    }
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            found[name].append(task())
    return {name: statistics.median(values) for name, values in found.items()}


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def bare(clips: Sequence[bytes]) -> None:
    """Decode and resample to 16 kHz, and nothing else: what no preparation can do without."""
    for data in clips:
        samples, rate = sf.read(io.BytesIO(data), dtype="float32")
        soxr.resample(samples, rate, SAMPLE_RATE)


def bare_in_processes(clips: Sequence[bytes], processes: int) -> None:
    """The same, on several cores."""
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(bare, [clips[start::processes] for start in range(processes)]))


def prepare(tarball: Path, out: Path, *, workers: int) -> float:
    """The command as a user gives it, from nothing; its start counts too. The peak memory of its processes together, in MB."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", "from avskrift_pipelines.command.app import main; main()", "prepare"]
    command += ["--source", f"commonvoice:{tarball}", "--out", str(out), "--workers", str(workers), "--on-overlap", "hold-back"]
    peak = 0.0
    with tempfile.TemporaryFile("w+") as said:
        process = psutil.Popen(command, stdout=said, stderr=said)
        while process.poll() is None:
            peak = max(peak, tree_mb(process))
            time.sleep(0.1)
        if process.returncode:
            said.seek(0)
            raise SystemExit(said.read())
    return peak


def tree_mb(process: psutil.Process) -> float:
    """Resident memory of a process and its descendants, pages that they share counted for each."""
    total = 0
    with suppress(psutil.Error):
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):  # it ended meanwhile
                total += member.memory_info().rss
    return total / 2**20


def recipe(clips: Sequence[bytes], out: Path) -> None:
    """What the usual notebook does: 30 s of log-mel features of each clip, written to disk by `datasets.map`."""
    import datasets
    from transformers import WhisperFeatureExtractor

    datasets.disable_progress_bars()
    datasets.disable_caching()
    shutil.rmtree(out, ignore_errors=True)
    extractor = WhisperFeatureExtractor(feature_size=80)

    def features(row: dict[str, Any]) -> dict[str, Any]:
        samples, rate = sf.read(io.BytesIO(row["audio"]), dtype="float32")
        resampled = soxr.resample(samples, rate, SAMPLE_RATE)
        return {"input_features": extractor(resampled, sampling_rate=SAMPLE_RATE).input_features[0]}

    table = datasets.Dataset.from_dict({"audio": list(clips)})
    table.map(features, remove_columns=["audio"]).save_to_disk(str(out))


def speed_table(speeds: dict[str, float]) -> Table:
    cores = os.cpu_count() or 1
    table = Table("prepare", "processes", "clips/s", "of (a), as many", "times (b)", "times 1 process", title="Speed", title_justify="left")
    for count in dict.fromkeys((1, cores)):
        ours = speeds[f"ours {count}"]
        table.add_row(
            "ours",
            str(count),
            f"{ours:.0f}",
            f"{ours / speeds[f'bare {count}']:.0%}",
            f"{ours / speeds['recipe 1']:.1f}",
            f"{ours / speeds['ours 1']:.2f}",
        )
        bare_speed = speeds[f"bare {count}"]
        table.add_row("(a) bare decoding", str(count), f"{bare_speed:.0f}", "100%", "", f"{bare_speed / speeds['bare 1']:.2f}")
    table.add_row("(b) the usual recipe", "1", f"{speeds['recipe 1']:.0f}", f"{speeds['recipe 1'] / speeds['bare 1']:.0%}", "1.0", "")
    return table


def disk_table(work: Path, clips: int) -> Table:
    ours, theirs = folder_bytes(work / "ours") / clips, folder_bytes(work / "recipe") / RECIPE_CLIPS
    table = Table("what is stored", "kB a clip", "ratio", title="Disk", title_justify="left")
    table.add_row("ours: FLAC, transcripts, report", f"{ours / 1000:.1f}", f"1/{theirs / ours:.1f}")
    table.add_row("(b) log-mel features", f"{theirs / 1000:.1f}", "1")
    return table


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def memory_table(work: Path, small: int, large: int) -> Table:
    table = Table("clips", "peak MB, all processes", "ratio", title="Memory, 2 processes", title_justify="left")
    peaks = []
    for clips in (small, large):
        tarball = release(work / f"memory{clips}", clips)
        peaks.append(prepare(tarball, work / "out", workers=2))
        tarball.unlink()
    for clips, peak in zip((small, large), peaks, strict=True):
        table.add_row(f"{clips:,}", f"{peak:.0f}", f"{peak / peaks[0]:.2f}")
    return table


if __name__ == "__main__":
    main()
