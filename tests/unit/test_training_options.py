"""Training's options: one definition, and the command, the pipeline and docs/training.md say what it says.

``AVSKRIFT_REGENERATE_GOLDEN=1 pytest tests/unit/test_training_options.py`` writes the page's tables anew.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.core import TyperGroup, TyperOption
from typer.testing import CliRunner

from avskrift.errors import UsageError
from avskrift.steps.fine_tune.component import fine_tune
from avskrift.steps.fine_tune.step import Config
from avskrift.training.config import TrainingConfig
from avskrift.training.presets import PRESETS
from avskrift_pipelines.command.app import app
from avskrift_pipelines.command.running import run
from avskrift_pipelines.command.training_options import PANELS, checkpoints_place, read_words, with_training_options
from avskrift_pipelines.fine_tune import fine_tune_pipeline

_PAGE = Path(__file__).parents[2] / "docs" / "training.md"
_FIELDS = {field.name: field for field in dataclasses.fields(TrainingConfig) if field.name != "language"}
_WORDS = {"schedule": "cosine", "precision": "fp32", "compile": "layers", "activation_checkpointing": "on", "device": "cpu"}


def _another(name: str) -> Any:
    """A value that the field takes and that is not its default."""
    default = _FIELDS[name].default
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        return _WORDS[name]
    return default + 1 if isinstance(default, int) else 0.25 if default != 0.25 else 0.5


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _heard(arguments: list[str]) -> TrainingConfig:
    """What a command with these options is called with."""
    heard: list[TrainingConfig] = []

    @with_training_options
    def listen(training: TrainingConfig) -> None:
        heard.append(training)

    listening = typer.Typer()
    listening.command()(listen)
    CliRunner().invoke(listening, arguments, catch_exceptions=False, standalone_mode=False)
    (training,) = heard
    return training


def test_every_field_but_the_language_is_in_one_panel() -> None:
    assert sorted(name for names in PANELS.values() for name in names) == sorted(_FIELDS)


def test_the_help_of_fine_tune_has_every_option_with_its_default_and_its_meaning() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    options = {option.name: option for option in command.commands["fine-tune"].params}
    assert "language" not in options
    for name, field in _FIELDS.items():
        option = options[name]
        assert isinstance(option, TyperOption)
        assert option.opts == [_flag(name)]
        assert (option.help, option.default, option.show_default) == (field.metadata["help"], field.default, True)
    assert options["freeze_encoder"].secondary_opts == ["--no-freeze-encoder"]


def test_without_options_training_is_the_default_one() -> None:
    assert _heard([]) == TrainingConfig()


@pytest.mark.parametrize("name", [name for name in _FIELDS if name != "lora_alpha"])
def test_an_option_reaches_training_as_flag_and_as_word(name: str) -> None:
    value = _another(name)
    expected = TrainingConfig(**{name: value})
    assert _heard([_flag(name)] if value is True else [_flag(name), str(value)]) == expected
    assert TrainingConfig(**read_words([f"{name}={value}"])) == expected
    assert TrainingConfig(**read_words([f"{name.replace('_', '-')} = {value}"])) == expected


def test_options_that_contradict_each_other_are_refused_before_the_command_begins() -> None:
    with pytest.raises(UsageError, match="lora_rank and freeze_encoder are both set"):
        _heard(["--lora-rank", "8", "--freeze-encoder"])


@given(st.floats(min_value=0, max_value=1), st.integers(min_value=0, max_value=(1 << 53)))
def test_a_number_survives_being_a_word(share: float, seed: int) -> None:
    assert read_words([f"packed_share={share!r}", f"seed={seed}"]) == {"packed_share": share, "seed": seed}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lora_rank"], "write NAME=VALUE"),
        (["lora_rnk=8"], "lora_rank"),
        (["language=en"], "no training option"),
        (["lora_rank=many"], "whole number"),
        (["lora_rank=8.5"], "whole number"),
        (["freeze_encoder=perhaps"], "true or false"),
        (["seed=1", "seed=2"], "twice"),
    ],
)
def test_a_word_that_cannot_be_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_words(words)


def test_a_place_for_checkpoints_is_spelled_out_and_one_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checkpoints_place("") == ""
    assert checkpoints_place("kept/here") == str(tmp_path / "kept" / "here")
    assert checkpoints_place(f"file://{tmp_path}/kept") == str(tmp_path / "kept")
    assert checkpoints_place("s3://bucket/prefix") == "s3://bucket/prefix"
    (tmp_path / "file").touch()
    for place in ("s3://", "gs://bucket/prefix", "file"):
        with pytest.raises(UsageError, match=f"--checkpoints {place}"):
            checkpoints_place(place)


@pytest.mark.parametrize("taker", [fine_tune.python_func, fine_tune_pipeline.pipeline_func, run], ids=["component", "pipeline", "run"])
def test_the_main_options_have_the_same_defaults_wherever_they_are_taken(taker: Any) -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(taker).parameters.items() if name in _FIELDS}
    assert len(defaults) == 7
    expected = {name: _FIELDS[name].default for name in defaults} | ({"epochs": 2} if taker is run else {})
    assert defaults == expected


def test_the_page_has_a_row_for_each_option() -> None:
    rows = []
    for panel, names in PANELS.items():
        rows.append(f"| **{panel}** | | |")
        rows += [f"| `{name}` | {_shown(_FIELDS[name].default)} | {_FIELDS[name].metadata['help']} |" for name in names]
    _same_on_the_page("options", "| option | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n")


def test_the_page_has_a_row_for_each_size() -> None:
    rows = [
        f"| {preset.name} | {preset.width} | {preset.encoder_layers} + {preset.decoder_layers} | {preset.learning_rate:g} |"
        for preset in PRESETS
    ]
    _same_on_the_page("presets", "| size | width | layers | learning rate |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")


def test_the_job_on_the_page_is_a_configuration_of_the_step() -> None:
    (text,) = re.findall(r"<!-- job -->\n```json\n(.*?)```\n", _PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    job = json.loads(text)
    assert Config(**job | {"training": TrainingConfig(**job["training"])}).training.epochs == 5


def _shown(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else f"{default:g}" if isinstance(default, float) else str(default)


def _same_on_the_page(name: str, table: str) -> None:
    page = _PAGE.read_text(encoding="utf-8")
    between = re.compile(rf"(<!-- {name}: [^\n]*-->\n)(.*?)(<!-- end of {name} -->\n)", flags=re.DOTALL)
    if os.environ.get("AVSKRIFT_REGENERATE_GOLDEN") == "1":
        page = between.sub(lambda found: f"{found[1]}\n{table}\n{found[3]}", page)
        _PAGE.write_text(page, encoding="utf-8")
    (found,) = between.findall(page)
    assert found[1] == f"\n{table}\n"
