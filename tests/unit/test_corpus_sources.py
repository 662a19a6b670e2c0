"""Sources: what they find, and the sentence for what they cannot use."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.demo import TINY
from avskrift.corpus.entries import Entry, identified
from avskrift.corpus.sources import parse_source
from avskrift.errors import SourceError


def record(path: Path, seconds: float = 0.5, hertz: float = 300.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.3 * np.sin(hertz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE), SAMPLE_RATE)
    return path


def entries(uri: object, language: str = "sv") -> dict[str, Entry]:
    found = list(parse_source(str(uri), language=language, max_seconds=30).entries())
    assert len({entry.location for entry in found}) == len(found)
    return {entry.location: entry for entry in found}


def refusal(uri: object, language: str = "sv") -> str:
    with pytest.raises(SourceError) as refused:
        list(parse_source(str(uri), language=language, max_seconds=30).entries())
    return str(refused.value)


# ---- the URI


@pytest.mark.parametrize("uri", ["", "   ", "s3://bucket/recordings", "https://example.org/a.zip", "nowhere/at/all"])
def test_what_is_not_a_source_is_answered_with_what_is_one(uri: str) -> None:
    sentence = refusal(uri)
    for understood in ("demo", "a folder of recordings", ".jsonl"):
        assert understood in sentence


@pytest.mark.parametrize("uri", ["demo:tiny"])
def test_the_demo_is_planned_with_its_own_splits(uri: str) -> None:
    found = entries(uri).values()
    assert len(found) == TINY.train + TINY.validation + TINY.test
    assert {entry.split for entry in found} == {"train", "validation", "test"}
    assert all(entry.clip_id and entry.speaker and entry.text for entry in found)


def test_plain_demo_is_the_larger_one() -> None:
    assert len(entries("demo")) == len(entries("demo:")) > len(entries("demo:tiny"))


def test_the_demo_has_no_other_sizes_and_no_other_language() -> None:
    assert "demo:tiny" in refusal("demo:huge")
    assert "Swedish" in refusal("demo", language="en")


@pytest.mark.parametrize("uri", ["folder:{}/gone", "manifest:{}/gone.jsonl", "{}/gone.csv", "{}/gone"])
def test_a_source_that_is_not_there_is_named(uri: str, tmp_path: Path) -> None:
    assert str(tmp_path / "gone") in refusal(uri.format(tmp_path))


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    assert "give the folder" in refusal(record(tmp_path / "a.wav"))


def test_a_path_may_be_given_plainly_with_a_scheme_or_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "in" / "a.wav").with_suffix(".txt").write_text("hej")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for uri in ("in", "in/", "folder:in", f"file://{tmp_path}/in", "~/in", "folder:~/in"):
        assert list(entries(uri)) == ["a.wav"]


# ---- a folder with .txt files


def test_recordings_are_paired_with_transcripts_of_the_same_name_in_sub_folders_too(tmp_path: Path) -> None:
    for name in ("a.wav", "b.FLAC", "sub/c.mp3", "sub/d.ogg"):
        record(tmp_path / name).with_suffix(".txt").write_text(f"  detta är\n{name} ", encoding="utf-8")
    found = entries(tmp_path)
    assert {location: entry.text for location, entry in found.items()} == {
        "a.wav": "detta är a.wav",
        "b.FLAC": "detta är b.FLAC",
        "sub/c.mp3": "detta är sub/c.mp3",
        "sub/d.ogg": "detta är sub/d.ogg",
    }
    assert all(len(entry.read().samples) > SAMPLE_RATE // 3 for entry in found.values())
    assert not any(entry.missing for entry in found.values())


def test_both_kinds_of_missing_halves_are_named(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "b.txt").write_text("hej")
    found = entries(tmp_path)
    assert found["a.wav"].missing == "'a.wav' has no transcript 'a.txt'"
    assert found["b.txt"].missing == "'b.txt' has no recording of the same name"


def test_audio_of_other_kinds_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\x00\x00\x00\x20ftypM4A ")
    (tmp_path / "a.txt").write_text("hej")
    assert not entries(tmp_path)["a.m4a"].missing


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    record(tmp_path / "a.wav").with_suffix(".txt").write_text("hej")
    record(tmp_path / "._a.wav")
    record(tmp_path / ".trash" / "b.wav")
    (tmp_path / "cover.jpg").write_bytes(b"\xff\xd8\xff")
    assert list(entries(tmp_path)) == ["a.wav"]


def test_a_transcript_that_is_not_utf8_is_named_with_the_cure(tmp_path: Path) -> None:
    record(tmp_path / "a.wav").with_suffix(".txt").write_bytes("för".encode("latin-1"))
    sentence = refusal(tmp_path)
    assert "a.txt: not UTF-8 (byte 2 is 0xf6)" in sentence
    assert "iconv -f ISO-8859-1" in sentence


def test_text_is_composed_and_a_byte_order_mark_is_no_part_of_it(tmp_path: Path) -> None:
    record(tmp_path / "a.wav").with_suffix(".txt").write_text("\ufefffo\u0308r", encoding="utf-8")
    assert entries(tmp_path)["a.wav"].text == "för"


@pytest.mark.parametrize("linked", ["a.txt", "a.wav", "folder"])
def test_a_link_out_of_the_folder_is_refused(linked: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    record(outside / "a.wav").with_suffix(".txt").write_text("secret")
    inside = tmp_path / "inside"
    record(inside / "b.wav").with_suffix(".txt").write_text("hej")
    (inside / linked).symlink_to(outside / linked if linked != "folder" else outside)
    assert f"{linked}: is a link" in refusal(inside)


def test_a_link_within_the_folder_and_a_linked_folder_itself_are_fine(tmp_path: Path) -> None:
    record(tmp_path / "real" / "a.wav").with_suffix(".txt").write_text("hej")
    (tmp_path / "real" / "b.txt").symlink_to(tmp_path / "real" / "a.txt")
    (tmp_path / "real" / "b.wav").symlink_to(tmp_path / "real" / "a.wav")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert set(entries(tmp_path / "link")) == {"a.wav", "b.wav"}


def test_file_names_that_are_not_utf8_do_no_harm(tmp_path: Path) -> None:
    name = os.fsdecode(b"f\xf6r")
    record(tmp_path / "x.wav").rename(tmp_path / f"{name}.wav")
    (tmp_path / f"{name}.txt").write_text("för")
    (found,) = entries(tmp_path).values()
    assert found.location == "f?r.wav"
    assert len(found.read().samples) == SAMPLE_RATE // 2


# ---- a folder with metadata.csv


def test_metadata_csv_gives_transcripts_and_all_optional_columns(tmp_path: Path) -> None:
    record(tmp_path / "clips" / "a.wav")
    (tmp_path / "metadata.csv").write_text(
        'file_name,transcription,client_id,gender,age,accent,split\nclips/a.wav,"Hej, du",anna,female,30,skånska,dev\n', encoding="utf-8"
    )
    found = entries(tmp_path)["clips/a.wav"]
    assert (found.text, found.speaker, found.gender, found.age, found.accent, found.split) == (
        "Hej, du",
        "anna",
        "female",
        "30",
        "skånska",
        "dev",
    )


def test_metadata_csv_with_semicolons_and_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "metadata.csv").write_bytes("\ufefffile_name;text\r\na.wav;Hej, du\r\n".encode())
    assert entries(tmp_path)["a.wav"].text == "Hej, du"


@pytest.mark.parametrize(
    ("header", "lacks"), [("file_name,speaker_id", "transcripts"), ("text,speaker_id", "recordings"), ("", "recordings")]
)
def test_metadata_csv_without_a_needed_column_says_which_and_what_it_found(header: str, lacks: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(f"{header}\na,b\n" if header else "")
    sentence = refusal(tmp_path)
    assert f"metadata.csv: no column for the {lacks}" in sentence
    assert f"found: {header.replace(',', ', ') or 'no header'}" in sentence


@pytest.mark.parametrize("name", ["../outside.wav", "/etc/hostname", "sub/../../outside.wav", "link.wav"])
def test_metadata_csv_may_not_reach_out_of_the_folder(name: str, tmp_path: Path) -> None:
    record(tmp_path / "outside.wav")
    inside = tmp_path / "inside"
    record(inside / "a.wav")
    (inside / "link.wav").symlink_to(tmp_path / "outside.wav")
    (inside / "metadata.csv").write_text(f"file_name,text\na.wav,hej\n{name},hej\n")
    sentence = refusal(inside)
    assert f"metadata.csv, line 3: {name!r} leaves the folder" in sentence


def test_metadata_csv_and_the_folder_are_compared_both_ways(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    record(tmp_path / "c.wav")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav\nb.wav,hej\n")
    found = entries(tmp_path)
    assert found["a.wav"].missing == "'a.wav', line 2, has no transcript"
    assert found["b.wav"].missing == "'b.wav', line 3 of metadata.csv, is not there"
    assert found["c.wav"].missing == "'c.wav' is not in metadata.csv"


def test_broken_csv_is_named_by_line(tmp_path: Path) -> None:
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("file_name,text\na.wav,hej, du\n")
    assert "line 2: has 3 cells and the header 2" in refusal(tmp_path)
    metadata.write_text('file_name,text\na.wav,"hej\n')
    assert "metadata.csv, line 2: not a table" in refusal(tmp_path)
    metadata.write_bytes(b"file_name,text\na.wav,f\xf6r\n")
    assert "metadata.csv, line 2: not UTF-8 (byte 8 is 0xf6)" in refusal(tmp_path)
    metadata.write_text("file_name,text\n ,hej\n")
    assert "line 2: names no recording" in refusal(tmp_path)


# ---- manifests


def test_a_nemo_manifest_is_read_relative_to_itself_and_absolute(tmp_path: Path) -> None:
    record(tmp_path / "audio" / "a.wav")
    other = record(tmp_path / "elsewhere" / "b.wav")
    lists = tmp_path / "lists"
    lists.mkdir()
    rows = [
        {"audio_filepath": "../audio/a.wav", "text": "hej", "duration": 0.5, "speaker": 7, "offset": 0},
        {"audio_filepath": str(other), "text": "då", "duration": 0.5, "tags": ["x"]},
    ]
    manifest = lists / "train.json"
    manifest.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = entries(manifest)
    assert found["../audio/a.wav"].speaker == "7"
    assert found[str(other)].text == "då"
    assert all(len(entry.read().samples) == SAMPLE_RATE // 2 for entry in found.values())
    assert entries(f"manifest:{manifest}") == found


@pytest.mark.parametrize(("audio", "text"), [("path", "sentence"), ("file", "text"), ("audio", "transcript")])
def test_other_names_for_the_columns_are_understood(audio: str, text: str, tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "m.jsonl").write_text(json.dumps({audio: "./a.wav", text: "hej"}))
    (tmp_path / "m.tsv").write_text(f"{audio}\t{text}\tclient_id\na.wav\thej\tx\n")
    for name in ("m.jsonl", "m.tsv"):
        assert entries(tmp_path / name)["a.wav"].text == "hej"


def test_a_quotation_mark_in_tsv_is_a_letter_like_others(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "m.tsv").write_text('path\tsentence\na.wav\t"Hej" sa han\n')
    assert entries(tmp_path / "m.tsv")["a.wav"].text == '"Hej" sa han'


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"path": "a.wav", "text"', "line 2: not JSON"),
        ('["a.wav", "hej"]', "line 2: not a JSON object"),
        ('{"text": "hej"}', "line 2: names no recording"),
        ('{"path": "a.wav", "text": ["hej"]}', "line 2: 'text' is not a string"),
        ('{"path": "a.wav", "text": "hej", "offset": 3.5}', "line 2: has an offset"),
    ],
)
def test_a_broken_line_of_a_manifest_is_named_by_its_number(line: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav", "text": "hej"}\n' + line + "\n")
    assert f"m.jsonl, {sentence}" in refusal(tmp_path / "m.jsonl")


def test_missing_halves_of_a_manifest_are_named_by_line(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav", "text": null}\n{"path": "b.wav", "text": "hej"}\n')
    found = entries(tmp_path / "m.jsonl")
    assert found["a.wav"].missing == "'a.wav', line 1, has no transcript"
    assert found["b.wav"].missing == "'b.wav', line 2 of m.jsonl, is not there"


# ---- clip ids


def test_clip_ids_differ_even_where_a_recording_is_listed_twice(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    manifest = tmp_path / "m.jsonl"
    lines = [json.dumps({"path": "a.wav", "text": text}) for text in ("ett", "två", "ett")]
    manifest.write_text("\n".join(lines))
    source = parse_source(str(manifest), language="sv", max_seconds=30)
    found = identified(source.entries())
    assert len({entry.clip_id for entry in found}) == 3
    manifest.write_text("\n".join(reversed(lines)))
    assert identified(source.entries()) == found
