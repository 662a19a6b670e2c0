"""``avskrift inspect``, as a person and as a program reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from dataset_folder import clip, rejection, write_dataset
from rich.console import Console
from running import avskrift

from avskrift.corpus.dataset import open_dataset
from avskrift.corpus.statistics import statistics
from avskrift_pipelines.inspection import show

LONG_URI = "commonvoice:https://recordings.invalid/releases/" + "cv-corpus-25.0-2026-09-09/" * 4 + "sv-SE.tar.gz"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    train = [clip(f"t{number}", seconds=1 + number, speaker_id=f"s{number % 7}", gender="female", age="teens") for number in range(29)]
    clips = {"train": train, "validation": [clip("v")], "test": [clip("p", gender="male")]}
    rejections = [rejection("voted_down", "r1"), rejection("voted_down", "r2"), rejection("speaker_in_test", "r3")]
    write_dataset(tmp_path / "dataset", clips, rejections, source=LONG_URI)
    return tmp_path / "dataset"


def test_it_prints_what_the_dataset_holds_in_plain_text_of_a_hundred_columns(dataset: Path, tmp_path: Path) -> None:
    ended = avskrift(tmp_path / "home", "inspect", dataset)
    assert ended.returncode == 0, ended.stderr
    assert "\x1b" not in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 100
    lines = [re.sub(" +", " ", line).strip() for line in ended.stdout.splitlines()]
    assert "In more than one split: no speaker and no sentence. Of 2 clips the speaker is unknown." in lines
    assert "train 29 7.2 7 29" in lines
    assert "voted_down 2 5.9 % more votes against it than for it" in lines
    assert "speaker_in_test 1 2.9 % its speaker is in test" in lines
    assert f"fingerprint {'f' * 64}" in lines


def test_json_has_the_same_for_programs(dataset: Path, tmp_path: Path) -> None:
    ended = avskrift(tmp_path / "home", "inspect", dataset, "--json")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["description"] == json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    assert told["statistics"]["splits"]["train"]["clips"] == 29
    assert told["statistics"]["refused"] == {"voted_down": 2}
    assert sum(map(sum, told["statistics"]["durations_s"]["counts"].values())) == 31


def test_a_folder_that_is_no_dataset_is_refused_in_a_sentence(tmp_path: Path) -> None:
    ended = avskrift(tmp_path / "home", "inspect", tmp_path)
    assert ended.returncode == 11
    assert ended.stdout == ""
    assert "not a dataset folder" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_damaged_dataset_is_refused_in_a_sentence(dataset: Path, tmp_path: Path) -> None:
    (dataset / "rejected.parquet").write_bytes(b"damaged")
    ended = avskrift(tmp_path / "home", "inspect", dataset)
    assert ended.returncode == 11
    assert "rejected.parquet" in ended.stderr


def shown(dataset: Path, *, width: int = 100, colours: bool = False) -> str:
    opened = open_dataset(dataset)
    console = Console(width=width, highlight=False, force_terminal=colours, no_color=not colours)
    with console.capture() as captured:
        show(opened, statistics(opened), console)
    return captured.get()


def test_bars_are_as_long_as_their_clips_and_few_enough_to_see_at_once(dataset: Path) -> None:
    durations = shown(dataset).split("How long the clips are")[1].split("Letters and digits")[0]
    bars = re.findall(r"^[\d.]+ (?:to [\d.]+|and more) +(\d+)  (\S+)", durations, flags=re.MULTILINE)
    assert 8 <= len(bars) <= 16
    assert sum(int(clips) for clips, _ in bars) == 31
    most = max(int(clips) for clips, _ in bars)
    assert all(abs(len(bar) - 40 * int(clips) / most) <= 1 for clips, bar in bars)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_no_line_is_wider_than_the_terminal(dataset: Path, width: int) -> None:
    assert max(map(len, shown(dataset, width=width).splitlines())) <= width


def test_no_name_speaks_to_the_terminal_or_is_taken_for_markup(tmp_path: Path) -> None:
    name = "[bold red]\x1b]0;owned\x07[/nothing]\u202e"
    named = dict.fromkeys(("speaker_id", "gender", "age", "accent"), name)
    write_dataset(tmp_path, {"train": [clip("a", **named)]}, source=name, normaliser=name)
    text = shown(tmp_path)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert text.count("[bold red]\ufffd]0;owned\ufffd[/nothing]\ufffd") == 5


def test_a_dataset_without_clips_is_shown_too(tmp_path: Path) -> None:
    write_dataset(tmp_path, {})
    text = shown(tmp_path)
    assert "Of no recording 0 are in the splits" in text
    assert "The source does not say who speaks." in text
    assert text.count("none") >= 2
