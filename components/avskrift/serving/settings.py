"""What a server may be told through its environment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from avskrift.errors import UsageError

Device = Literal["auto", "cpu", "cuda"]
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits and resources of one server; :func:`from_environment` reads them."""

    max_upload_mb: float = 25.0  # MiB of one recording, as the OpenAI API has it
    max_audio_seconds: float = 1800.0  # of all recordings in one request together
    threads: int = 0  # 0: as many as the container has cores
    device: Device = "auto"
    grace_seconds: int = 10  # what a request in flight gets when the server is told to stop
    deadline_seconds: float = 300.0  # from a request's arrival, before its body is read, to its answer
    max_queue_seconds: float = 3600.0  # of audio that waits or is being transcribed; one recording alone may be longer
    max_spool_mb: float = 512.0  # MiB of uploads that are held at once
    gather_ms: float = 5.0  # what a batch with room waits for requests that are on their way

    @property
    def max_upload_bytes(self) -> int:
        return int(self.max_upload_mb * _MIB)


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``AVSKRIFT_`` and a field's name: ``_MAX_UPLOAD_MB``, ``_THREADS``, ``_DEADLINE_SECONDS`` and so on.

    A variable that is unset or empty leaves its default.

    Raises:
        UsageError: a value that cannot be used; names the variable.
    """
    given = os.environ if environment is None else environment
    default = Settings()
    return Settings(
        max_upload_mb=_number(given, "AVSKRIFT_MAX_UPLOAD_MB", default.max_upload_mb, highest=2048),
        max_audio_seconds=_number(given, "AVSKRIFT_MAX_AUDIO_SECONDS", default.max_audio_seconds, highest=24 * 3600),
        threads=_count(given, "AVSKRIFT_THREADS", default.threads, highest=1024),
        device=_device(given),
        grace_seconds=_count(given, "AVSKRIFT_GRACE_SECONDS", default.grace_seconds, highest=3600),
        deadline_seconds=_number(given, "AVSKRIFT_DEADLINE_SECONDS", default.deadline_seconds, highest=24 * 3600),
        max_queue_seconds=_number(given, "AVSKRIFT_MAX_QUEUE_SECONDS", default.max_queue_seconds, highest=7 * 24 * 3600),
        max_spool_mb=_number(given, "AVSKRIFT_MAX_SPOOL_MB", default.max_spool_mb, highest=1 << 20),
        gather_ms=_number(given, "AVSKRIFT_GATHER_MS", default.gather_ms, highest=1000),
    )


def _number(given: Mapping[str, str], variable: str, default: float, *, highest: float) -> float:
    text = given.get(variable, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= highest:  # false for nan too
        raise UsageError(f"{variable} is {text!r}; use a number above 0 and at most {highest:g}")
    return value


def _count(given: Mapping[str, str], variable: str, default: int, *, highest: int) -> int:
    text = given.get(variable, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text) <= highest):
        raise UsageError(f"{variable} is {text!r}; use a whole number from 0 to {highest}")
    return int(text)


def _device(given: Mapping[str, str]) -> Device:
    text = given.get("AVSKRIFT_DEVICE", "") or "auto"
    if text not in get_args(Device):
        raise UsageError(f"AVSKRIFT_DEVICE is {text!r}; use {', '.join(get_args(Device)[:-1])} or {get_args(Device)[-1]}")
    return cast(Device, text)
