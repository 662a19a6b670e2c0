"""prepare, from real recordings to a dataset folder that others read."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from avskrift import logs
from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import CLIP_SCHEMA, SPLITS, clip_table, open_dataset
from avskrift.corpus.demo import TINY
from avskrift.corpus.writer import CLIPS_IN_SHARD
from avskrift.errors import AvskriftError, DatasetError, LanguageError, SourceError, StorageError, UsageError
from avskrift.steps.prepare.step import Config, Result, run

EVIL = "<script>alert('x')</script>\"&amp;"


def record(path: Path, number: int, seconds: float = 1.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.3 * np.sin((300 + 10 * number) * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE), SAMPLE_RATE)
    return path


def folder_of(folder: Path, clips: int, *, suffixes: tuple[str, ...] = (".wav", ".flac", ".mp3", ".ogg")) -> Path:
    for number in range(clips):
        path = record(folder / f"clip{number:03d}{suffixes[number % len(suffixes)]}", number)
        path.with_suffix(".txt").write_text(f"Det här är mening nummer {number}.", encoding="utf-8")
    return folder


def described(folder: Path, rows: list[dict[str, str]]) -> Path:
    """A folder whose metadata.csv has ``rows``; their recordings are made."""
    for number, row in enumerate(rows):
        record(folder / row["file_name"], number)
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def refused(out: Path) -> dict[str, str]:
    """Code by source, of ``rejected.parquet``."""
    return {row["source"]: row["code"] for row in pq.read_table(out / "rejected.parquet").to_pylist()}


def kept(result: Result) -> int:
    return sum(summary.clips for summary in result.splits.values())


def test_a_folder_of_recordings_becomes_a_dataset(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(Config(source=str(folder_of(tmp_path / "in", 24)), out=out))
    dataset = open_dataset(out)
    clips = [clip for split in SPLITS for clip in dataset.clips(split)]
    assert len(clips) == 24 == kept(result)
    assert {clip.text for clip in clips} == {f"Det här är mening nummer {number}." for number in range(24)}
    for clip in clips:
        samples = clip.samples()
        assert clip.audio[:4] == b"fLaC"
        assert clip.duration_s == len(samples) / SAMPLE_RATE == pytest.approx(1.5, abs=0.08)
        assert float(np.abs(samples).max()) > 0.2
        assert clip.speaker_id == ""
    assert dataset.description.fingerprint == result.fingerprint
    assert dataset.description.splits == result.splits
    assert dataset.description.normaliser == "sv-1"
    assert all(summary.clips for summary in result.splits.values())
    assert result.splits["train"].hours == pytest.approx(sum(clip.duration_s for clip in dataset.clips("train")) / 3600)
    assert {path.name for path in out.iterdir()} == {
        *("dataset.json", "rejected.parquet", "report.html", "README.md"),
        *(f"{split}-00000.parquet" for split in SPLITS),
    }


def test_the_demo_becomes_a_dataset_with_its_splits_and_hashed_speakers(tmp_path: Path) -> None:
    result = run(Config(source="demo:tiny", out=tmp_path / "out", language="Swedish"))
    assert {split: summary.clips for split, summary in result.splits.items()} == dict(TINY.of_splits())
    assert result.language == "sv"
    assert result.rejected == {}
    dataset = open_dataset(tmp_path / "out")
    speakers = {split: {clip.speaker_id for clip in dataset.clips(split)} for split in SPLITS}
    assert all(len(speaker) == 16 and int(speaker, 16) for split in SPLITS for speaker in speakers[split])
    assert not speakers["train"] & speakers["test"] | speakers["validation"] & speakers["test"]
    assert {clip.gender for clip in dataset.clips("train")} == {"female", "male"}
    assert "CC0-1.0" in dataset.description.licence


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", 12)
    (source / "clip003.wav").write_bytes(b"damaged")
    for name in ("one", "two"):
        run(Config(source=str(source), out=tmp_path / name, max_rejected=0.5))
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_the_fingerprint_is_of_the_clips_and_not_of_their_place_or_order(tmp_path: Path) -> None:
    lines = [json.dumps({"path": record(tmp_path / f"{number}.wav", number).name, "text": f"mening {number}"}) for number in range(12)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.jsonl").write_text("\n".join(reversed(lines)))
    moved = tmp_path / "moved"
    moved.mkdir()
    for number in range(12):
        (moved / f"other{number}.wav").write_bytes((tmp_path / f"{number}.wav").read_bytes())
        (moved / f"other{number}.txt").write_text(f"mening {number}")
    results = [
        run(Config(source=str(source), out=tmp_path / f"out{at}"))
        for at, source in enumerate([tmp_path / "a.jsonl", tmp_path / "b.jsonl", moved])
    ]
    assert len({result.fingerprint for result in results}) == 1
    digests = [open_dataset(result.dataset).description.source_sha256 for result in results]
    assert digests[0] == digests[1] != digests[2]
    (moved / "other3.txt").write_text("en annan mening")
    assert run(Config(source=str(moved), out=tmp_path / "out3")).fingerprint != results[0].fingerprint


def test_hugging_face_datasets_reads_a_split_and_the_folder_as_they_are(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [
        {"file_name": f"{number}.wav", "transcription": f"mening {number}", "speaker_id": f"s{number % 12}", "gender": "female"}
        for number in range(24)
    ]
    out = tmp_path / "out"
    result = run(Config(source=str(described(tmp_path / "in", rows)), out=out))
    cache = str(tmp_path / "cache")
    train = datasets.load_dataset("parquet", data_files={"train": str(out / "train-*.parquet")}, split="train", cache_dir=cache)
    assert len(train) == result.splits["train"].clips
    assert train[0]["text"].startswith("mening")
    assert train[0]["audio"]["bytes"][:4] == b"fLaC"
    assert train[0]["gender"] == "female"
    whole = datasets.load_dataset(str(out), cache_dir=cache)
    assert {split: len(whole[split]) for split in whole} == {split: summary.clips for split, summary in result.splits.items()}


def test_speakers_are_in_one_split_and_their_names_in_none(tmp_path: Path) -> None:
    rows = [{"file_name": f"{number}.wav", "text": f"mening {number}", "speaker_id": f"Anna nummer {number % 15}"} for number in range(60)]
    out = tmp_path / "out"
    run(Config(source=str(described(tmp_path / "in", rows)), out=out))
    dataset = open_dataset(out)
    speakers = [{clip.speaker_id for clip in dataset.clips(split)} for split in SPLITS]
    assert sum(map(len, speakers)) == len(set().union(*speakers)) == 15
    for path in out.iterdir():
        assert b"Anna nummer" not in path.read_bytes()


def test_another_salt_gives_other_speaker_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = described(
        tmp_path / "in", [{"file_name": f"{number}.wav", "text": f"mening {number}", "speaker": f"s{number}"} for number in range(12)]
    )
    ids = []
    for salt in ("one", "two"):
        monkeypatch.setenv("AVSKRIFT_SPEAKER_SALT", salt)
        run(Config(source=str(source), out=tmp_path / salt))
        ids.append({clip.speaker_id for split in SPLITS for clip in open_dataset(tmp_path / salt).clips(split)})
    assert not ids[0] & ids[1]


def test_sentences_of_the_test_are_not_trained_on_and_do_not_count_as_faults(tmp_path: Path) -> None:
    rows = [{"file_name": f"{number}.wav", "text": f"mening {number}", "speaker": f"s{number % 15}"} for number in range(45)]
    rows += [{"file_name": f"x{number}.wav", "text": "Hej, hej!", "speaker": f"s{number}"} for number in range(15)]
    out = tmp_path / "out"
    result = run(Config(source=str(described(tmp_path / "in", rows)), out=out, max_rejected=0))
    assert kept(result) + sum(result.rejected.values()) == 60
    assert set(result.rejected) == {"sentence_in_test"}
    assert set(refused(out)) <= {f"x{number}.wav" for number in range(15)}
    dataset = open_dataset(out)
    assert {split for split in SPLITS if any(clip.text == "Hej, hej!" for clip in dataset.clips(split))} == {"test"}


def test_shards_hold_at_most_512_clips_and_keep_the_order(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    count = 700
    for number in range(count):
        samples = np.random.default_rng(number).integers(-9000, 9000, SAMPLE_RATE, dtype=np.int16)
        sf.write(source / f"{number:04d}.wav", samples, SAMPLE_RATE)
        (source / f"{number:04d}.txt").write_text(f"mening {number}")
    out = tmp_path / "out"
    result = run(Config(source=str(source), out=out))
    shards = open_dataset(out).shards("train")
    assert [pq.ParquetFile(shard).metadata.num_rows for shard in shards] == [CLIPS_IN_SHARD, result.splits["train"].clips - CLIPS_IN_SHARD]
    sources = [clip.source for clip in open_dataset(out).clips("train")]
    assert sources == sorted(sources)


# ---- what is refused


def test_a_source_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceError, match="holds no recordings with transcripts; check"):
        run(Config(source=str(tmp_path / "in"), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_missing_halves_fail_the_step_with_the_first_and_the_number(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", 12)
    (source / "clip004.txt").unlink()
    (source / "stray.txt").write_text("ingen läste detta")
    with pytest.raises(SourceError, match=r"'clip004\.wav' has no transcript 'clip004\.txt' \(and 1 more\); .* --on-missing skip"):
        run(Config(source=str(source), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_missing_halves_are_recorded_when_they_are_skipped(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", 12)
    (source / "clip004.txt").unlink()
    (source / "stray.txt").write_text("ingen läste detta")
    result = run(Config(source=str(source), out=tmp_path / "out", on_missing="skip", max_rejected=0.2))
    assert refused(tmp_path / "out") == {"clip004.wav": "missing", "stray.txt": "missing"}
    assert result.rejected == {"missing": 2}
    assert kept(result) == 11


def test_every_refused_clip_is_recorded_with_its_reason(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", 20, suffixes=(".wav",))
    damaged = source / "clip001.wav"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    (source / "clip002.wav").write_text("ingen inspelning")
    (source / "clip003.wav").write_bytes(b"")
    record(source / "clip004.wav", 4, seconds=0.1)
    record(source / "clip005.wav", 5, seconds=31)
    sf.write(source / "clip006.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    sf.write(source / "clip007.wav", np.full(SAMPLE_RATE, np.nan), SAMPLE_RATE, subtype="FLOAT")
    (source / "clip008.txt").write_text(" … ")
    for copy, original in ((9, 10), (12, 13)):
        (source / f"clip{copy:03}.wav").write_bytes((source / f"clip{original:03}.wav").read_bytes())
    (source / "clip010.txt").write_text((source / "clip009.txt").read_text())
    (source / "clip014.txt").write_text("Это не по-шведски.")
    sf.write(source / "clip015.wav", np.sign(np.sin(np.arange(2 * SAMPLE_RATE) / 20)), SAMPLE_RATE)
    (source / "clip016.txt").write_text("alldeles för mycket text " * 4)
    (source / "clip011.txt").unlink()
    out = tmp_path / "out"
    result = run(Config(source=str(source), out=out, on_missing="skip", max_rejected=0.8))
    assert refused(out) == {
        "clip001.wav": "undecodable",
        "clip002.wav": "undecodable",
        "clip003.wav": "empty_audio",
        "clip004.wav": "too_short",
        "clip005.wav": "too_long",
        "clip006.wav": "silent",
        "clip007.wav": "not_finite",
        "clip008.wav": "empty_transcript",
        "clip010.wav": "duplicate_audio",
        "clip012.wav": "conflicting_transcripts",
        "clip013.wav": "conflicting_transcripts",
        "clip014.wav": "foreign_characters",
        "clip015.wav": "clipped",
        "clip016.wav": "too_fast",
        "clip011.wav": "missing",
    }
    assert result.rejected["undecodable"] == 2
    assert kept(result) + sum(result.rejected.values()) == 20
    assert open_dataset(out).description.rejected == 15
    reasons = [row["reason"] for row in pq.read_table(out / "rejected.parquet").to_pylist()]
    assert any("1000 bytes fewer" in reason for reason in reasons)


def test_too_many_refused_clips_fail_the_step_with_a_table_of_reasons(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", 20, suffixes=(".wav",))
    (source / "clip001.wav").write_text("ingen inspelning")
    (source / "clip002.wav").write_text("ingen inspelning heller")
    (source / "clip003.wav").write_bytes(b"")
    with pytest.raises(SourceError) as failure:
        run(Config(source=str(source), out=tmp_path / "out", max_rejected=0.1))
    sentence, *table = str(failure.value).splitlines()
    assert "3 of 20 clips were refused, and --max-rejected allows 10%" in sentence
    assert [line.split()[:2] for line in table] == [["undecodable", "2"], ["empty_audio", "1"]]
    assert "'clip001.wav'" in table[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["avskrift-home", "in"]
    assert kept(run(Config(source=str(source), out=tmp_path / "out", max_rejected=0.15))) == 17


def test_a_source_of_which_nothing_is_left_is_refused_whatever_is_allowed(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in "abcde":
        (source / f"{name}.wav").write_bytes(b"")
        (source / f"{name}.txt").write_text(f"hej {name}")
    with pytest.raises(SourceError, match="5 of 5 clips were refused, so nothing is left"):
        run(Config(source=str(source), out=tmp_path / "out", max_rejected=1.0))


def test_too_few_groups_are_refused_with_the_sources_name(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", 2)
    with pytest.raises(SourceError, match=f"source '{source}': train, validation and test need three or more different sentences"):
        run(Config(source=str(source), out=tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"language": "sv-SE"}, LanguageError),
        ({"language": "en"}, SourceError),
        ({"source": "nowhere"}, SourceError),
        ({"on_missing": "ignore"}, UsageError),
        ({"max_rejected": -0.1}, UsageError),
        ({"max_rejected": float("nan")}, UsageError),
        ({"max_clips": -1}, UsageError),
        ({"max_clips": 2}, UsageError),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused_and_nothing_is_written(
    changes: dict[str, object], error: type[AvskriftError], tmp_path: Path
) -> None:
    with pytest.raises(error):
        run(Config(**{"source": "demo:tiny", "out": tmp_path / "out", **changes}))  # type: ignore[arg-type]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_is_no_dataset_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match=r"holds files and no dataset\.json"):
        run(Config(source="demo:tiny", out=tmp_path))
    with pytest.raises(StorageError, match="is a file"):
        run(Config(source="demo:tiny", out=tmp_path / "thesis.tex"))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_older_dataset_and_an_empty_folder_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    run(Config(source="demo:tiny", out=out))
    before = open_dataset(out).description.fingerprint
    run(Config(source=str(folder_of(tmp_path / "in", 6)), out=out))
    assert open_dataset(out).description.fingerprint != before


def test_what_somebody_else_put_into_a_dataset_folder_is_not_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(Config(source="demo:tiny", out=out))
    source = folder_of(out / "recordings", 12)
    with pytest.raises(UsageError, match=r"would replace the folder in which the source .*recordings lies"):
        run(Config(source=str(source), out=out))
    with pytest.raises(StorageError, match="holds 'recordings', which prepare did not write"):
        run(Config(source="demo:tiny", out=out))
    assert len(list(source.iterdir())) == 24


@pytest.mark.parametrize("source", ["parquet:{}", "parquet:{}/*.parquet", "2*parquet:{}/train-00000.parquet"])
def test_a_dataset_is_not_prepared_from_itself(source: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = run(Config(source="demo:tiny", out=out)).fingerprint
    with pytest.raises(UsageError, match="would replace the folder in which the source"):
        run(Config(source=source.format(out), out=out))
    assert open_dataset(out).description.fingerprint == before


def test_a_link_to_a_folder_is_kept_and_the_folder_behind_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for _ in range(2):
        run(Config(source="demo:tiny", out=tmp_path / "link"))
        assert (tmp_path / "link").is_symlink()
        assert open_dataset(tmp_path / "disk")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run(Config(source="demo:tiny", out="~/dataset"))
    assert open_dataset(tmp_path / "dataset")


@pytest.mark.parametrize("out", ["s3://bucket/dataset", "s3:/bucket/dataset", "hf://me/dataset"])
def test_a_place_that_is_no_folder_of_this_machine_is_refused_at_once(out: str) -> None:
    with pytest.raises(UsageError, match="is no folder on this machine"):
        run(Config(source="demo:tiny", out=out))


@pytest.mark.parametrize("splits", [["foo"] * 12, ["train"] * 11 + [""], ["train"] * 4 + ["test"] * 8])
def test_splits_that_cannot_be_are_refused_before_anything_is_decoded(splits: list[str], tmp_path: Path) -> None:
    rows = [{"file_name": f"{n}.wav", "text": f"mening {n}", "speaker": f"s{n % 2}", "split": split} for n, split in enumerate(splits)]
    with pytest.raises(SourceError, match="source '"):
        run(Config(source=str(described(tmp_path / "in", rows)), out=tmp_path / "out"))
    assert not list(tmp_path.rglob("*.audio"))


# ---- max_clips


@pytest.mark.parametrize("clips", [3, 5, 10])
def test_a_choice_of_clips_is_always_the_same_and_has_some_of_each_split(clips: int, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", 30, suffixes=(".wav",))
    whole = run(Config(source=str(source), out=tmp_path / "whole"))
    results = [run(Config(source=str(source), out=tmp_path / name, max_clips=clips)) for name in ("one", "two")]
    assert results[0].fingerprint == results[1].fingerprint
    assert kept(results[0]) == clips
    for split in SPLITS:
        chosen = {clip.clip_id for clip in open_dataset(tmp_path / "one").clips(split)}
        assert chosen
        assert chosen <= {clip.clip_id for clip in open_dataset(whole.dataset).clips(split)}


def test_a_choice_larger_than_the_source_is_the_source(tmp_path: Path) -> None:
    source = str(folder_of(tmp_path / "in", 12, suffixes=(".wav",)))
    results = [run(Config(source=source, out=tmp_path / f"out{clips}", max_clips=clips)) for clips in (0, 12, 1000)]
    assert len({result.fingerprint for result in results}) == 1


# ---- what people see


class _Page(html.parser.HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name == "href" for name, _ in attrs)
        assert all((value or "").startswith("data:audio/flac;base64,") for name, value in attrs if name == "src")

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"


def test_the_report_escapes_every_string_and_runs_nothing(tmp_path: Path) -> None:
    source = folder_of(tmp_path / EVIL.replace("/", "_"), 12, suffixes=(".wav",))
    for number in range(12):
        (source / f"clip{number:03d}.txt").write_text(f"{EVIL} nummer {number}")
    (source / "<b>bad.wav").write_bytes(b"")
    (source / "<b>bad.txt").write_text("hej")
    result = run(Config(source=str(source), out=tmp_path / "out", max_rejected=0.2))
    result.copy_report(tmp_path / "copy.html")
    page = _Page((tmp_path / "copy.html").read_text(encoding="utf-8"))
    assert not {"script", "iframe", "img", "link", "b"} & set(page.tags)
    assert EVIL in page.text
    assert "<b>bad.wav" in page.text
    assert "empty_audio" in page.text
    assert "Of 13 recordings 12 are in the splits" in page.text
    assert result.fingerprint in page.text


def test_the_card_is_valid_yaml_and_markdown_whatever_the_source_is_called(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    source = folder_of(tmp_path / "a `quoted`: name", 6)
    run(Config(source=str(source), out=tmp_path / "out", language="no"))
    _, head, body = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["language"] == ["no"]
    assert [entry["split"] for entry in card["configs"][0]["data_files"]] == list(SPLITS)
    assert "# Norwegian speech" in body
    assert "quoted : name" in body


def test_metrics_are_clips_and_hours_of_each_split(tmp_path: Path) -> None:
    result = run(Config(source=str(folder_of(tmp_path / "in", 12)), out=tmp_path / "out"))
    metrics = result.metrics()
    assert sum(metrics[f"{split}_clips"] for split in SPLITS) == 12
    assert sum(metrics[f"{split}_hours"] for split in SPLITS) == pytest.approx(12 * 1.5 / 3600, rel=0.1)
    assert metrics["rejected_clips"] == 0


def test_the_logs_hold_no_file_names_and_no_transcripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger("avskrift")
    for name in ("handlers", "level", "propagate"):
        monkeypatch.setattr(root, name, getattr(root, name) if name != "handlers" else [])
    said = io.StringIO()
    logs.configure(level="debug", stream=said)
    run(Config(source=str(folder_of(tmp_path / "in", 12)), out=tmp_path / "out"))
    assert "prepare.written" in said.getvalue()
    assert "clip0" not in said.getvalue()
    assert "mening" not in said.getvalue()


def test_a_dataset_whose_shard_is_gone_is_not_opened(tmp_path: Path) -> None:
    run(Config(source="demo:tiny", out=tmp_path / "out"))
    (tmp_path / "out" / "test-00000.parquet").unlink()
    with pytest.raises(DatasetError, match=r"8 test clips are described but no test-\*\.parquet"):
        open_dataset(tmp_path / "out")


def test_a_shard_that_is_missing_among_others_is_named_before_anything_is_read(tmp_path: Path) -> None:
    run(Config(source="demo:tiny", out=tmp_path / "out"))
    clips = list(open_dataset(tmp_path / "out").clips("test"))
    for number in range(4):
        pq.write_table(clip_table(clips[2 * number : 2 * number + 2]), tmp_path / "out" / f"test-{number:05d}.parquet")
    assert [clip.clip_id for clip in open_dataset(tmp_path / "out").clips("test")] == [clip.clip_id for clip in clips]
    (tmp_path / "out" / "test-00002.parquet").rename(tmp_path / "test-00002.parquet")
    with pytest.raises(DatasetError, match=r"8 test clips are described and 6 are in test-\*\.parquet; a file is missing"):
        open_dataset(tmp_path / "out")
    (tmp_path / "out" / "test-00002.parquet").write_bytes(b"hej")
    with pytest.raises(DatasetError, match=r"test-00002\.parquet: cannot be read as a split of clips"):
        open_dataset(tmp_path / "out")


def test_a_dataset_that_an_older_version_wrote_is_opened(tmp_path: Path) -> None:
    """``dataset.json`` as it was before recordings were compared; what is held back needs no word of it."""
    result = run(Config(source="demo:tiny", out=tmp_path / "out"))
    said = json.loads((tmp_path / "out" / "dataset.json").read_text(encoding="utf-8"))
    assert said["version"] == 2
    assert sorted(said) == [
        *("fingerprint", "language", "licence", "normaliser", "rejected", "source", "source_sha256", "sources"),
        *("speaker_salt_check", "splits", "version"),
    ]
    assert CLIP_SCHEMA.names == [
        *("clip_id", "audio", "duration_s", "text", "speaker_id", "gender", "age", "accent", "source", "weight"),
    ]
    assert open_dataset(tmp_path / "out").description.fingerprint == result.fingerprint
