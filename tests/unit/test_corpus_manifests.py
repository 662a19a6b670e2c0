"""Manifests: rows of CSV, TSV and JSON Lines, and the sentence for each way in which they can be broken."""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.entries import MAX_CLIP_BYTES, Entry
from avskrift.corpus.sources.manifests import ManifestSource
from avskrift.corpus.sources.tables import read_rows
from avskrift.errors import SourceError


def record(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.linspace(-0.5, 0.5, int(seconds * SAMPLE_RATE)), SAMPLE_RATE)
    return path


def entries(manifest: Path) -> dict[str, Entry]:
    source = ManifestSource(uri=f"manifest:{manifest}", manifest=manifest)
    found = list(source.entries())
    assert list(source.listing()) == found
    return {entry.location: entry for entry in found}


def refusal(manifest: Path) -> str:
    with pytest.raises(SourceError) as refused:
        entries(manifest)
    return str(refused.value)


def lines(path: Path, *rows: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ---- what is read


def test_a_nemo_manifest_is_read_relative_to_itself_and_absolute(tmp_path: Path) -> None:
    record(tmp_path / "audio" / "a.wav")
    other = record(tmp_path / "elsewhere" / "b.wav")
    (tmp_path / "lists").mkdir()
    manifest = lines(
        tmp_path / "lists" / "train.json",
        {"audio_filepath": "../audio/a.wav", "text": "hej", "duration": 0.5, "speaker": 7, "offset": None},
        {"audio_filepath": str(other), "text": "då", "duration": 0.5, "tags": ["x"], "pnc": True, "score": math.nan},
    )
    manifest.write_text(manifest.read_text() + "\n\n")
    found = entries(manifest)
    assert found["../audio/a.wav"].speaker == "7"
    assert found[str(other)].text == "då"
    assert all(len(entry.read()) == SAMPLE_RATE // 2 for entry in found.values())


@pytest.mark.parametrize(
    ("audio", "text"), [("path", "sentence"), ("file", "text"), ("audio", "transcript"), ("path", "raw_transcription")]
)
def test_other_names_for_the_columns_are_understood(audio: str, text: str, tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    lines(tmp_path / "m.jsonl", {audio: "./a.wav", text: "hej"})
    (tmp_path / "m.tsv").write_text(f"{audio}\t{text}\tclient_id\na.wav\thej\tx\n")
    for name in ("m.jsonl", "m.tsv"):
        assert entries(tmp_path / name)["a.wav"].text == "hej"


def test_the_raw_transcription_goes_before_the_one_without_case_and_punctuation(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    lines(tmp_path / "m.jsonl", {"path": "a.wav", "transcription": "hej du", "raw_transcription": "Hej, du!"})
    assert entries(tmp_path / "m.jsonl")["a.wav"].text == "Hej, du!"


def test_a_quotation_mark_in_tsv_is_a_letter_like_others(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "m.tsv").write_text('path\tsentence\na.wav\t"Hej" sa han\n')
    assert entries(tmp_path / "m.tsv")["a.wav"].text == '"Hej" sa han'


def test_votes_are_read(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "m.tsv").write_text("path\tsentence\tup_votes\tdown_votes\na.wav\thej\t2\t\n")
    found = entries(tmp_path / "m.tsv")["a.wav"]
    assert (found.up_votes, found.down_votes) == (2, 0)


def test_rows_are_read_one_by_one(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"path": "a.wav", "text": "hej"}\nbroken\n')
    assert [row.line for row in islice(read_rows(manifest), 1)] == [1]


# ---- what spreadsheets write


@pytest.mark.parametrize("hint", ["", "sep=,\r\n", '"SEP=,"\n', "\ufeffsep=,\n"])
def test_a_hint_at_the_separator_is_no_header(hint: str, tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "m.csv").write_text(f"{hint}path,text\na.wav,hej\n", encoding="utf-8")
    assert entries(tmp_path / "m.csv")["a.wav"].text == "hej"


def test_a_hint_counts_as_a_line_and_its_separator_is_taken(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("sep=;\npath;text, said\na.wav;hej\n")
    assert "no column for the transcripts" in refusal(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("sep=\t\npath\ttext\na.wav\thej\tdå\n")
    assert "m.csv, line 3: has 3 cells and the header 2" in refusal(tmp_path / "m.csv")


def test_csv_may_have_tabs(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "m.csv").write_text('path\ttext\na.wav\t"hej, du; där"\n')
    assert entries(tmp_path / "m.csv")["a.wav"].text == "hej, du; där"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_named_with_its_own_cure(encoding: str, tmp_path: Path) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "m.csv").write_bytes(f"{mark}path\ttext\r\na.wav\thej\r\n".encode(encoding))
    assert "iconv -f UTF-16 -t UTF-8" in refusal(tmp_path / "m.csv")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_lines_that_end_in_cr_alone_are_named_with_the_cure(suffix: str, tmp_path: Path) -> None:
    separator = "\t" if suffix == ".tsv" else ","
    (tmp_path / f"m{suffix}").write_bytes(f"path{separator}text\ra.wav{separator}hej\r".encode())
    assert "its lines end in CR alone; write LF instead" in refusal(tmp_path / f"m{suffix}")


# ---- parts of recordings


@pytest.mark.parametrize(
    ("stated", "location", "first", "samples"),
    [
        ({"offset": 1.25, "duration": 0.5}, "a.wav#t=1.25,1.75", 20_000, 8_000),
        ({"offset": 1, "duration": 1e-3}, "a.wav#t=1,1.001", 16_000, 16),
        ({"offset": 0, "duration": 0.5}, "a.wav#t=0,0.5", 0, 8_000),
        ({"offset": 1.5}, "a.wav#t=1.5", 24_000, 8_000),
        ({"offset": "1.5", "duration": " "}, "a.wav#t=1.5", 24_000, 8_000),
        ({"offset": 0}, "a.wav", 0, 32_000),
        ({"offset": "", "duration": 0.5}, "a.wav", 0, 32_000),
        ({"duration": 0.5}, "a.wav", 0, 32_000),
        ({"duration": "00:40"}, "a.wav", 0, 32_000),
        ({"duration": math.nan, "offset": " "}, "a.wav", 0, 32_000),
        ({"duration": ["40"]}, "a.wav", 0, 32_000),
    ],
)
def test_a_row_with_an_offset_is_a_part_and_a_duration_alone_says_nothing(
    stated: dict[str, object], location: str, first: int, samples: int, tmp_path: Path
) -> None:
    whole = np.arange(2 * SAMPLE_RATE, dtype=np.int16)
    sf.write(tmp_path / "a.wav", whole, SAMPLE_RATE)
    lines(tmp_path / "m.jsonl", {"audio_filepath": "a.wav", "text": "hej", **stated})
    (found,) = entries(tmp_path / "m.jsonl").values()
    assert found.location == location
    read = found.read()
    assert len(read) == samples
    assert read[0] == whole[first] / 32_768


def test_two_parts_of_one_recording_have_locations_of_their_own(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    rows = [{"path": "a.wav", "text": "hej", "offset": offset, "duration": 0.25} for offset in (0, 0.25)]
    assert list(entries(lines(tmp_path / "m.jsonl", *rows))) == ["a.wav#t=0,0.25", "a.wav#t=0.25,0.5"]


def test_parts_without_a_speaker_have_their_recording_for_one(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        record(tmp_path / name)
    rows: list[dict[str, object]] = [
        {"path": "./a.wav", "text": "hej", "offset": 0, "duration": 0.25},
        {"path": "./a.wav", "text": "hej", "offset": 0.25, "duration": 0.25},
        {"path": "b.wav", "text": "hej", "offset": 0.25, "speaker": " "},
        {"path": "b.wav", "text": "hej", "offset": 0.125, "speaker": "bo"},
        {"path": "b.wav", "text": "hej"},
    ]
    found = entries(lines(tmp_path / "m.jsonl", *rows)).values()
    assert [entry.speaker for entry in found] == ["recording a.wav", "recording a.wav", "recording b.wav", "bo", "recording b.wav"]


def test_all_clips_of_a_recording_that_has_parts_are_known_to_be_of_it(tmp_path: Path) -> None:
    other = record(tmp_path / "ö.wav")
    for name in ("a.wav", "c.wav"):
        record(tmp_path / name)
    rows: list[dict[str, object]] = [
        {"path": "a.wav", "text": "hej"},  # before any part of it
        {"path": "./a.wav", "text": "hej", "offset": 0.25, "speaker": "bo"},
        {"path": "c.wav", "text": "hej"},
        {"path": unicodedata.normalize("NFD", "ö.wav"), "text": "hej", "offset": 0, "duration": 0.25},
        {"path": str(other), "text": "hej", "speaker": "anna"},
    ]
    first, part, alone, *two = entries(lines(tmp_path / "m.jsonl", *rows)).values()
    assert first.recording == part.recording != ""
    assert (first.speaker, part.speaker) == ("", "bo"), "its parts say who speaks"
    assert (alone.recording, alone.speaker) == ("", "")
    assert two[0].recording == two[1].recording not in ("", first.recording)
    assert [entry.speaker for entry in two] == ["recording ö.wav", "anna"]


def test_a_recording_is_found_however_the_letters_of_its_name_are_composed(tmp_path: Path) -> None:
    record(tmp_path / unicodedata.normalize("NFD", "möten/smörgås.wav"))
    (found,) = entries(lines(tmp_path / "m.jsonl", {"path": "möten/smörgås.wav", "text": "hej"})).values()
    assert (found.location, len(found.read())) == ("möten/smörgås.wav", SAMPLE_RATE // 2)


def test_the_size_of_a_long_recording_is_no_matter_for_its_parts(tmp_path: Path) -> None:
    with (tmp_path / "long.wav").open("wb") as file:
        file.truncate(MAX_CLIP_BYTES + 1)
    rows: list[dict[str, object]] = [{"path": "long.wav", "text": "hej"}, {"path": "long.wav", "text": "hej", "offset": 7}]
    whole, part = entries(lines(tmp_path / "m.jsonl", *rows)).values()
    assert whole.fault
    assert whole.fault.code == "too_long"
    assert part.fault is None


# ---- what cannot be


def test_missing_halves_of_a_manifest_are_named_by_line(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    rows: list[dict[str, object]] = [{"path": "a.wav", "text": None}, {"path": "b.wav", "text": "hej"}, {"path": "c\0.wav", "text": "hej"}]
    found = {
        location: entry.fault and (entry.fault.code, entry.fault.reason)
        for location, entry in entries(lines(tmp_path / "m.jsonl", *rows)).items()
    }
    assert found["a.wav"] == ("missing", "'a.wav', line 1, has no transcript")
    assert found["b.wav"] == ("missing", "'b.wav', line 2 of m.jsonl, is not there")
    assert found["c\0.wav"] == ("missing", "'c\\x00.wav', line 3 of m.jsonl, is not there")


@pytest.mark.parametrize("name", ["pipe.wav", "/dev/zero", "."])
def test_what_is_no_regular_file_is_never_opened(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (found,) = entries(lines(tmp_path / "m.jsonl", {"path": name, "text": "hej"})).values()
    assert found.fault
    assert (found.fault.code, found.fault.reason) == ("undecodable", f"{name!r}, line 1 of m.jsonl, is not a regular file")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"path": "a.wav", "text"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["a.wav", "hej"]', "not a JSON object"),
        ('{"text": "hej"}', "names no recording"),
        ('{"path": "", "text": "hej"}', "names no recording"),
        ('{"path": "a.wav", "text": ["hej"]}', "'text' is not a string"),
        ('{"path": "a.wav", "text": true}', "'text' is not a string"),
        ('{"path": "a.wav", "text": NaN}', "'text' is nan; give a value, or null"),
        ('{"path": "a.wav", "text": "hej", "offset": 1, "duration": NaN}', "'duration' is nan; give a value, or null"),
        ('{"path": "a.wav", "text": "hej", "offset": Infinity}', "'offset' is inf; give a value, or null"),
        ('{"path": "a.wav", "text": "hej", "offset": "nan"}', "'offset' is 'nan'; give seconds, from 0 on"),
        ('{"path": "a.wav", "text": "hej", "offset": -1}', "'offset' is '-1'; give seconds, from 0 on"),
        (
            '{"path": "a.wav", "text": "hej", "offset": 0, "duration": "12,5"}',
            "'duration' is '12,5'; give seconds, from 0 on, with a decimal point",
        ),
        ('{"path": "a.wav", "text": "hej", "offset": "0", "duration": 1e999}', "'duration' is inf"),
        ('{"path": "a.wav", "text": "hej", "offset": 1, "duration": 1' + "0" * 400 + "}", "'duration' is '10"),
        ('{"path": "a.wav", "text": "hej", "up_votes": "many"}', "'up_votes' is 'many'; give a count"),
        ('{"path": "a.wav", "text": "hej", "down_votes": -1}', "'down_votes' is '-1'; give a count"),
        ('{"path": "a.wav", "text": "hej", "down_votes": 1.5}', "'down_votes' is '1.5'; give a count"),
        ('{"path": "a.wav", "text": "' + "a" * (4 << 20) + '"}', "is longer than 4 MiB"),
    ],
    ids=lambda value: value[:60],
)
def test_a_broken_line_is_named_by_its_number(line: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav", "text": "hej"}\n' + line + "\n")
    assert f"m.jsonl, line 2: {sentence}" in refusal(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [("a.wav,hej,nan", "'offset' is 'nan'"), ("a.wav,hej,12:30", "'offset' is '12:30'"), ("a.wav,hej,-0.1", "'offset' is '-0.1'")],
)
def test_a_number_in_a_table_is_checked_too(row: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"path,text,offset\n{row}\n")
    assert f"m.csv, line 2: {sentence}" in refusal(tmp_path / "m.csv")


def test_a_manifest_that_is_not_there_or_is_a_pipe_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.jsonl")
    for name in ("m.jsonl", "gone.jsonl"):
        assert f"there is no file {tmp_path / name}" in refusal(tmp_path / name)


def test_a_table_of_one_endless_line_is_refused_before_it_is_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "m.csv").open("wb") as file:
        file.truncate(1 << 40)
    assert "m.csv, line 1: is longer than 4 MiB" in refusal(tmp_path / "m.csv")


# ---- invariants

_TIMES = st.floats(min_value=0, max_value=1e5, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(offset=_TIMES, duration=st.none() | _TIMES)
def test_every_part_is_named_by_the_seconds_that_it_is_read_from(
    offset: float, duration: float | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    manifest = lines(tmp_path_factory.mktemp("part") / "m.jsonl", {"path": "a.wav", "text": "hej", "offset": offset, "duration": duration})
    (row,) = read_rows(manifest)
    if row.part is None:
        assert (offset, duration) == (0, None)
        return
    assert (row.part.offset_s, row.part.duration_s) == (offset, duration)
    start, _, end = row.part.fragment().removeprefix("#t=").partition(",")
    assert float(start) == pytest.approx(offset, abs=1e-6)
    assert (float(end) if end else None) == (None if duration is None else pytest.approx(offset + duration, abs=1e-6))


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=80) | st.text(max_size=80).map(str.encode), suffix=st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_any_bytes_are_rows_or_a_sentence(content: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    manifest = tmp_path_factory.mktemp("any") / f"m{suffix}"
    manifest.write_bytes((b"path,text\n" if suffix == ".csv" else b"path\ttext\n" if suffix == ".tsv" else b"") + content)
    try:
        assert all(row.recording for row in read_rows(manifest))
    except SourceError as error:
        said = str(error)
        assert said.startswith(str(manifest))  # either outcome is right
