"""Logs hold what they may hold, one line an event."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from avskrift import logs
from avskrift.errors import UsageError
from avskrift.logs import FORBIDDEN_FIELDS, Log, configure, redact
from avskrift.progress import progress

_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger("avskrift")
    before = (root.handlers[:], root.level, root.propagate)
    yield
    root.handlers[:], root.level, root.propagate = before


def written(fmt: str, event: str, level: str = "debug", **fields: Any) -> str:
    stream = io.StringIO()
    configure(level=level, fmt=fmt, stream=stream)
    Log("training").info(event, **fields)
    return stream.getvalue()


def test_an_event_is_one_json_object_a_line_with_its_fields() -> None:
    line = written("json", "training.step", step=12, loss=0.3123456789, resumed=False, best=None, language="svenska å")
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    entry = json.loads(line)
    assert re.fullmatch(_TIME, entry.pop("time"))
    assert entry == {
        "level": "info",
        "logger": "avskrift.training",
        "event": "training.step",
        "step": 12,
        "loss": 0.312346,
        "resumed": False,
        "best": None,
        "language": "svenska å",
    }
    assert "svenska å" in line


def test_an_event_as_text_is_for_people() -> None:
    assert re.fullmatch(rf"{_TIME} info    training\.step step=12 loss=0\.3\n", written("text", "training.step", step=12, loss=0.3))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_no_number_is_still_json(value: float) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert json.loads(written("json", "training.step", loss=value), parse_constant=refuse)["loss"] == str(value)


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_a_value_cannot_begin_a_line_of_its_own(fmt: str) -> None:
    forged = "oops\n2026-01-01T00:00:00.000Z info    model.registered version=99\r"
    line = written(fmt, "library.warning", message=forged)
    assert line.count("\n") == 1
    assert "\r" not in line


@pytest.mark.parametrize("field", sorted(FORBIDDEN_FIELDS | {"Text", "TRANSCRIPT"}))
def test_what_logs_must_not_hold_is_refused_by_its_name_even_where_nothing_would_be_written(field: str) -> None:
    configure(level="error", stream=io.StringIO())
    with pytest.raises(ValueError, match="transcripts, names and secrets stay out of logs"):
        Log("training").debug("clip.read", **{field: "hemligt"})


def test_transcripts_file_names_and_secrets_are_among_what_is_refused() -> None:
    assert {"text", "transcript", "reference", "hypothesis", "prompt", "filename", "path", "token", "password"} <= FORBIDDEN_FIELDS


@pytest.mark.parametrize("field", ["time", "level", "logger"])
def test_a_field_cannot_replace_what_every_line_begins_with(field: str) -> None:
    with pytest.raises(ValueError, match="every line has those; rename it"):
        Log("training").info("training.step", **{field: 1})


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("https://anna:hemligt@store.example/model", "hemligt"),
        ("postgresql+psycopg://anna:hemligt@db/mlflow", "hemligt"),
        ("https://store.example/m?X-Amz-Credential=AKIA&X-Amz-Signature=hemligt", "hemligt"),
        ("https://blob.example/m?sv=2024&sig=hemligt", "hemligt"),
        ("https://hub.example/m?Token=hemligt and more", "hemligt"),
        ("Authorization: Bearer hemligt.hemligt-_~+/=", "hemligt"),
        ("basic aGVtbGlndA==", "aGVtbGlndA"),
        ("key AKIAIOSFODNN7EXAMPLE was refused", "AKIAIOSFODNN7EXAMPLE"),
        ("key ASIAIOSFODNN7EXAMPLE was refused", "ASIAIOSFODNN7EXAMPLE"),
        ("login with hf_AbCdEfGhIjKlMnOpQrStUvWx failed", "hf_AbCd"),
    ],
)
def test_what_looks_like_a_credential_is_cut_out_wherever_it_stands(value: str, secret: str) -> None:
    assert secret not in redact(value)
    assert "[redacted]" in redact(value)
    for fmt in ("text", "json"):
        assert secret not in written(fmt, f"event {value}", reason=value, reasons=[value])


@pytest.mark.parametrize("value", ["https://store.example/model?versionId=3", "s3://models/whisper-sv", "sv, en", "step 3 of 4"])
def test_what_is_no_secret_is_left_as_it_is(value: str) -> None:
    assert redact(value) == value


def test_the_level_holds_and_a_second_configuration_replaces_the_first() -> None:
    assert written("text", "training.step", level="warning") == ""
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)
    configure(stream=second)
    Log("training").info("training.step")
    assert first.getvalue() == ""
    assert second.getvalue().count("training.step") == 1


def test_the_environment_sets_level_and_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSKRIFT_LOG_LEVEL", "WARNING")
    monkeypatch.setenv("AVSKRIFT_LOG_FORMAT", "json")
    stream = io.StringIO()
    configure(stream=stream)
    Log("training").info("quiet")
    Log("training").warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


@pytest.mark.parametrize("setting", [{"level": "loud"}, {"fmt": "xml"}])
def test_an_unknown_setting_is_named_with_those_there_are(setting: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"AVSKRIFT_LOG_\w+ is '\w+'; use .* or "):
        configure(**setting)


def test_standard_output_is_left_to_the_program() -> None:
    code = "from avskrift import logs; logs.configure(); logs.Log('x').info('an.event')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    assert "an.event" in ended.stderr


def test_progress_off_a_terminal_is_a_line_now_and_then_and_always_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, Any]] = []
    for interval, expected in (("0", [1, 2, 3]), ("3600", [3])):
        monkeypatch.setenv("AVSKRIFT_PROGRESS_SECONDS", interval)
        stream = io.StringIO()
        configure(fmt="json", stream=stream)
        with progress("fine-tune", total=3, unit="steps") as bar:
            for _ in range(3):
                bar.advance(1, {"loss": 0.5})
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert [line["done"] for line in lines] == expected
    assert lines[-1] | {"event": "progress", "what": "fine-tune", "of": 3, "unit": "steps", "seconds_left": 0, "loss": 0.5} == lines[-1]


def test_progress_says_how_long_from_what_was_done_since_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSKRIFT_PROGRESS_SECONDS", "0")
    stream = io.StringIO()
    configure(fmt="json", stream=stream)
    with progress("fine-tune", total=10**9, done=10**9 - 1000) as bar:
        bar.advance(0)
        bar.advance(10)
    nothing_yet, some = (json.loads(line)["seconds_left"] for line in stream.getvalue().splitlines())
    assert nothing_yet == -1
    assert 0 <= some < 600


def test_an_interval_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSKRIFT_PROGRESS_SECONDS", "often")
    with pytest.raises(UsageError, match="AVSKRIFT_PROGRESS_SECONDS is 'often'; give seconds"), progress("x", total=1):
        pytest.fail("it must be refused before anything is done")


def test_library_code_that_only_imports_us_is_not_configured() -> None:
    assert logs.Log("x")  # making a logger sets up nothing
    code = "import logging, avskrift.logs as l; l.Log('x'); print(logging.getLogger('avskrift').handlers)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
