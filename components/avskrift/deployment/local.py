"""The endpoint of this machine: one predictor process of its own, which outlives the command that started it.

A new version takes over only after it became ready and was accepted; if it does not, the version before it comes back.
"""

from __future__ import annotations

import dataclasses
import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from avskrift.deployment import port as ports
from avskrift.deployment import process
from avskrift.deployment.client import is_ready
from avskrift.deployment.endpoint import (
    Endpoint,
    endpoint_folder,
    forget_endpoint,
    living_process,
    new_log,
    read_endpoint,
    write_endpoint,
)
from avskrift.errors import AvskriftError, BusyError, DeploymentError, StorageError, disk_full
from avskrift.logs import Log

HOST = "127.0.0.1"
READY_TIMEOUT_SECONDS = 180.0
_POLL_SECONDS = 0.1
_PROGRESS_SECONDS = 5.0

T = TypeVar("T")
State = Literal["ready", "not ready", "dead"]
_log = Log("deployment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to start. ``command`` must serve ``package`` on ``port`` of this machine until it gets SIGTERM."""

    package: Path
    version: str
    service: str
    port: int
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatus:
    """The endpoint on record and how it is. ``accepted``: it passed its smoke test."""

    state: State
    url: str
    pid: int
    port: int
    service: str
    package: str
    version: str
    accepted: bool


def predictor_launch(*, package: Path, version: str, service: str, port: int) -> Launch:
    """Avskrift's own server with this interpreter."""
    options = {"--package": str(package), "--port": str(port), "--host": HOST, "--name": service, "--model-version": version}
    command = (sys.executable, "-m", "avskrift.serving", *(word for option in options.items() for word in option))
    return Launch(package=package, version=version, service=service, port=port, command=command)


def start(launch: Launch, *, home: Path, accept: Callable[[Endpoint], T], ready_timeout_s: float = READY_TIMEOUT_SECONDS) -> T:
    """Put ``launch`` in the place of this machine's endpoint; return what ``accept`` said of it.

    ``accept`` is called once the new predictor is ready. If it raises, or if the predictor dies or is not ready in time, the
    new one is stopped and the one before, if it was accepted and alive, is started again.

    Raises:
        PortTakenError: somebody else listens on the port; nothing was stopped.
        DeploymentError: the predictor did not become ready; names its log and whether the version before answers again.
        BusyError: another command is changing this machine's endpoint.
    """
    with _alone(home):
        earlier = _living(home)
        check_port(home, launch.port)
        try:
            _stop(home)
            endpoint = _launch(launch, home, ready_timeout_s)
            said = accept(endpoint)
        except BaseException as error:
            outcome = _return_to(earlier, home, ready_timeout_s)
            if isinstance(error, AvskriftError) and outcome:
                raise type(error)(f"{error}; {outcome}") from error
            raise
        _note_accepted(home, endpoint)
    _log.info("endpoint.accepted", port=launch.port, version=launch.version, pid=endpoint.pid)
    return said


def check_port(home: Path, port: int) -> None:
    """Return if :func:`start` could listen on ``port``: it is free, or this machine's own endpoint holds it.

    Raises:
        PortTakenError: somebody else listens there.
        UsageError: a number that is no port, or one that only root may use.
    """
    earlier = _living(home)
    ports.check(HOST, port, ours=living_process(earlier) if earlier else None)


def stop(home: Path) -> bool:
    """Stop this machine's endpoint and forget it; whether one was alive.

    Raises:
        BusyError: another command is changing this machine's endpoint.
        DeploymentError: the record cannot be read.
    """
    if read_endpoint(home) is None:
        return False
    with _alone(home):
        return _stop(home)


def status(home: Path) -> EndpointStatus | None:
    """The endpoint on record and how it is; None where there is none.

    Raises:
        DeploymentError: the record cannot be read.
    """
    endpoint = read_endpoint(home)
    if endpoint is None:
        return None
    state: State = "dead" if living_process(endpoint) is None else "ready" if is_ready(endpoint.url) else "not ready"
    return EndpointStatus(
        state=state,
        url=endpoint.url,
        pid=endpoint.pid,
        port=endpoint.port,
        service=endpoint.service,
        package=endpoint.package,
        version=endpoint.version,
        accepted=endpoint.accepted,
    )


def _launch(launch: Launch, home: Path, ready_timeout_s: float, *, accepted: bool = False) -> Endpoint:
    """Start the process, record it at once so that no end of ours leaves it unknown, and wait until it is ready."""
    log = new_log(home)
    started = process.spawn(launch.command, log)
    endpoint = Endpoint(
        pid=started.pid,
        created=process.created(started.pid),
        host=HOST,
        port=launch.port,
        service=launch.service,
        package=str(launch.package),
        version=launch.version,
        command=launch.command,
        log=str(log),
        accepted=accepted,
    )
    try:
        write_endpoint(home, endpoint)
    except BaseException:
        started.kill()  # nobody would know of it
        started.wait()
        raise
    _wait_until_ready(started, endpoint, log, ready_timeout_s)
    return endpoint


def _wait_until_ready(predictor: subprocess.Popen[bytes], endpoint: Endpoint, log: Path, timeout_s: float) -> None:
    name = f"version {endpoint.version}"
    started = said = time.monotonic()
    while True:
        if predictor.poll() is not None:
            raise DeploymentError(f"{name} ended with exit code {predictor.returncode} before it was ready: {process.last_line(log)}")
        if is_ready(endpoint.url) and predictor.poll() is None:
            _log.info("endpoint.ready", port=endpoint.port, version=endpoint.version, seconds=time.monotonic() - started)
            return
        now = time.monotonic()
        if now - started > timeout_s:
            raise DeploymentError(f"{name} was not ready within {timeout_s:g} s: {process.last_line(log)}")
        if now - said >= _PROGRESS_SECONDS:
            _log.info("endpoint.waiting", port=endpoint.port, version=endpoint.version, seconds=now - started)
            said = now
        time.sleep(_POLL_SECONDS)


def _return_to(earlier: Endpoint | None, home: Path, ready_timeout_s: float) -> str:
    """Clear away what failed and start the endpoint before it again; say how that went."""
    _stop(home)
    if earlier is None or not earlier.accepted:
        return ""
    launch = Launch(
        package=Path(earlier.package), version=earlier.version, service=earlier.service, port=earlier.port, command=earlier.command
    )
    try:
        _launch(launch, home, ready_timeout_s, accepted=True)
    except AvskriftError as error:
        _stop(home)
        return f"version {earlier.version}, which served before, could not be started again ({error})"
    return f"version {earlier.version}, which served before, answers again at {earlier.url}"


def _note_accepted(home: Path, endpoint: Endpoint) -> None:
    """Where it cannot be written, the endpoint serves all the same: whoever accepted it may have said so elsewhere."""
    try:
        write_endpoint(home, dataclasses.replace(endpoint, accepted=True))
    except AvskriftError as error:
        _log.warning("endpoint.not_noted", version=endpoint.version, reason=str(error))


def _living(home: Path) -> Endpoint | None:
    endpoint = read_endpoint(home)
    return endpoint if endpoint and living_process(endpoint) else None


def _stop(home: Path) -> bool:
    """End the recorded process and its children, politely first; a number that another process has by now is left alone."""
    endpoint = read_endpoint(home)
    living = living_process(endpoint) if endpoint else None
    if living:
        process.end(living)
        _log.info("endpoint.stopped", pid=living.pid)
    forget_endpoint(home)
    return living is not None


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One command at a time changes the endpoint; the lock goes with the process that holds it."""
    folder = endpoint_folder(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("wb")
    except OSError as error:
        raise disk_full(error, where=folder) or StorageError(f"cannot write {folder}: {error.strerror}; set AVSKRIFT_HOME") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another command is starting or stopping the endpoint of {home}; wait for it, then try again") from error
        yield
