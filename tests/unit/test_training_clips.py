"""A split's clips at hand in any order, as they are in the dataset."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from dataset_folder import write_dataset
from small_training import spoken

from avskrift.corpus.dataset import Dataset
from avskrift.errors import DatasetError, DiskFullError, TrainingError
from avskrift.training.clips import StoredClips


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    clips = [spoken(f"clip-{number:02}", seconds=0.1 + 0.01 * number) for number in range(70)]  # more than a group of rows
    return write_dataset(tmp_path / "dataset", {"train": clips, "validation": [replace(clips[0], clip_id="silent", audio=b"")]})


def test_every_clip_is_at_hand_as_the_dataset_has_it(dataset: Dataset) -> None:
    clips, expected = StoredClips(dataset, "train"), list(dataset.clips("train"))
    assert len(clips) == len(expected)
    assert list(clips) == expected
    assert [clips[number] for number in (69, 0, 33)] == [expected[number] for number in (69, 0, 33)]
    assert clips[60:65] == expected[60:65]
    assert clips[-1] == expected[-1]
    with pytest.raises(IndexError):
        clips[70]


def test_what_is_told_of_clips_holds_no_recordings(dataset: Dataset) -> None:
    clips = StoredClips(dataset, "train")
    assert clips.described == [replace(clip, audio=b"") for clip in dataset.clips("train")]


def test_clips_stay_at_hand_when_the_dataset_is_gone(dataset: Dataset) -> None:
    expected = list(dataset.clips("train"))
    clips = StoredClips(dataset, "train")
    for shard in dataset.folder.glob("*.parquet"):
        shard.unlink()
    assert list(clips) == expected


def test_a_recording_of_no_bytes_is_for_the_decoder_to_refuse_by_clip(dataset: Dataset) -> None:
    (silent,) = StoredClips(dataset, "validation")
    with pytest.raises(DatasetError, match="clip silent"):
        silent.samples()


def test_an_empty_split_is_refused_by_name(dataset: Dataset) -> None:
    with pytest.raises(TrainingError, match="the test split is empty"):
        StoredClips(dataset, "test")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device that is always full")
def test_no_room_for_a_copy_is_said(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(Path("/dev/full").open, "wb"))
    with pytest.raises(DiskFullError, match="no space left"):
        StoredClips(dataset, "train")
