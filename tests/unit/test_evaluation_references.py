"""What is known of a split before anything is transcribed."""

from dataclasses import replace
from pathlib import Path

from scripted_models import clip, dataset

from avskrift.evaluation.references import content_digest, read_references


def test_a_clip_of_several_sources_belongs_to_the_one_that_it_names(tmp_path: Path) -> None:
    sources = ("folder:a", "folder:a b", "hf://org/name")
    clips = [
        clip(0, source="folder:a 1.wav"),
        clip(1, source="folder:a b 1.wav"),
        clip(2, source="hf://org/name train/7"),
        clip(3, source="folder:c 1.wav"),
    ]
    references = read_references(dataset(tmp_path, clips, sources=sources), "test", "sv")
    assert [reference.source for reference in references] == ["folder:a", "folder:a b", "hf://org/name", ""]


def test_a_clip_of_the_only_source_belongs_to_it_whatever_its_place_there(tmp_path: Path) -> None:
    references = read_references(dataset(tmp_path, [clip(0, source="clips/1.wav")], sources=["folder:a"]), "test", "sv")
    assert references[0].source == "folder:a"


def test_a_source_stands_without_its_credentials(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(0)], sources=["https://host/release.tar.gz?X-Amz-Signature=secret"])
    assert "secret" not in read_references(data, "test", "sv")[0].source


def test_speaker_gender_and_age_are_kept(tmp_path: Path) -> None:
    (reference,) = read_references(dataset(tmp_path, [clip(0, speaker="s", gender="female", age="teens")]), "test", "sv")
    assert (reference.speaker_id, reference.gender, reference.age) == ("s", "female", "teens")


def test_the_content_is_that_of_the_recordings_in_their_order(tmp_path: Path) -> None:
    one, two, three = (read_references(dataset(tmp_path / str(number), [clip(number)]), "test", "sv")[0] for number in range(3))
    first = content_digest([one, two])
    assert content_digest([one, replace(two, clip_id="another name", text="another text")]) == first
    assert content_digest([two, one]) != first
    assert content_digest([one, three]) != first


def test_a_clip_of_no_named_source_has_none(tmp_path: Path) -> None:
    assert read_references(dataset(tmp_path, [clip(0)], sources=()), "test", "sv")[0].source == ""
