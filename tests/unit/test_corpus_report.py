"""The dataset's report and card, read back as a browser and as YAML and parquet readers would."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import soundfile
import yaml
from dataset_folder import clip, rejection, write_dataset
from html_page import Page

from avskrift.corpus import wording
from avskrift.corpus.card import render_card
from avskrift.corpus.dataset import Dataset, SourceSummary
from avskrift.corpus.demo import TINY, plan, speak
from avskrift.corpus.report import REFUSED_HEARD, HeardRejection, render_report
from avskrift.corpus.statistics import statistics
from avskrift.corpus.validation import Code
from avskrift.text.normaliser import normalise

HOSTILE = "</td></table><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\x1b[31m$title"
SHOWN = HOSTILE.replace("\x1b", "\ufffd")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    clips = {
        "train": [clip(f"t{number}", seconds=1 + number / 4, speaker_id=f"s{number % 5}", gender="female") for number in range(12)],
        "validation": [clip("v1", speaker_id="v", gender="male", age="fifties"), clip("v2", speaker_id="v", age="teens")],
        "test": [clip("p1", speaker_id="p"), clip("p2", speaker_id="q")],
    }
    rejections = [*(rejection("too_fast", f"r{number}") for number in range(3)), rejection("speaker_in_test", "r9")]
    return write_dataset(tmp_path / "dataset", clips, rejections)


def heard(number: int, audio: bytes = b"fLaC") -> HeardRejection:
    return HeardRejection(rejection=rejection("clipped", f"refused-{number:02}"), audio=audio)


def page(dataset: Dataset, *refused: HeardRejection) -> Page:
    return Page(render_report(dataset, refused))


def described(dataset: Dataset, **changes: object) -> Dataset:
    return replace(dataset, description=replace(dataset.description, **changes))


def test_the_report_has_no_scripts_fetches_nothing_and_forbids_both(dataset: Dataset) -> None:
    document = render_report(dataset, [heard(1)])
    read = Page(document)
    assert not read.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "a", "base"}
    assert not {name for name in read.attributes if name.startswith("on") or name in ("href", "style", "srcdoc")}
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:\"" in document
    assert all(attributes["src"].startswith("data:audio/flac;base64,") for _, attributes in read.elements if "src" in attributes)
    assert "url(" not in document
    assert "http" not in document.replace("http-equiv", "")


def test_the_splits_are_shown_with_clips_length_speakers_and_sentences(dataset: Dataset) -> None:
    rows = page(dataset).tables["Splits"]
    assert rows[0][:5] == ["Split", "Clips", "Minutes", "Speakers", "Sentences"]
    assert [row[:5] for row in rows[1:]] == [
        ["train", "12", "0.5", "5", "12"],
        ["validation", "2", "0.1", "1", "2"],
        ["test", "2", "0.1", "2", "2"],
    ]


def test_how_much_was_kept_is_said_first(dataset: Dataset) -> None:
    assert "Of 20 recordings 16 are in the splits, 0.6 minutes; 3 were refused for a fault (15.0 %) and 1 held back" in page(dataset).text


def test_that_the_splits_share_nothing_is_said_and_what_they_share_is_a_warning(dataset: Dataset, tmp_path: Path) -> None:
    assert "In more than one split: no speaker and no sentence." in page(dataset).text
    leaking = write_dataset(tmp_path / "leak", {"train": [clip("a", text="ja", speaker_id="x")], "test": [clip("b", text="Ja!")]})
    document = render_report(leaking, [])
    assert "In more than one split: no speaker and 1 sentence. Of 1 clip the speaker is unknown." in Page(document).text
    assert '<strong class="bad">In more than one split' in document


def test_faults_and_clips_held_back_are_told_apart(dataset: Dataset) -> None:
    tables = page(dataset).tables
    assert [row[:3] for row in tables["Refused, for a fault"][1:]] == [["too_fastmore text than can be said in the time", "3", "15.0 %"]]
    assert [row[1] for row in tables["Held back, so that the splits share nothing"][1:]] == ["1"]


def test_every_code_has_a_meaning_for_people() -> None:
    assert set(wording.MEANINGS) == set(get_args(Code))


def test_ages_stand_as_people_grow_older_and_the_unknown_last(dataset: Dataset) -> None:
    assert [row[0] for row in page(dataset).tables["Age"][1:]] == ["teens", "fifties", "not stated"]


def test_what_a_source_does_not_state_is_said_once(tmp_path: Path) -> None:
    read = page(write_dataset(tmp_path, {"train": [clip("a")]}))
    assert "The source does not say who speaks." in read.text
    assert read.text.count("Not stated by the source.") == 3
    assert not {"Gender", "Age", "Accent"} & read.tables.keys()


def test_the_charts_say_in_words_and_in_a_table_what_they_draw(dataset: Dataset) -> None:
    read = page(dataset)
    charts = [attributes for tag, attributes in read.elements if tag == "svg" and attributes.get("role") == "img"]
    assert len(charts) == 3
    assert charts[0]["aria-label"] == "Clips by seconds. Median 2.0 s; nine of ten clips 1.2 to 3.6, all 1.0 to 3.8."
    assert read.tables["How long the clips are"][1:3] == [["1 to 1.5", "2", "0", "0"], ["1.5 to 2", "2", "0", "0"]]


def test_the_columns_of_a_chart_stay_in_it_and_are_as_high_as_their_clips(dataset: Dataset) -> None:
    document = render_report(dataset, [])
    chart = document[document.index('<svg class="columns"') : document.index("</svg>", document.index('<svg class="columns"'))]
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', chart).groups())
    rects = [tuple(map(float, found)) for found in re.findall(r'x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', chart)]
    assert sum(rect[3] for rect in rects) == pytest.approx(150 * 16 / 6, abs=1)  # 16 clips, and the axis ends at 6
    assert all(x >= 0 and x + wide <= width and y >= 0 and y + high <= height for x, y, wide, high in rects)


def test_a_refused_clip_can_be_heard(dataset: Dataset) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, speak(plan(TINY)[0]), 16000, format="FLAC")
    read = page(dataset, heard(1, buffer.getvalue()))
    (player,) = [attributes for tag, attributes in read.elements if tag == "audio"]
    assert player["preload"] == "none"
    assert "controls" in player
    assert base64.b64decode(player["src"].removeprefix("data:audio/flac;base64,")) == buffer.getvalue()
    assert "clipped: because it is clipped" in read.text


def test_ten_refused_clips_are_shown_and_one_without_audio_has_no_player(dataset: Dataset) -> None:
    read = page(dataset, heard(0, b""), *(heard(number) for number in range(1, 15)))
    assert sum(tag == "li" for tag, _ in read.elements) == REFUSED_HEARD == 10
    assert sum(tag == "audio" for tag, _ in read.elements) == 9
    assert "refused-09.mp3" in read.text
    assert "refused-10.mp3" not in read.text


def test_some_clips_of_each_split_are_shown_the_same_each_time(dataset: Dataset) -> None:
    rows = page(dataset).tables["Some that were kept"][1:]
    assert [row[0] for row in rows] == ["train"] * 3 + ["validation"] * 2 + ["test"] * 2
    assert rows == page(dataset).tables["Some that were kept"][1:]


def test_where_it_comes_from_has_each_source_and_what_tells_datasets_apart(dataset: Dataset) -> None:
    sources = [SourceSummary(uri=uri, licence=f"licence of {uri}", weight=0.5, clips=8, hours=0.01, rejected=2) for uri in ("a:", "b:")]
    read = page(described(dataset, sources=sources))
    assert read.tables["Where it comes from"][1] == ["a:", "licence of a:", "0.5", "8", "0.6", "2"]
    assert read.tables["Where it comes from"][2][0] == "b:"
    for said in ("f" * 64, "5" * 64, "sv-1", "12ab34cd"):
        assert said in read.text


@pytest.mark.parametrize("field", ["source", "licence", "language", "normaliser", "fingerprint", "source_sha256", "speaker_salt_check"])
def test_every_string_of_the_description_is_escaped(dataset: Dataset, field: str) -> None:
    read = page(described(dataset, **{field: HOSTILE}))
    assert not read.tags & {"script", "img"}
    assert SHOWN.lower() in read.text.lower()


def shown_everywhere(folder: Path, value: str) -> Page:
    """The report of one clip and one refusal that are called, said and explained ``value``."""
    refused = rejection("clipped", value, reason=value, source=value)
    named = dict.fromkeys(("text", "speaker_id", "gender", "age", "accent"), value)
    dataset = write_dataset(folder, {"train": [replace(clip(value, **named), source=value)]}, [refused])
    return page(dataset, HeardRejection(rejection=refused, audio=b"fLaC"))


def test_transcripts_names_and_reasons_are_shown_and_not_run(tmp_path: Path) -> None:
    as_fast = "x" * len(normalise(HOSTILE, "sv").replace(" ", ""))
    harmless, hostile = (shown_everywhere(tmp_path / str(number), value) for number, value in enumerate((as_fast, HOSTILE)))
    assert [tag for tag, _ in harmless.elements] == [tag for tag, _ in hostile.elements]
    for heading in ("Speakers", "Gender", "Age", "Accent"):
        assert hostile.tables[heading][1][0] == SHOWN
    assert hostile.tables["Some that were kept"][1][1::2] == [SHOWN, SHOWN]
    assert f"clipped: {SHOWN}{SHOWN}" in hostile.text


def test_characters_that_turn_a_file_name_around_are_made_visible(dataset: Dataset) -> None:
    refused = HeardRejection(rejection=rejection("silent", source="clip\u202e3pm.exe"), audio=b"")
    assert "clip\ufffd3pm.exe" in page(dataset, refused).text


def test_the_page_follows_the_readers_light_or_dark(dataset: Dataset) -> None:
    document = render_report(dataset, [])
    assert "prefers-color-scheme: dark" in document
    assert "@media print" in document


def test_a_dataset_without_clips_can_be_shown_and_described(tmp_path: Path) -> None:
    empty = write_dataset(tmp_path, {})
    assert "Of no recording 0 are in the splits" in page(empty).text
    assert "Nothing." in render_card(empty)


def head(dataset: Dataset) -> dict[str, object]:
    return yaml.safe_load(render_card(dataset).split("---\n")[1])


def test_the_card_has_the_head_that_the_hub_reads(dataset: Dataset) -> None:
    read = head(dataset)
    assert read["language"] == ["sv"]
    assert read["license"] == "cc0-1.0"
    assert read["size_categories"] == ["n<1K"]
    assert read["task_categories"] == ["automatic-speech-recognition"]
    assert [file["split"] for file in read["configs"][0]["data_files"]] == ["train", "validation", "test"]


def test_a_licence_that_the_hub_does_not_know_is_given_in_its_own_words(dataset: Dataset) -> None:
    sources = [replace(dataset.description.sources[0], licence=licence) for licence in ("CC0-1.0", 'ours: "no copies"')]
    read = head(described(dataset, sources=sources, licence='CC0-1.0 + ours: "no copies"'))
    assert (read["license"], read["license_name"]) == ("other", 'CC0-1.0 + ours: "no copies"')


def test_norwegian_is_a_language_and_not_false(dataset: Dataset) -> None:
    assert head(described(dataset, language="no"))["language"] == ["no"]


def test_a_split_without_clips_is_not_offered_to_the_reader(tmp_path: Path) -> None:
    read = head(write_dataset(tmp_path, {"train": [clip("a")]}))
    assert [file["split"] for file in read["configs"][0]["data_files"]] == ["train"]


def test_the_card_counts_what_was_left_out_and_names_sources_columns_and_splits(dataset: Dataset) -> None:
    card = render_card(dataset)
    for row in (
        "| `too_fast` | 3 |",
        "| `speaker_in_test` | 1 |",
        "| train | 12 | 0.01 | 5 |",
        "| `weight` |",
        "| `folder:recordings` | `CC0-1.0` | 1 | 16 |",
    ):
        assert row in card


def test_no_uri_breaks_the_cards_tables_or_ends_its_code(dataset: Dataset) -> None:
    uri = "hf://a`b|c\n| injected | row |"
    card = render_card(described(dataset, source=uri, sources=[replace(dataset.description.sources[0], uri=uri)]))
    assert "\n| injected" not in card
    (row,) = [line for line in card.splitlines() if line.startswith("| `hf://")]
    assert row.count("|") == 7


def test_datasets_reads_the_folder_by_its_card(dataset: Dataset, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    (dataset.folder / "README.md").write_text(render_card(dataset), encoding="utf-8")
    loaded = datasets.load_dataset(str(dataset.folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(loaded[split]) for split in loaded} == {"train": 12, "validation": 2, "test": 2}
    assert loaded["train"][0]["weight"] == 1.0


def test_figures_are_put_in_words_for_one_speaker_and_for_many(tmp_path: Path) -> None:
    one = statistics(write_dataset(tmp_path / "one", {"train": [clip("a", speaker_id="a")]}))
    assert wording.voices(one.voices, one.hours) == "1 speaker; the one heard most has 100.0 % of the audio."
    many = statistics(write_dataset(tmp_path / "many", {"train": [clip(f"c{n}", speaker_id=f"s{n}") for n in range(40)]}))
    assert wording.voices(many.voices, many.hours) == "40 speakers; the one heard most has 2.5 % of the audio, the 20 heard most 50.0 %."
