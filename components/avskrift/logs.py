"""Structured logs, one line an event, on standard error.

An event is a constant name plus named fields: ``log.info("training.step", step=12, loss=0.31)``. Fields are what a
log may hold: counts, figures, digests, states. Transcripts, file names, tokens and signed URLs are not, so field names
that could carry them are refused and what looks like a credential inside a value is cut out.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import time
from typing import Any, TextIO

from avskrift.errors import UsageError

FORBIDDEN_FIELDS = frozenset(
    {
        "text",
        "transcript",
        "reference",
        "hypothesis",
        "prompt",
        "filename",
        "file_name",
        "path",
        "token",
        "secret",
        "password",
        "authorization",
    }
)
_RESERVED_FIELDS = frozenset({"time", "level", "logger"})  # what every line begins with
_CREDENTIALS = re.compile(
    r"(?i)(?P<userinfo>(?<=://)[^/@\s]+@)"
    r"|(?P<query>(?<=\?)[^\s]*(?:sig|token|key|credential|secret|password)[^\s]*)"
    r"|(?P<header>\b(?:bearer|basic)\s+[a-z0-9._~+/=-]+)"
    r"|(?P<aws>\bA(?:KIA|SIA)[0-9A-Z]{16}\b)"
    r"|(?P<hub>\bhf_[a-z0-9]{20,}\b)"
)


class Log:
    """A named logger whose methods take an event name and fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"avskrift.{name}")

    def debug(self, event: str, **fields: Any) -> None:
        self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._emit(logging.ERROR, event, fields)

    def _emit(self, level: int, event: str, fields: dict[str, Any]) -> None:
        forbidden = FORBIDDEN_FIELDS.intersection(map(str.lower, fields))
        if forbidden:
            raise ValueError(f"log event {event!r} carries {sorted(forbidden)}: transcripts, names and secrets stay out of logs")
        if _RESERVED_FIELDS.intersection(fields):
            raise ValueError(
                f"log event {event!r} carries {sorted(_RESERVED_FIELDS.intersection(fields))}: every line has those; rename it"
            )
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields})


def redact(value: str) -> str:
    """``value`` with user info, signed query strings, authorization headers, AWS key ids and hub tokens replaced by ``[redacted]``."""
    return _CREDENTIALS.sub("[redacted]", value)


class _Formatter(logging.Formatter):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: _plain(value) for name, value in getattr(record, "fields", {}).items()}
        event = redact(record.getMessage())
        if self._as_json:
            head = {"time": _timestamp(record.created), "level": record.levelname.lower(), "logger": record.name, "event": event}
            line = json.dumps(head | fields, ensure_ascii=False)
        else:
            # A value must not end the line: what follows would read as an event of its own.
            shown = " ".join(f"{name}={value}".replace("\r", "\\r").replace("\n", "\\n") for name, value in fields.items())
            line = f"{_timestamp(record.created)} {record.levelname.lower():7} {event} {shown}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(*, level: str | None = None, fmt: str | None = None, stream: TextIO | None = None) -> None:
    """Send avskrift's logs to ``stream`` (standard error by default), once; a second call replaces the first.

    ``level`` and ``fmt`` (``text`` or ``json``) default to ``AVSKRIFT_LOG_LEVEL`` and ``AVSKRIFT_LOG_FORMAT``.

    Raises:
        UsageError: an unknown level or format.
    """
    level = (level or os.environ.get("AVSKRIFT_LOG_LEVEL") or "info").upper()
    fmt = fmt or os.environ.get("AVSKRIFT_LOG_FORMAT") or "text"
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise UsageError(f"AVSKRIFT_LOG_LEVEL is {level.lower()!r}; use debug, info, warning or error")
    if fmt not in ("text", "json"):
        raise UsageError(f"AVSKRIFT_LOG_FORMAT is {fmt!r}; use text or json")
    root = logging.getLogger("avskrift")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter(as_json=fmt == "json"))
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)  # JSON has no word for NaN
    return value if isinstance(value, (int, bool, type(None))) else redact(str(value))


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
