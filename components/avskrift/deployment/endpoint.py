"""The record of the endpoint that runs on this machine: ``endpoint/endpoint.json`` in the state folder."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from avskrift.errors import DeploymentError
from avskrift.storage.atomic import write_json

_RECORD_FILE = "endpoint.json"
_LOGS_KEPT = 4
# A process's creation time is counted from the boot time, which moves when the clock is set.
_CLOCK_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A predictor process. ``created`` tells it from a later process with the same ``pid``.

    ``accepted``: it became ready and passed its smoke test; until then it serves nobody on purpose.
    """

    pid: int
    created: float  # seconds since the epoch, as the kernel counts them
    host: str
    port: int
    service: str
    package: str
    version: str
    command: tuple[str, ...]
    log: str  # the file that it prints into
    accepted: bool = False

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def endpoint_folder(home: Path) -> Path:
    """Where the record and the logs lie."""
    return home / "endpoint"


def new_log(home: Path) -> Path:
    """A name for the log of a predictor that is about to start; of older logs the last few are kept."""
    older = sorted(endpoint_folder(home).glob("predictor-*.log"))
    for log in older[:-_LOGS_KEPT]:
        log.unlink(missing_ok=True)
    return endpoint_folder(home) / f"predictor-{time.time_ns()}.log"


def read_endpoint(home: Path) -> Endpoint | None:
    """The endpoint on record, alive or not; None where there is none.

    Raises:
        DeploymentError: a record that cannot be read.
    """
    path = endpoint_folder(home) / _RECORD_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Endpoint(**{**raw, "command": tuple(raw["command"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise DeploymentError(f"{path}: not an endpoint's record ({error}); end its predictor by hand and remove the file") from error


def write_endpoint(home: Path, endpoint: Endpoint) -> None:
    """Record an endpoint, replacing the one on record."""
    write_json(endpoint_folder(home) / _RECORD_FILE, dataclasses.asdict(endpoint))


def forget_endpoint(home: Path) -> None:
    """Remove the record."""
    (endpoint_folder(home) / _RECORD_FILE).unlink(missing_ok=True)


def living_process(endpoint: Endpoint) -> psutil.Process | None:
    """The endpoint's process, or None if it is dead or another process has its number by now."""
    try:
        process = psutil.Process(endpoint.pid)
        if abs(process.create_time() - endpoint.created) > _CLOCK_TOLERANCE_SECONDS or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.Error:
        return None
    return process
