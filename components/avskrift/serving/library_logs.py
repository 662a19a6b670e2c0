"""KServe's and uvicorn's logs, calmed: warnings only, in our format, and never an exception's message."""

from __future__ import annotations

import logging
import warnings

from avskrift.logs import Log

# The access log would hold query strings; latency lines ("kserve.trace") are what /metrics is for.
_SILENCED = ("uvicorn.access", "kserve.trace")
_CALMED = ("", "kserve", "uvicorn", "uvicorn.error", "asyncio")
_log = Log("library")


def calm() -> None:
    """Replace the libraries' handlers. Call it before KServe's ModelServer is made, which would install its own."""
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's business, told at every request
    for name in _SILENCED:
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
        logging.getLogger(name).propagate = False
    for name in _CALMED:
        logger = logging.getLogger(name)
        logger.handlers[:] = [_Forward()]
        logger.setLevel(logging.WARNING)
        logger.propagate = False


class _Forward(logging.Handler):
    """Hands a library's record to our log: its first line and the type of its exception.

    Exceptions quote what they failed on, and that may be a transcript; asyncio does so in the second line of a message.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("avskrift"):  # reaches the root logger where nobody configured ours; it would go round
            return
        line = record.getMessage().partition("\n")[0]
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        _log.warning("library.warning", library=record.name, message=line, error=error)
