"""The demo and folders: what they find, and the sentence for what they cannot use."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import unicodedata
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.demo import TINY
from avskrift.corpus.entries import MAX_CLIP_BYTES, Entry
from avskrift.corpus.sources.uris import parse_source
from avskrift.errors import AudioError, SourceError


def record(path: Path, seconds: float = 0.5, hertz: float = 300.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.3 * np.sin(hertz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE), SAMPLE_RATE)
    return path


def entries(uri: object, language: str = "sv") -> dict[str, Entry]:
    source = parse_source(str(uri), language=language)
    found = list(source.entries())
    assert list(source.listing()) == found
    assert len({entry.location for entry in found}) == len(found)
    return {entry.location: entry for entry in found}


def faults(uri: object) -> dict[str, tuple[str, str]]:
    """The code and the reason of each entry with a fault; none of them has anything to read."""
    found = {location: entry for location, entry in entries(uri).items() if entry.fault}
    for entry in found.values():
        with pytest.raises(LookupError):
            entry.read()
    return {location: (entry.fault.code, entry.fault.reason) for location, entry in found.items() if entry.fault}


def refusal(uri: object, language: str = "sv") -> str:
    with pytest.raises(SourceError) as refused:
        list(parse_source(str(uri), language=language).entries())
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


def test_a_demo_clip_that_was_pickled_is_spoken_alike() -> None:
    entry = next(iter(entries("demo:tiny").values()))
    again = pickle.loads(pickle.dumps(entry))
    assert len(entry.read()) > SAMPLE_RATE
    np.testing.assert_array_equal(again.read(), entry.read())
    assert again.read.stamp() == entry.read.stamp()  # type: ignore[attr-defined]


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
    assert all(len(entry.read()) > SAMPLE_RATE // 3 for entry in found.values())
    assert not any(entry.fault for entry in found.values())


@pytest.mark.parametrize(("recorded", "transcribed"), list(permutations(["NFC", "NFD"])))
def test_a_transcript_is_found_however_the_letters_of_its_name_are_composed(recorded: str, transcribed: str, tmp_path: Path) -> None:
    """macOS takes names apart, and a transcript from elsewhere keeps its name whole."""
    record(tmp_path / "prov" / f"{unicodedata.normalize(recorded, 'smörgås')}.wav")
    (tmp_path / "prov" / f"{unicodedata.normalize(transcribed, 'smörgås')}.txt").write_text("hej")
    (tmp_path / "prov" / f"{unicodedata.normalize(transcribed, 'ö')}.txt").write_text("ingen inspelning")
    assert entries(tmp_path)["prov/smörgås.wav"].text == "hej"
    assert faults(tmp_path) == {"prov/ö.txt": ("missing", "'prov/ö.txt' has no recording of the same name")}


def test_of_transcripts_whose_names_look_the_same_each_has_its_own_recording(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / f"{unicodedata.normalize(form, 'å')}.txt").write_text(form)
    path = record(tmp_path / f"{unicodedata.normalize('NFD', 'å')}.wav")
    whole, other = parse_source(str(tmp_path), language="sv").entries()
    assert (whole.text, other.fault and other.fault.reason) == ("NFD", "'å.txt' has no recording of the same name")
    path.rename(tmp_path / "å.wav")
    assert sorted(entry.text for entry in parse_source(str(tmp_path), language="sv").entries()) == ["", "NFC"]


def test_the_order_is_that_of_the_paths_sub_folders_among_the_files(tmp_path: Path) -> None:
    for name in ("b/b.wav", "c.wav", "a.wav", "b/a/z.wav", "B.wav", "b.wav", "b/c.wav"):
        record(tmp_path / name, seconds=0.01).with_suffix(".txt").write_text("hej")
    found = list(entries(tmp_path))
    assert found == ["B.wav", "a.wav", "b/a/z.wav", "b/b.wav", "b/c.wav", "b.wav", "c.wav"]
    assert found == [path.as_posix() for path in sorted(map(Path, found))]


def test_both_kinds_of_missing_halves_are_named(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "b.txt").write_text("hej")
    assert faults(tmp_path) == {
        "a.wav": ("missing", "'a.wav' has no transcript 'a.txt'"),
        "b.txt": ("missing", "'b.txt' has no recording of the same name"),
    }


@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".wma", ".AAC"])
def test_audio_of_other_kinds_is_not_passed_over(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"no sound")
    (tmp_path / "a.txt").write_text("hej")
    (found,) = entries(tmp_path).values()
    assert not found.fault
    with pytest.raises(AudioError):
        found.read()


def test_a_file_too_large_for_a_clip_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.wav").open("wb") as file:
        file.truncate(MAX_CLIP_BYTES + 1)
    (tmp_path / "a.txt").write_text("hej")
    assert faults(tmp_path) == {"a.wav": ("too_long", "67,108,865 bytes are over the limit of 67,108,864 for one clip")}


def test_pipes_and_sockets_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("hej")
    record(tmp_path / "b.wav")
    os.mkfifo(tmp_path / "b.txt")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "c.mp3"))
        (tmp_path / "c.txt").write_text("hej")
        assert faults(tmp_path) == {
            "a.wav": ("undecodable", "'a.wav' is not a regular file"),
            "b.wav": ("missing", "the transcript of 'b.wav', 'b.txt', is not a file"),
            "c.mp3": ("undecodable", "'c.mp3' is not a regular file"),
        }


def test_what_is_far_too_long_is_no_transcript(tmp_path: Path) -> None:
    record(tmp_path / "a.wav").with_suffix(".txt").write_text("hej " * 300_000)
    assert faults(tmp_path)["a.wav"] == ("missing", "'a.txt' is over 1 MiB, so not the transcript of 'a.wav'")


def test_a_deep_folder_is_walked_to_its_end(tmp_path: Path) -> None:
    deepest = Path(*["d"] * 1500)  # deeper than Python's stack
    home = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in deepest.parts:
            Path("d").mkdir()
            os.chdir("d")
        record(Path("a.wav")).with_suffix(".txt").write_text("hej")
        assert list(entries(tmp_path)) == [(deepest / "a.wav").as_posix()]
    finally:
        os.chdir(home)
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest's own cleaning recurses


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


def test_a_link_out_of_the_folder_is_a_fault_and_the_rest_is_prepared(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    for name in ("a", "b"):
        record(outside / f"{name}.wav").with_suffix(".txt").write_text("secret")
    inside = tmp_path / "inside"
    for name in ("b.wav", "c.wav"):
        record(inside / name).with_suffix(".txt").write_text("hej")
    (inside / "b.txt").unlink()
    for name in ("a.wav", "a.txt", "b.txt", "gone.wav"):
        (inside / name).symlink_to(outside / name)
    (inside / "folder").symlink_to(outside)
    (inside / "cover.jpg").symlink_to(outside / "a.wav")
    assert faults(inside) == {
        "a.wav": ("outside", "'a.wav' is a link out of the folder"),
        "b.wav": ("outside", "the transcript of 'b.wav', 'b.txt', is a link out of the folder"),
        "folder": ("outside", "'folder' is a link out of the folder"),
        "gone.wav": ("outside", "'gone.wav' is a link out of the folder"),
    }
    assert entries(inside)["c.wav"].text == "hej"


def test_links_that_lead_in_circles_or_nowhere_do_not_hang(tmp_path: Path) -> None:
    record(tmp_path / "sub" / "a.wav").with_suffix(".txt").write_text("hej")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "sub" / "self").symlink_to(tmp_path / "sub")
    (tmp_path / "self.wav").symlink_to("self.wav")
    (tmp_path / "ping.wav").symlink_to("pong.wav")
    (tmp_path / "pong.wav").symlink_to("ping.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    assert {location: code for location, (code, _) in faults(tmp_path).items()} == dict.fromkeys(
        ["gone.wav", "ping.wav", "pong.wav", "self.wav"], "missing"
    )
    assert entries(tmp_path)["sub/a.wav"].text == "hej"


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
    assert len(found.read()) == SAMPLE_RATE // 2


def test_a_transcript_in_utf_16_is_named_with_its_own_cure(tmp_path: Path) -> None:
    record(tmp_path / "a.wav").with_suffix(".txt").write_text("för", encoding="utf-16")
    assert "a.txt: not UTF-8 (byte 1 is 0xff); save it as UTF-8, for instance with `iconv -f UTF-16" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Metadata.CSV", "rename it to metadata.csv"),
        ("metadata.tsv", "give it as the source, --source {}/metadata.tsv"),
        ("metadata.jsonl", "give it as the source, --source {}/metadata.jsonl"),
        ("metadata.xlsx", "export it as metadata.csv"),
    ],
)
def test_metadata_under_another_name_is_named_and_not_passed_over(name: str, advice: str, tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / name).write_text("file_name,text\na.wav,hej\n")
    sentence = refusal(tmp_path)
    assert f"there is {name!r}, and only metadata.csv is read" in sentence
    assert advice.format(tmp_path) in sentence
    (tmp_path / "a.txt").write_text("hej")
    assert list(entries(tmp_path)) == ["a.wav"]


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


@pytest.mark.parametrize("name", ["../outside.wav", "/etc/hostname", "sub/../../outside.wav", "link.wav", "away/outside.wav"])
def test_a_row_that_leaves_the_folder_is_a_fault_and_the_rest_is_prepared(name: str, tmp_path: Path) -> None:
    record(tmp_path / "outside.wav")
    inside = tmp_path / "inside"
    record(inside / "a.wav")
    (inside / "link.wav").symlink_to(tmp_path / "outside.wav")
    (inside / "away").symlink_to(tmp_path)
    (inside / "metadata.csv").write_text(f"file_name,text\na.wav,hej\n{name},hej\n")
    assert faults(inside)[name] == ("outside", f"{name!r}, line 3 of metadata.csv, leaves the folder; move the recording into it")
    assert len(entries(inside)["a.wav"].read()) == SAMPLE_RATE // 2


def test_links_out_of_the_folder_that_no_row_names_are_faults_too(tmp_path: Path) -> None:
    record(tmp_path / "outside.wav")
    inside = tmp_path / "inside"
    record(inside / "a.wav")
    (inside / "link.wav").symlink_to(tmp_path / "outside.wav")
    (inside / "metadata.csv").write_text("file_name,text\na.wav,hej\n")
    assert faults(inside) == {"link.wav": ("outside", "'link.wav' is a link out of the folder")}


def test_metadata_csv_itself_may_not_be_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.csv").write_text("file_name,text\na.wav,hej\n")
    record(tmp_path / "inside" / "a.wav")
    (tmp_path / "inside" / "metadata.csv").symlink_to(tmp_path / "elsewhere.csv")
    assert "metadata.csv: is a link out of the folder" in refusal(tmp_path / "inside")


def test_metadata_csv_may_name_a_recording_through_links_within_the_folder(tmp_path: Path) -> None:
    record(tmp_path / "real" / "a.wav")
    record(tmp_path / "b.wav")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "c.wav").symlink_to("b.wav")
    (tmp_path / "metadata.csv").write_text("file_name,text\nlink/a.wav,hej\n./c.wav,då\n")
    found = entries(tmp_path)
    assert {location: entry.text for location, entry in found.items()} == {"link/a.wav": "hej", "c.wav": "då"}
    assert not any(entry.fault for entry in found.values())


def test_a_row_may_be_a_part_of_a_recording_and_have_votes(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "metadata.csv").write_text(
        "file_name,text,offset,duration,up_votes,down_votes\na.wav,hej,0.25,0.125,3,1.0\na.wav,då,,0.5,,\n"
    )
    found = entries(tmp_path)
    assert {location: len(entry.read()) for location, entry in found.items()} == {"a.wav#t=0.25,0.375": 2_000, "a.wav": 8_000}
    assert [(entry.up_votes, entry.down_votes) for entry in found.values()] == [(3, 1), (0, 0)]


@pytest.mark.parametrize(("recorded", "listed"), list(permutations(["NFC", "NFD"])))
def test_metadata_csv_finds_recordings_however_the_letters_of_their_names_are_composed(recorded: str, listed: str, tmp_path: Path) -> None:
    name = "möten/smörgås å.wav"
    path = record(tmp_path / unicodedata.normalize(recorded, name))
    gone = unicodedata.normalize(listed, "möten/ö.wav")
    (tmp_path / "metadata.csv").write_text(f"file_name,text\n{unicodedata.normalize(listed, name)},hej\n{gone},hej\nmissing.wav,hej\n")
    found = entries(tmp_path)
    assert len(found[name].read()) == SAMPLE_RATE // 2
    assert {location: code for location, (code, _) in faults(tmp_path).items()} == {"möten/ö.wav": "missing", "missing.wav": "missing"}
    path.unlink()
    path.symlink_to(record(tmp_path.parent / "utanför.wav"))
    assert faults(tmp_path)[name][0] == "outside"


def test_metadata_csv_and_the_folder_are_compared_both_ways(tmp_path: Path) -> None:
    for name in ("a.wav", "c.wav"):
        record(tmp_path / name)
    os.mkfifo(tmp_path / "d.wav")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav\nb.wav,hej\nd.wav,hej\n")
    assert faults(tmp_path) == {
        "a.wav": ("missing", "'a.wav', line 2, has no transcript"),
        "b.wav": ("missing", "'b.wav', line 3 of metadata.csv, is not there"),
        "c.wav": ("missing", "'c.wav' is not in metadata.csv"),
        "d.wav": ("undecodable", "'d.wav', line 4 of metadata.csv, is not a regular file"),
    }


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
