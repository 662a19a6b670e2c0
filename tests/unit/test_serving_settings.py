"""What a server takes from its environment."""

from __future__ import annotations

import pytest

from avskrift.errors import UsageError
from avskrift.serving.settings import Settings, from_environment


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = from_environment({})
    assert settings == Settings(max_upload_mb=25.0, max_audio_seconds=1800.0, threads=0, device="auto", grace_seconds=10)
    assert settings.max_upload_bytes == 25 * 1024 * 1024


def test_every_variable_reaches_its_setting() -> None:
    environment = {
        "AVSKRIFT_MAX_UPLOAD_MB": "0.5",
        "AVSKRIFT_MAX_AUDIO_SECONDS": "60",
        "AVSKRIFT_THREADS": "2",
        "AVSKRIFT_DEVICE": "cpu",
        "AVSKRIFT_GRACE_SECONDS": "3",
    }
    assert from_environment(environment) == Settings(max_upload_mb=0.5, max_audio_seconds=60.0, threads=2, device="cpu", grace_seconds=3)


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSKRIFT_THREADS", "3")
    assert from_environment().threads == 3


def test_an_empty_variable_leaves_the_default() -> None:
    assert from_environment({"AVSKRIFT_DEVICE": "", "AVSKRIFT_THREADS": ""}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AVSKRIFT_MAX_UPLOAD_MB", "ten"),
        ("AVSKRIFT_MAX_UPLOAD_MB", "0"),
        ("AVSKRIFT_MAX_UPLOAD_MB", "nan"),
        ("AVSKRIFT_MAX_UPLOAD_MB", "inf"),
        ("AVSKRIFT_MAX_AUDIO_SECONDS", "-1"),
        ("AVSKRIFT_THREADS", "1.5"),
        ("AVSKRIFT_THREADS", "²"),
        ("AVSKRIFT_GRACE_SECONDS", "-2"),
        ("AVSKRIFT_DEVICE", "tpu"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_variable(variable: str, value: str) -> None:
    with pytest.raises(UsageError, match=variable):
        from_environment({variable: value})
