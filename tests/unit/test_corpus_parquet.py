"""Parquet files as a source: what counts as a clip, in which split, and the sentence for what cannot be read."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import Clip, clip_table
from avskrift.corpus.entries import MAX_CLIP_BYTES, Entry
from avskrift.corpus.sources.clip_tables import clip_columns
from avskrift.corpus.sources.parquet import ParquetSource
from avskrift.errors import SourceError

_AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def recording(seconds: float = 0.5) -> bytes:
    with io.BytesIO() as file:
        sf.write(file, 0.3 * np.sin(np.arange(int(seconds * SAMPLE_RATE)) / 9), SAMPLE_RATE, format="FLAC")
        return file.getvalue()


def table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, **options)
    return path


def row(text: str = "hej", **more: Any) -> dict[str, Any]:
    return {"audio": {"bytes": recording(), "path": "a.flac"}, "text": text, **more}


def entries(place: object) -> list[Entry]:
    return list(ParquetSource(uri=f"parquet:{place}").entries())


def listing(place: object) -> list[Entry]:
    return list(ParquetSource(uri=f"parquet:{place}").listing())


def faults(place: object) -> dict[str, tuple[str, str] | None]:
    return {entry.location: (entry.fault.code, entry.fault.reason) if entry.fault else None for entry in entries(place)}


def refusal(place: object) -> str:
    said = []
    for walk in (entries, listing):
        with pytest.raises(SourceError) as refused:
            walk(place)
        said.append(str(refused.value))
    assert said[0] == said[1]
    return said[0]


# ---- what is read


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("audio", _AUDIO),
        ("audio", pa.struct([("path", pa.string()), ("bytes", pa.large_binary())])),
        ("audio", pa.binary()),
        ("file", pa.large_binary()),
    ],
)
def test_recordings_are_read_from_bytes_and_from_hugging_faces_struct(column: str, kind: pa.DataType, tmp_path: Path) -> None:
    cell = {"bytes": recording(), "path": None} if pa.types.is_struct(kind) else recording()
    path = table(
        tmp_path / "clips.parquet", [{column: cell, "sentence": " för\nalla "}], pa.schema([(column, kind), ("sentence", pa.string())])
    )
    (found,) = entries(path)
    assert (found.location, found.text, found.split, found.fault) == ("clips.parquet#0", "för alla", "", None)
    assert len(pickle.loads(pickle.dumps(found)).read()) == SAMPLE_RATE // 2


def test_all_that_is_said_of_a_clip_is_read_whatever_the_type_of_the_column(tmp_path: Path) -> None:
    said: dict[str, Any] = {
        "client_id": 17,
        "gender": "female",
        "age": 34.0,
        "accents": "skånska",
        "split": "dev",
        "up_votes": 2.0,
        "down_votes": "1",
        "extra": [1],
    }
    (found,) = entries(table(tmp_path / "train.parquet", [row(**said)]))
    assert (found.speaker, found.gender, found.age, found.accent) == ("17", "female", "34", "skånska")
    assert (found.split, found.up_votes, found.down_votes) == ("dev", 2, 1)


@pytest.mark.parametrize("first", [1, 999_999, 10_000_001, 2**53 - 6])
def test_numbers_of_speakers_are_told_apart_though_the_column_has_a_gap(first: int, tmp_path: Path) -> None:
    """As pandas stores whole numbers beside a gap: as floats."""
    numbers = [*(float(first + number) for number in range(5)), None]
    found = entries(table(tmp_path / "a.parquet", [row(speaker_id=number) for number in numbers]))
    assert [entry.speaker for entry in found] == [*(str(first + number) for number in range(5)), ""]


def test_a_number_that_has_lost_digits_is_not_taken_for_a_speaker(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", [row(speaker_id=1.0), row(speaker_id=2.0**53)])
    assert refusal(tmp_path / "a.parquet") == (
        "a.parquet#1: 'speaker_id' is 9.0072e+15, a number that has lost its last digits; store the column as text"
    )


def test_floats_that_are_no_whole_numbers_are_kept_to_the_last_digit(tmp_path: Path) -> None:
    found = entries(table(tmp_path / "a.parquet", [row(speaker_id=number) for number in (1234567.25, float("inf"), float("nan"))]))
    assert [entry.speaker for entry in found] == ["1234567.25", "inf", ""]


def test_what_a_row_leaves_out_is_unknown(tmp_path: Path) -> None:
    said: dict[str, Any] = {"speaker": None, "age": float("nan"), "up_votes": None, "split": None}
    (_, found) = entries(table(tmp_path / "train.parquet", [row(speaker="a", age=1.5, up_votes=1, split="test"), row(**said)]))
    assert (found.speaker, found.age, found.up_votes, found.split) == ("", "", 0, "")


def test_labels_are_read_by_the_names_that_hugging_face_writes_into_the_file(tmp_path: Path) -> None:
    features = {"gender": {"names": ["male", "female"], "_type": "ClassLabel"}}
    fields = [("audio", _AUDIO), ("text", pa.string()), ("gender", pa.int64())]
    schema = pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
    table(tmp_path / "a.parquet", [row(gender=number) for number in (1, 0, -1, 7, None)], schema)
    assert [entry.gender for entry in entries(tmp_path)] == ["female", "male", "", "", ""]


def test_text_that_is_stored_once_for_many_rows_is_read(tmp_path: Path) -> None:
    repeated = pa.array(["hej", "då", "hej"]).dictionary_encode()
    pq.write_table(pa.table({"audio": [recording()] * 3, "text": repeated, "speaker": repeated}), tmp_path / "a.parquet")
    assert [(entry.text, entry.speaker) for entry in entries(tmp_path)] == [("hej", "hej"), ("då", "då"), ("hej", "hej")]


def test_of_columns_for_recordings_the_one_that_holds_them_is_read(tmp_path: Path) -> None:
    (found,) = entries(table(tmp_path / "a.parquet", [row(path="common_voice_sv-SE_1.mp3")]))
    assert len(found.read()) == SAMPLE_RATE // 2


def test_file_names_are_relative_to_the_parquet_file_and_stay_in_its_folder(tmp_path: Path) -> None:
    clips = tmp_path / "inside" / "clips"
    clips.mkdir(parents=True)
    (clips / "a.flac").write_bytes(recording())
    (tmp_path / "secret.flac").write_bytes(recording())
    (clips / "link.flac").symlink_to(tmp_path / "secret.flac")
    os.mkfifo(clips / "pipe.flac")
    with (clips / "large.flac").open("wb") as file:
        file.truncate(MAX_CLIP_BYTES + 1)
    names = [
        "clips/a.flac",
        "../secret.flac",
        str(tmp_path / "secret.flac"),
        "clips/link.flac",
        "clips/gone.flac",
        "clips/pipe.flac",
        "clips/large.flac",
    ]
    table(tmp_path / "inside" / "list.parquet", [{"file_name": name, "text": "hej"} for name in [*names, None]])
    found = faults(tmp_path / "inside")
    assert [fault and fault[0] for fault in found.values()] == [None, *["outside"] * 3, "missing", "undecodable", "too_long", "missing"]
    assert found["list.parquet#4"] == ("missing", "'clips/gone.flac', which 'list.parquet#4' names, is not there")
    assert listing(tmp_path / "inside") == entries(tmp_path / "inside"), "names are metadata, and are checked when listed"
    assert len(entries(tmp_path / "inside")[0].read()) == SAMPLE_RATE // 2


def test_a_file_name_is_found_however_its_letters_are_composed(tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize("NFD", "smörgås.flac")).write_bytes(recording())
    (found,) = entries(table(tmp_path / "list.parquet", [{"file_name": "smörgås.flac", "text": "hej"}]))
    assert len(found.read()) == SAMPLE_RATE // 2


def test_a_row_without_recording_or_transcript_is_a_fault_and_the_others_are_read(tmp_path: Path) -> None:
    whole, large = row(), row()
    large["audio"]["bytes"] = bytes(MAX_CLIP_BYTES + 1)
    rows = [{**whole, "text": None}, {**whole, "audio": None}, {"audio": {"bytes": None, "path": None}, "text": "hej"}, whole, large]
    table(tmp_path / "a.parquet", rows, pa.schema([("audio", _AUDIO), ("text", pa.string())]))
    assert faults(tmp_path) == {
        "a.parquet#0": ("missing", "'a.parquet#0' has no transcript"),
        "a.parquet#1": ("missing", "'a.parquet#1' has no recording"),
        "a.parquet#2": ("missing", "'a.parquet#2' has no recording"),
        "a.parquet#3": None,
        "a.parquet#4": ("too_long", "67,108,865 bytes are over the limit of 67,108,864 for one clip"),
    }


# ---- which files


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("fleurs-validation.parquet", "validation"),
        ("dev_0.parquet", "validation"),
        ("sv/TEST/0000.parquet", "test"),
        ("train/extra-test.parquet", "test"),
        ("everything.parquet", ""),
        ("trained.parquet", ""),
    ],
)
def test_where_no_column_says_the_split_the_names_of_file_and_folders_do(name: str, split: str, tmp_path: Path) -> None:
    table(tmp_path / name, [row()])
    (found,) = entries(tmp_path)
    assert (found.location, found.split) == (f"{name}#0", split)


def test_a_folder_is_read_with_those_in_it_sorted_and_without_what_is_no_file_of_clips(tmp_path: Path) -> None:
    for name in ("b.parquet", "a/c.parquet", "a.parquet", ".cache/d.parquet"):
        table(tmp_path / name, [row(name)])
    table(tmp_path / "figures.parquet", [{"text": "no recording", "hours": 3}])
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "notes.txt").write_text("hej")
    os.mkfifo(tmp_path / "pipe.parquet")
    assert [entry.location for entry in entries(tmp_path)] == ["a/c.parquet#0", "a.parquet#0", "b.parquet#0"]
    assert listing(tmp_path) == entries(tmp_path)


def test_a_pattern_names_files_below_the_folder_that_it_begins_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sv/train-0.parquet", "sv/test-0.parquet", "da/train-0.parquet", "sv/deep/train-1.parquet", "[1].parquet"):
        table(tmp_path / name, [row(name)])
    monkeypatch.chdir(tmp_path)
    assert [entry.location for entry in entries("sv/*.parquet")] == ["test-0.parquet#0", "train-0.parquet#0"]
    assert [entry.location for entry in entries(tmp_path / "*" / "train-*")] == ["da/train-0.parquet#0", "sv/train-0.parquet#0"]
    assert len(entries("sv/**/*.parquet")) == 3
    assert [entry.text for entry in entries("[1].parquet")] == ["[1].parquet"], "a file of that name goes before the pattern"


def test_the_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "in" / "a.parquet", [row()])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [entry.location for entry in entries("~/in")] == ["a.parquet#0"]


def test_a_dataset_folder_gives_its_splits_back_without_what_it_refused(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        clip = Clip(
            clip_id=f"{split} 1",
            audio=recording(),
            duration_s=0.5,
            text=split,
            speaker_id="0a1b",
            gender="female",
            age="30",
            accent="skånska",
        )
        pq.write_table(clip_table([clip]), tmp_path / f"{split}-00000-of-00001.parquet")
    table(tmp_path / "rejected.parquet", [row("refused")])
    assert len(entries(tmp_path)) == 4
    (tmp_path / "dataset.json").write_text(json.dumps({"splits": {"train": {}, "validation": {}, "test": {}}, "licence": "CC0-1.0"}))
    found = entries(tmp_path)
    assert [(entry.split, entry.text) for entry in found] == [(split, split) for split in ("train", "validation", "test")]
    assert {(entry.speaker, entry.gender, entry.age, entry.accent) for entry in found} == {("0a1b", "female", "30", "skånska")}
    assert listing(tmp_path) == found
    assert ParquetSource(uri=f"parquet:{tmp_path}").licence == "CC0-1.0"


@pytest.mark.parametrize("content", ["{", "[]", '{"splits": 3}', '{"name": "another tool\'s"}'])
def test_a_description_of_another_kind_says_nothing(content: str, tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", [row()])
    (tmp_path / "dataset.json").write_text(content)
    assert len(entries(tmp_path)) == 1
    assert ParquetSource(uri=f"parquet:{tmp_path}").licence == "not stated by the source"


# ---- what cannot be


def test_a_place_that_is_not_there_or_holds_no_clips_is_named(tmp_path: Path) -> None:
    assert f"there is no file or folder {tmp_path / 'gone'}; check the path" in refusal(tmp_path / "gone")
    assert "names no file; give parquet:FILE" in refusal(" ")
    assert "no file of clips (there is no .parquet file)" in refusal(tmp_path)
    assert "no file of clips (there is no .parquet file)" in refusal(tmp_path / "*.parquet")
    assert "is not a pattern of file names" in refusal(tmp_path / "**a" / "x")
    path = table(tmp_path / "a.parquet", [{"hours": 3, "text": "hej"}])
    for place in (tmp_path, path):
        assert f"no file of clips ({path} has hours, text); they have a column audio_filepath, " in refusal(place)


def test_what_is_not_parquet_or_is_cut_short_is_named_with_its_file(tmp_path: Path) -> None:
    whole = table(tmp_path / "a.parquet", [row()]).read_bytes()
    for content in (b"", b"hello", whole[:-20], whole[20:], b"PAR1" + whole, whole[:-9] + b"\xff" + whole[-8:]):
        (tmp_path / "a.parquet").write_bytes(content)
        assert f"{tmp_path / 'a.parquet'}: cannot be read as parquet (" in refusal(tmp_path)


def test_a_damaged_page_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", [row(), row()], row_group_size=1, use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = path.read_bytes()
    path.write_bytes(data[:start] + b"\xff" * 16 + data[start + 16 :])
    assert len(listing(path)) == 2
    walk = ParquetSource(uri=f"parquet:{path}").entries()
    assert len(next(walk).read()) == SAMPLE_RATE // 2
    with pytest.raises(SourceError, match=r"a\.parquet: cannot be read as parquet"):
        next(walk)


def test_text_that_is_not_utf8_is_a_fault_of_its_file(tmp_path: Path) -> None:
    raw = pa.array([b"f\xf6r"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"audio": [recording()], "text": raw}), tmp_path / "a.parquet")
    assert "a.parquet: cannot be read as parquet ('utf-8' codec can't decode byte 0xf6" in refusal(tmp_path)


def test_votes_that_are_no_counts_are_named_by_row(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", [row(up_votes=1), row(up_votes=-1)])
    assert "a.parquet#1: 'up_votes' is '-1'; give a count, or leave it empty" in refusal(tmp_path)


def test_without_a_store_an_s3_folder_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert "source 'parquet:s3://bucket/clips': boto3 is missing" in refusal("s3://bucket/clips")


def test_an_s3_folder_is_read_from_where_the_door_fetched_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "train-0.parquet", [row()])
    monkeypatch.setattr("avskrift.storage.door.fetch", {"s3://bucket/clips": tmp_path}.__getitem__)
    assert [(entry.location, entry.split) for entry in entries("s3://bucket/clips")] == [("train-0.parquet#0", "train")]


# ---- memory and invariants

_PEAK = """
import sys
from avskrift.corpus.sources.parquet import ParquetSource

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

