"""prepare of whole corpora: Common Voice releases, several sources at once, datasets that must be kept out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from common_voice import BROKEN, Plan, Release, write_release

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import SPLITS, open_dataset
from avskrift.errors import BusyError, DatasetError, OverlapError, SourceError, StorageError, UsageError
from avskrift.steps.prepare.step import Config, Result, check, run, working
from avskrift.text.normaliser import normalise

PLAN = Plan(train=120, validation=20, test=20, remainder=24, invalidated=5, other=7, broken=1)


def prepare(release: Release, out: Path, **options: object) -> Result:
    return run(Config(source=f"commonvoice:{release.path}", out=out, **{"on_missing": "skip", **options}))  # type: ignore[arg-type]


def rejected(result: Result) -> dict[str, str]:
    rows = pq.read_table(result.dataset / "rejected.parquet").to_pylist()
    return {row["source"]: row["code"] for row in rows}


@pytest.mark.parametrize("columns", ["7", "13.0", "17.0", "25.0"])
@pytest.mark.parametrize("tables_first", [True, False])
def test_the_counts_of_a_release_add_up_for_the_columns_of_each_generation(columns: str, tables_first: bool, tmp_path: Path) -> None:
    release = write_release(tmp_path / "cv.tar.gz", plan=PLAN, release=columns, tables_first=tables_first)
    result = prepare(release, tmp_path / "out", validated_remainder=True)
    broken = {clip: BROKEN[kind] for kind, clips in release.broken.items() for clip in clips}
    held_back = dict.fromkeys(release.speaker_is_held_out, "speaker") | dict.fromkeys(release.sentence_is_held_out, "sentence")
    found = rejected(result)
    assert {clip: code for clip, code in found.items() if clip in broken} == broken
    assert {clip: code.split("_in_")[0] for clip, code in found.items() if clip not in broken} == held_back
    kept = {split: summary.clips for split, summary in result.splits.items()}
    assert kept["test"] == release.counts["test"]
    assert kept["validation"] == release.counts["validation"]
    assert kept["train"] == release.counts["train"] - len(broken) + release.counts["remainder"] - len(held_back)
    assert sum(kept.values()) + len(found) == sum(release.counts.values())


def test_official_splits_are_kept_and_share_nothing_and_the_remainder_is_left_alone_unless_asked_for(tmp_path: Path) -> None:
    release = write_release(tmp_path / "cv.tar.gz", plan=PLAN)
    result = prepare(release, tmp_path / "out")
    dataset = open_dataset(result.dataset)
    for split in SPLITS:
        assert {clip.source for clip in dataset.clips(split)} <= set(release.clips[split])
    sentences = [{normalise(clip.text, "sv") for clip in dataset.clips(split)} for split in SPLITS]
    assert sum(map(len, sentences)) == len(set().union(*sentences))
    assert dataset.description.licence == "CC0-1.0"
    assert {clip.gender for clip in dataset.clips("train")} <= {"", "male", "female", "other"}


def test_order_and_worker_count_and_packing_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    sources = [
        write_release(tmp_path / "a.tar.gz", plan=PLAN),
        write_release(tmp_path / "b.tar", plan=PLAN, tables_first=False),
        write_release(tmp_path / "folder", plan=PLAN),
    ]
    results = [prepare(release, tmp_path / f"out{number}", workers=number + 1) for number, release in enumerate(sources)]
    assert len({result.fingerprint for result in results}) == 1
    assert len({tuple(sorted(rejected(result).items())) for result in results}) == 1


def test_some_clips_of_a_release_are_chosen_with_its_splits(tmp_path: Path) -> None:
    release = write_release(tmp_path / "cv.tar.gz", plan=PLAN)
    result = prepare(release, tmp_path / "out", max_clips=30, max_rejected=0.5)
    assert sum(summary.clips for summary in result.splits.values()) + sum(result.rejected.values()) == 30
    for split in SPLITS:
        assert {clip.source for clip in open_dataset(result.dataset).clips(split)} <= set(release.clips[split])


def test_another_release_is_kept_out_of_training_but_not_of_the_test(tmp_path: Path) -> None:
    old = prepare(write_release(tmp_path / "old.tar.gz", plan=Plan(train=40, validation=10, test=10)), tmp_path / "old")
    release = write_release(tmp_path / "new.tar.gz", plan=Plan(train=60, validation=24, test=24), release="25.0")
    plain = prepare(release, tmp_path / "plain")
    result = prepare(release, tmp_path / "new", exclude=str(old.dataset), max_rejected=1.0)
    measured = {normalise(clip.text, "sv") for split in ("validation", "test") for clip in open_dataset(old.dataset).clips(split)}
    for split in ("train", "validation"):
        before = {normalise(clip.text, "sv") for clip in open_dataset(plain.dataset).clips(split)}
        after = {normalise(clip.text, "sv") for clip in open_dataset(result.dataset).clips(split)}
        assert not after & measured
        assert after <= before
    assert set(rejected(result).values()) == {"excluded"}
    assert result.splits["test"] == plain.splits["test"]


def test_speakers_that_cannot_be_compared_are_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = run(Config(source="demo:tiny", out=tmp_path / "old"))
    monkeypatch.setenv("AVSKRIFT_SPEAKER_SALT", "another")
    with pytest.raises(UsageError, match="made with another salt"):
        run(Config(source="demo:tiny", out=tmp_path / "new", exclude=str(old.dataset)))


@pytest.mark.parametrize("place", ["nowhere", "nobody/nothing", "."])
def test_a_dataset_to_exclude_that_is_none_is_named(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=r"there is no dataset; name a folder|no dataset\.json, so not a dataset folder"):
        run(Config(source="demo:tiny", out=tmp_path / "out", exclude=place))


# ---- several sources


def manifest(folder: Path, rows: list[tuple[int, str, str, str]]) -> Path:
    """A manifest of recordings of noise by number, each with a sentence, a speaker and a split."""
    folder.mkdir()
    lines = []
    for number, text, speaker, split in rows:
        samples = np.random.default_rng(number).integers(-9000, 9000, 2 * SAMPLE_RATE, dtype=np.int16)
        sf.write(folder / f"{number}.wav", samples, SAMPLE_RATE)
        line = {"audio_filepath": f"{number}.wav", "text": text, "speaker": speaker} | ({"split": split} if split else {})
        lines.append(json.dumps(line))
    (folder / "clips.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "clips.jsonl"


def rows_of(start: int, *, name: str, splits: tuple[str, ...] = ("train", "train", "dev", "test")) -> list[tuple[int, str, str, str]]:
    return [(start + n, f"mening {name} {start + n}", f"{name} {split}", split) for n, split in enumerate(splits * 5)]


def test_sources_are_merged_each_with_its_licence_its_weight_and_its_count(tmp_path: Path) -> None:
    one, two = (manifest(tmp_path / name, rows_of(start, name=name)) for name, start in (("ett", 100), ("två", 200)))
    result = run(Config(source=f"{one} + 2.5*{two}", out=tmp_path / "out"))
    dataset = open_dataset(result.dataset)
    assert [(source.uri, source.weight, source.clips) for source in dataset.description.sources] == [
        (str(one), 1.0, 20),
        (str(two), 2.5, 20),
    ]
    weights = {split: Counter(clip.weight for clip in dataset.clips(split)) for split in SPLITS}
    assert weights == {"train": {1.0: 10, 2.5: 10}, "validation": {1.0: 10}, "test": {1.0: 10}}
    other_order = run(Config(source=f"2.5*{two} + {one}", out=tmp_path / "other"))
    assert other_order.fingerprint == result.fingerprint
    assert run(Config(source=f"{one} + {two}", out=tmp_path / "unweighted")).fingerprint != result.fingerprint


@pytest.mark.parametrize(
    ("leak", "kind"),
    [
        ((900, "mening ett 103", "ny", "train"), "sentence"),
        ((900, "en ny mening", "ett test", "train"), "speaker"),
        ((103, "en annan text", "ny", "train"), "recording"),
    ],
)
def test_a_leak_across_two_sources_fails_the_step_with_the_offenders(leak: tuple[int, str, str, str], kind: str, tmp_path: Path) -> None:
    one = manifest(tmp_path / "ett", rows_of(100, name="ett"))
    two = manifest(tmp_path / "två", [*rows_of(200, name="två"), leak])
    with pytest.raises(OverlapError) as failure:
        run(Config(source=f"{one} + {two}", out=tmp_path / "out"))
    assert f"one {kind} in test ('1" in str(failure.value)
    assert f"and in train ('{leak[0]}.wav')" in str(failure.value)
    assert not (tmp_path / "out").exists()
    result = run(Config(source=f"{one} + {two}", out=tmp_path / "out", on_overlap="hold-back", max_rejected=0.2))
    # Nobody knows which of two transcripts of one recording is right, so neither stays.
    assert sum(result.rejected.values()) == (2 if kind == "recording" else 1)
    assert result.splits["test"].clips == (9 if kind == "recording" else 10)


def test_after_a_refusal_nothing_is_decoded_again(tmp_path: Path) -> None:
    source = manifest(tmp_path / "ett", rows_of(100, name="ett"))
    (tmp_path / "ett" / "100.wav").write_bytes(b"")
    written = []
    for _ in range(2):
        with pytest.raises(SourceError, match="1 of 20 clips were refused"):
            run(Config(source=str(source), out=tmp_path / "out", max_rejected=0.0))
        (work,) = (tmp_path / "avskrift-home" / "prepare").iterdir()
        written += [path.stat().st_mtime_ns for path in work.glob("*.parquet")]
    assert len(written) == 2
    assert len(set(written)) == 1
    run(Config(source=str(source), out=tmp_path / "out", max_rejected=0.1))
    assert not work.exists()


def test_some_clips_of_a_source_without_splits_are_prepared_as_all_of_them_would_be(tmp_path: Path) -> None:
    rows = [(n, f"mening ett {n}", f"s{n % 12}", "") for n in range(60)]
    source = manifest(tmp_path / "ett", rows)
    (tmp_path / "ett" / "7.wav").write_bytes((tmp_path / "ett" / "30.wav").read_bytes())
    for clips in (0, 59, 60):
        result = run(Config(source=str(source), out=tmp_path / f"out{clips}", max_clips=clips))
        assert result.rejected.get("conflicting_transcripts", 0) in ((2,) if clips != 59 else (0, 2))


def test_the_same_work_is_not_done_twice_at_once(tmp_path: Path) -> None:
    config = Config(source="demo:tiny", out=tmp_path / "out")
    with working(config, check(config), share_of=tmp_path / "out"), pytest.raises(BusyError, match="another process prepares the same"):
        run(config)


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StorageError, match=r"cannot write .*file/home/prepare"):
        run(Config(source="demo:tiny", out=tmp_path / "out"))


def _long_recordings(folder: Path, count: int, *, speakers: int = 0, whole: bool) -> Path:
    """A manifest of parts of long recordings, and of a row with the whole of each."""
    rows: list[dict[str, object]] = []
    for number in range(count):
        samples = np.random.default_rng(number).integers(-9000, 9000, 4 * SAMPLE_RATE, dtype=np.int16)
        sf.write(folder / f"{number}.wav", samples, SAMPLE_RATE)
        for part in range(4):
            row: dict[str, object] = {"audio_filepath": f"{number}.wav", "text": f"del {part} av {number}", "offset": part, "duration": 1}
            rows.append(row | ({"speaker": f"{number}:{part % speakers}"} if speakers else {}))
        if whole:
            rows.append({"audio_filepath": f"{number}.wav", "text": f"hela {number}"})
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "m.jsonl"


@pytest.mark.parametrize("speakers", [0, 1, 3])
def test_parts_and_the_whole_of_a_recording_are_never_in_two_splits(speakers: int, tmp_path: Path) -> None:
    result = run(Config(source=str(_long_recordings(tmp_path, 20, speakers=speakers, whole=True)), out=tmp_path / "out", workers=1))
    where: dict[str, set[str]] = {}
    for split in SPLITS:
        for clip in open_dataset(result.dataset).clips(split):
            where.setdefault(clip.source.partition("#")[0], set()).add(split)
    assert len(where) == 20
    assert {name: splits for name, splits in where.items() if len(splits) > 1} == {}
    assert result.rejected == {}


def test_parts_of_recordings_are_drawn_as_before_they_were_compared(tmp_path: Path) -> None:
    """The fingerprint is what commit e981606 made of them."""
    result = run(Config(source=str(_long_recordings(tmp_path, 12, whole=False)), out=tmp_path / "out", workers=1))
    assert result.fingerprint == "a73cfdff88e4cd4f7e1746c69a8dc7cca3598a025510c5f532676569f756d48e"
