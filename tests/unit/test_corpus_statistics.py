"""A dataset's figures, from folders made by hand whose audio is none."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_folder import clip, rejection, write_dataset

from avskrift.corpus.dataset import Dataset, open_dataset
from avskrift.corpus.statistics import SPEAKERS_NAMED, left_out, statistics
from avskrift.errors import DatasetError


@pytest.fixture
def small(tmp_path: Path) -> Dataset:
    clips = {
        "train": [
            clip("t1", seconds=1.2, text="Hej på dig!", speaker_id="a", gender="female", age="twenties", accent="Skåne"),
            clip("t2", seconds=3.0, text="hej på dig", speaker_id="a", gender="female", age="twenties"),
            clip("t3", seconds=29.99, text="Något helt annat.", speaker_id="b", gender="male"),
        ],
        "validation": [clip("v1", seconds=2.0, text="En mening till", speaker_id="c", gender="male", age="teens")],
        "test": [clip("s1", seconds=1.8, text="Sist av alla", speaker_id="")],
    }
    rejections = [rejection("silent", "r1"), rejection("silent", "r2"), rejection("missing", "r3"), rejection("sentence_in_test", "r4")]
    return write_dataset(tmp_path / "dataset", clips, rejections)


def test_each_split_is_counted_with_its_known_speakers_and_its_different_sentences(small: Dataset) -> None:
    splits = statistics(small).splits
    assert [(name, one.clips, one.speakers, one.sentences) for name, one in splits.items()] == [
        ("train", 3, 2, 2),
        ("validation", 1, 1, 1),
        ("test", 1, 0, 1),
    ]
    assert splits["train"].hours == pytest.approx((1.2 + 3.0 + 29.99) / 3600)


def test_the_totals_are_those_of_the_splits_and_of_what_was_left_out(small: Dataset) -> None:
    figures = statistics(small)
    assert (figures.clips, figures.entries) == (5, 9)
    assert figures.hours == pytest.approx(37.99 / 3600)
    assert figures.refused_share == pytest.approx(3 / 9)


def test_refusals_are_counted_by_code_and_what_was_held_back_is_no_fault(small: Dataset) -> None:
    figures = statistics(small)
    assert figures.refused == {"silent": 2, "missing": 1}
    assert figures.held_back == {"sentence_in_test": 1}
    assert left_out(small) == {"silent": 2, "missing": 1, "sentence_in_test": 1}


def test_durations_fall_into_bins_of_half_a_second_by_split(small: Dataset) -> None:
    durations = statistics(small).durations_s
    assert {place: clips for place, clips in enumerate(durations.counts["train"]) if clips} == {2: 1, 6: 1, 59: 1}
    assert durations.counts["test"][3] == 1
    assert (durations.smallest, durations.median, durations.largest) == (1.2, 2.0, 29.99)


def test_a_clip_beyond_the_last_bin_is_counted_in_it(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, {"train": [clip("long", seconds=30.0), clip("fast", seconds=0.5, text="x" * 90)]})
    figures = statistics(dataset)
    assert figures.durations_s.counts["train"][-1] == 1
    assert figures.characters_a_second.counts["train"][-1] == 1
    assert figures.characters_a_second.largest == 180


def test_characters_are_counted_as_the_check_of_too_fast_does(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, {"train": [clip("one", seconds=2.0, text="Å, nej – å!")]})
    assert statistics(dataset).characters_a_second.median == pytest.approx(5 / 2)


def test_hours_are_shared_out_by_gender_age_and_accent_with_the_unknown_last(small: Dataset) -> None:
    figures = statistics(small)
    assert [(one.name, one.clips) for one in figures.genders] == [("female", 2), ("male", 2), ("", 1)]
    assert [(one.name, one.clips) for one in figures.ages] == [("twenties", 2), ("teens", 1), ("", 2)]
    assert [(one.name, one.clips) for one in figures.accents] == [("Skåne", 1), ("", 4)]
    assert figures.genders[1].hours == pytest.approx(31.99 / 3600)


def test_the_speakers_heard_most_are_named_and_the_others_put_together(tmp_path: Path) -> None:
    clips = [clip(f"c{number}", seconds=1 + number / 10, speaker_id=f"s{number:02}") for number in range(SPEAKERS_NAMED + 3)]
    voices = statistics(write_dataset(tmp_path, {"train": [*clips, clip("unknown", seconds=9.0)]})).voices
    assert voices.speakers == SPEAKERS_NAMED + 3
    assert [one.name for one in voices.largest] == [f"s{number:02}" for number in range(SPEAKERS_NAMED + 2, 2, -1)]
    assert (voices.others.clips, voices.unknown.clips) == (3, 1)
    assert voices.others.hours == pytest.approx(3.3 / 3600)


def test_speakers_and_sentences_in_two_splits_are_counted_once_each(tmp_path: Path) -> None:
    clips = {
        "train": [clip("t1", text="Samma mening.", speaker_id="a"), clip("t2", speaker_id="b"), clip("t3", speaker_id="")],
        "validation": [clip("v1", text="samma mening", speaker_id="a")],
        "test": [clip("s1", text="Samma, mening!", speaker_id="b"), clip("s2", speaker_id="")],
    }
    figures = statistics(write_dataset(tmp_path, clips))
    assert (figures.shared_speakers, figures.shared_sentences) == (2, 1)


def test_a_dataset_without_clips_has_figures_all_the_same(tmp_path: Path) -> None:
    figures = statistics(write_dataset(tmp_path, {}))
    assert (figures.clips, figures.hours, figures.refused_share, figures.durations_s.median) == (0, 0, 0, 0)
    assert figures.voices.speakers == 0


def test_more_clips_than_one_shard_are_all_counted(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, {"train": [clip(str(number), seconds=1.0) for number in range(1300)]})
    assert len(dataset.shards("train")) == 3
    assert statistics(dataset).splits["train"].clips == 1300


def test_clips_that_are_described_and_not_there_are_an_error(small: Dataset) -> None:
    small.shards("test")[0].unlink()
    with pytest.raises(DatasetError, match="1 test clips are described and 0 are there"):
        statistics(small)


def test_refusals_that_are_described_and_not_there_are_an_error(small: Dataset) -> None:
    path = small.folder / "rejected.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(DatasetError, match="4 refused clips are described and 3 are there"):
        statistics(small)


@pytest.mark.parametrize("name", ["train-00000.parquet", "rejected.parquet"])
@pytest.mark.parametrize("harm", ["cut short", "not parquet", "gone"])
def test_a_file_that_cannot_be_read_is_named(small: Dataset, name: str, harm: str) -> None:
    path = small.folder / name
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9] if harm == "cut short" else b"hej")
    with pytest.raises(DatasetError, match="train clips" if (name, harm) == ("train-00000.parquet", "gone") else name):
        statistics(small)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda table: table.drop_columns(["gender"]), "no column 'gender'"),
        (lambda table: table.set_column(3, "text", pa.array([None, "a", "b"], pa.string())), "rows without 'text'"),
        (lambda table: table.set_column(2, "duration_s", pa.array(["a", "b", "c"])), "cannot be read"),
        (lambda table: table.set_column(2, "duration_s", pa.array([1.0, float("nan"), 1.0])), "clip t2: is said to last nan s"),
        (lambda table: table.set_column(2, "duration_s", pa.array([1.0, 0.0, 1.0])), "clip t2: is said to last 0.0 s"),
    ],
)
def test_a_shard_that_breaks_the_contract_is_refused_with_the_reason(small: Dataset, change, why: str) -> None:
    path = small.shards("train")[0]
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(DatasetError, match=why):
        statistics(small)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 1}, "version 1, where 2 is due"),
        ({"licence": None}, "licence is no text"),
        ({"splits": []}, "not a dataset description"),
        ({"sources": [{}]}, "not a dataset description"),
    ],
)
def test_a_description_of_another_version_or_with_holes_is_refused(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    folder = write_dataset(tmp_path, {"train": [clip("a")]}).folder
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=sentence):
        open_dataset(folder)