before = peak()
print(sum(1 for entry in ParquetSource(uri=sys.argv[1]).entries() if not entry.fault), peak() - before)
"""


def test_memory_does_not_grow_with_a_row_group(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).bytes(100_000)
    rows = [{"audio": noise[number:], "text": "hej"} for number in range(1200)]
    path = table(tmp_path / "a.parquet", rows, use_dictionary=False, data_page_size=1 << 20, write_batch_size=8)
    assert pq.ParquetFile(path).num_row_groups == 1
    done = subprocess.run([sys.executable, "-c", _PEAK, f"parquet:{path}"], check=True, capture_output=True, text=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 1200
    assert kilobytes < 60_000, "half of what the file holds"


_NAMES = st.sampled_from(["audio", "path", "file_name", "text", "sentence", "raw_transcription", "gender", "split", "up_votes", "x"])
_TYPES = st.sampled_from(
    [pa.string(), pa.binary(), pa.int64(), pa.float64(), pa.bool_(), pa.list_(pa.string()), _AUDIO, pa.null(), pa.date32()]
)


@settings(max_examples=80, deadline=None)
@given(fields=st.lists(st.tuples(_NAMES, _TYPES), max_size=8))
def test_of_any_table_the_columns_are_its_own_each_of_one_use_and_of_a_type_that_can_be_read(fields: list[tuple[str, pa.DataType]]) -> None:
    schema = pa.schema(fields)
    columns = clip_columns(schema)
    if columns is None:
        return
    used = [columns.audio, *columns.metadata]
    assert len(set(used)) == len(used)
    assert all(schema.names.count(name) == 1 for name in used)
    assert schema.field(columns.text).type == pa.string()
    assert schema.field(columns.audio).type in (pa.string(), pa.binary(), _AUDIO)
