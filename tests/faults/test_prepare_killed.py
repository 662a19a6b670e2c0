"""prepare, killed at any moment, goes on where it was: the same dataset, and nothing finished is decoded again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import Audio
from avskrift.corpus.dataset import open_dataset
from avskrift.corpus.entries import Entry
from avskrift.corpus.sources.uris import Weighted
from avskrift.corpus.staging import BATCH_CLIPS, is_staged, read_batch
from avskrift.steps.prepare import step as preparing

CLIPS = 5 * BATCH_CLIPS
SECONDS_A_CLIP = 0.002
STEP = """
import sys
sys.path.insert(0, sys.argv[1])
from test_prepare_killed import prepare
prepare(sys.argv[2], sys.argv[3])
"""


@dataclass(frozen=True)
class CountedRecording:
    """Noise; each time it is read is written down."""

    number: int
    log: Path

    def __call__(self) -> Audio:
        with self.log.open("a") as log:
            log.write(f"{self.number}\n")
        time.sleep(SECONDS_A_CLIP)
        return np.random.default_rng(self.number).uniform(-0.3, 0.3, 2 * SAMPLE_RATE).astype(np.float32)

    def stamp(self) -> str:
        return str(self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedSource:
    log: Path
    uri: str = "counted"
    licence: str = "none"
    remote: bool = False

    def listing(self) -> Iterator[Entry]:
        return self.entries()

    def entries(self) -> Iterator[Entry]:
        for number in range(CLIPS):
            read = CountedRecording(number, self.log)
            yield Entry(location=str(number), text=f"mening nummer {number}", speaker=f"s{number % 50}", read=read)


def prepare(out: str, log: str) -> str:
    """prepare of the counted source; called in a process of its own, and here."""
    preparing.parse_sources = lambda *_, **__: [Weighted(source=CountedSource(log=Path(log)), weight=1.0)]
    return preparing.run(preparing.Config(source="counted", out=out, workers=2)).fingerprint


@pytest.fixture(scope="module")
def fingerprint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "parse_sources", None)
        patch.setenv("AVSKRIFT_HOME", str(folder / "home"))
        return prepare(str(folder / "out"), str(folder / "log"))


@pytest.mark.parametrize("moment", range(10))
def test_it_goes_on_where_it_was(moment: int, fingerprint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "parse_sources", None)  # put back what prepare() replaces
    out, log = tmp_path / "out", tmp_path / "log"
    arguments = [sys.executable, "-c", STEP, str(Path(__file__).parent), str(out), str(log)]
    process = subprocess.Popen(arguments, start_new_session=True, stderr=subprocess.DEVNULL)
    decodes = random.Random(moment).randrange(CLIPS)
    while process.poll() is None and not (log.exists() and len(log.read_bytes().split()) >= decodes):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    work = next((tmp_path / "avskrift-home" / "prepare").iterdir(), None)
    stems = [path.with_suffix("") for path in work.glob("*.parquet")] if work else []
    finished = {clip.location for stem in stems for clip in read_batch(stem)}
    assert all(is_staged(stem) for stem in stems)
    assert not out.exists()
    assert prepare(str(out), str(log)) == fingerprint
    decoded = Counter(log.read_text().split())
    assert len(decoded) == CLIPS
    assert all(decoded[location] == 1 for location in finished)
    assert sum(decoded.values()) <= CLIPS + 2 * BATCH_CLIPS
    assert open_dataset(out).description.fingerprint == fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["avskrift-home", "log", "out"]
    assert not list((tmp_path / "avskrift-home" / "prepare").iterdir())
