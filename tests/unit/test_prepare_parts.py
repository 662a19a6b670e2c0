"""Reading in parts, and merging them, gives what reading in one go gives, byte for byte."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus import parts
from avskrift.corpus.dataset import SPLITS, open_dataset
from avskrift.corpus.staging import BATCH_CLIPS
from avskrift.errors import DatasetError, DiskFullError, SourceError, UsageError
from avskrift.steps.list_parts import step as list_parts
from avskrift.steps.prepare.step import Config, run
from avskrift.steps.read_part import step as read_part

CLIPS = 3 * BATCH_CLIPS + 10


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of noise, a few of them broken or twice there, in a manifest."""
    folder = tmp_path_factory.mktemp("source")
    lines = []
    for number in range(CLIPS):
        samples = np.random.default_rng(number % (CLIPS - 5)).integers(-9000, 9000, SAMPLE_RATE, dtype=np.int16)
        sf.write(folder / f"{number}.wav", samples, SAMPLE_RATE)
        speaker = f"s{number % 40}"
        lines.append({"audio_filepath": f"{number}.wav", "text": f"mening {number % (CLIPS - 5)}", "speaker": speaker})
    (folder / "7.wav").write_bytes(b"not audio")
    (folder / "clips.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "clips.jsonl"


def read(source: Path, out: Path, part: int, of: int) -> Path:
    return read_part.run(read_part.Config(prepare=Config(source=str(source), out=out), part=part, of=of)).folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("of", [1, 3])
def test_any_number_of_parts_in_any_order_gives_the_same_bytes_as_one_run(of: int, source: Path, tmp_path: Path) -> None:
    whole = run(Config(source=str(source), out=tmp_path / "whole", workers=1))
    folders = [read(source, tmp_path / f"part{part}", part, of) for part in range(of)]
    merged = run(Config(source=str(source), out=tmp_path / "merged", parts=folders[::-1]))
    assert bytes_of(tmp_path / "merged") == bytes_of(tmp_path / "whole")
    assert merged.fingerprint == whole.fingerprint
    assert merged.rejected == {"undecodable": 1, "duplicate_audio": 5}


def test_parts_that_are_missing_doubled_or_of_other_work_are_refused(source: Path, tmp_path: Path) -> None:
    one, two = (read(source, tmp_path / name, part, 2) for part, name in enumerate(("one", "two")))
    other = read(source, tmp_path / "other", 0, 1)
    for folders, sentence in (
        ([one], r"parts \[0\] are given, and 0 to 1 are due"),
        ([one, one], r"parts \[0, 0\] are given"),
        ([one, other], "is a part of other work"),
        ([tmp_path / "gone"], "cannot be read as a part"),
    ):
        with pytest.raises(DatasetError, match=sentence):
            run(Config(source=str(source), out=tmp_path / "out", parts=folders))
    with pytest.raises(DatasetError, match="another language"):
        run(Config(source=str(source), out=tmp_path / "out", parts=[one, two], language="no"))
    audio = next(two.glob("*.audio"))
    whole = audio.read_bytes()
    for damaged in (b"", whole[:-10], whole[:5000] + bytes(4096) + whole[9096:]):
        audio.unlink()  # a name of its own: the bytes may be shared with another folder
        audio.write_bytes(damaged)
        with pytest.raises(DatasetError, match="is cut short or damaged"):
            run(Config(source=str(source), out=tmp_path / "out", parts=[one, two]))
    audio.unlink()
    with pytest.raises(DatasetError, match="this batch is missing"):
        run(Config(source=str(source), out=tmp_path / "out", parts=[one, two]))
    assert not (tmp_path / "out").exists()


def test_a_part_of_another_version_is_to_be_read_again(source: Path, tmp_path: Path) -> None:
    part = read(source, tmp_path / "part", 0, 1)
    said = json.loads((part / "part.json").read_text())
    (part / "part.json").write_text(json.dumps(said | {"version": 1}))
    with pytest.raises(DatasetError, match=r"cannot be read as a part \(version 1, where 2 is due\); read it again"):
        run(Config(source=str(source), out=tmp_path / "out", parts=[part]))


def test_recordings_are_kept_together_over_parts(tmp_path: Path) -> None:
    rows = []
    for number in range(40):
        samples = np.random.default_rng(number).integers(-9000, 9000, 4 * SAMPLE_RATE, dtype=np.int16)
        sf.write(tmp_path / f"{number}.wav", samples, SAMPLE_RATE)
    for part in range(4):
        for number in range(40):
            row = {"audio_filepath": f"{number}.wav", "text": f"del {part} av {number}", "offset": part, "duration": 1}
            rows.append(row | {"speaker": f"{number}:{part}"})
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folders = [read(tmp_path / "m.jsonl", tmp_path / f"part{part}", part, 2) for part in range(2)]
    merged = run(Config(source=str(tmp_path / "m.jsonl"), out=tmp_path / "merged", parts=folders))
    where = {(clip.source.partition("#")[0], split) for split in SPLITS for clip in open_dataset(merged.dataset).clips(split)}
    assert len(where) == 40
    assert merged.rejected == {}


def test_parts_are_numbered_after_a_look_at_the_source(source: Path, tmp_path: Path) -> None:
    assert list_parts.run(list_parts.Config(source=str(source), parts=3)).parts == [0, 1, 2]
    with pytest.raises(UsageError, match="give 1 to 256"):
        list_parts.run(list_parts.Config(source=str(source), parts=0))
    with pytest.raises(SourceError, match="no folder or file"):
        list_parts.run(list_parts.Config(source=str(tmp_path / "gone")))


@pytest.mark.parametrize(("part", "of"), [(1, 1), (-1, 2), (0, 0)])
def test_a_part_that_cannot_be_is_refused(part: int, of: int, source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="counted from 0"):
        read(source, tmp_path / "out", part, of)


def test_parts_of_a_source_that_changed_between_them_are_not_merged(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(20):
        sf.write(folder / f"{number}.wav", np.random.default_rng(number).integers(-9000, 9000, SAMPLE_RATE, dtype=np.int16), SAMPLE_RATE)
        (folder / f"{number}.txt").write_text(f"mening {number}")
    one = read(folder, tmp_path / "one", 0, 2)
    (folder / "3.txt").write_text("en annan mening")
    two = read(folder, tmp_path / "two", 1, 2)
    with pytest.raises(DatasetError, match="the source changed between them"):
        run(Config(source=str(folder), out=tmp_path / "out", parts=[one, two]))


def test_a_part_that_could_not_be_written_is_written_the_next_time_and_nothing_is_decoded_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(parts, "_link", no_space)
        with pytest.raises(DiskFullError):
            read(source, tmp_path / "part", 0, 1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "avskrift-home").rglob("*.parquet")}
    assert len(before) == 4
    part = read(source, tmp_path / "part", 0, 1)
    assert sorted(path.stat().st_mtime_ns for path in part.glob("*.parquet")) == sorted(before.values())
