"""Moving an alias from the version that one expects there to another: MLflow has no compare-and-set, so a lock stands around it."""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from avskrift.errors import AvskriftError, ConflictError, RegistryError
from avskrift.logs import Log
from avskrift.registry.protocol import CHAMPION, Registry
from avskrift.storage.atomic import make_folder
from avskrift.storage.paths import home as state_home

_ADVICE = "compare with that one first: evaluate against models:/{name}@{alias}, then promote what is better"
_PATIENCE_SECONDS = 60.0  # for an MLflow that does not say what it made of the request
_LATE_SECONDS = 3.0  # in which a request whose answer was lost may still be carried out
_PAUSE_SECONDS = 1.0
_log = Log("registry.promotion")


class PromotionLock(Protocol):
    """Makes locks by name: ``with lock("whisper-sv"): ...`` is inside for one holder at a time.

    On one machine it is what :func:`file_lock` gives; on a cluster a Kubernetes Lease.
    """

    def __call__(self, name: str) -> AbstractContextManager[None]:
        """A lock on ``name``, taken at once or not at all.

        Raises:
            ConflictError: on entering: somebody else holds it.
        """


def promote(registry: Registry, name: str, version: str, *, expected: str, lock: PromotionLock, alias: str = CHAMPION) -> bool:
    """Point ``alias`` of the model ``name`` at ``version``, if it points at ``expected``; whether it had to be moved.

    ``expected`` is the number of the version that ``version`` was compared with, or "" where there was none. An alias that
    points at ``version`` already is left there: a step that is repeated after its answer was lost has done its work.

    An answer that is lost on its way says nothing of the alias, so what stands there is looked at. One that cannot be seen is put back
    to ``expected``, since the caller goes back too. An error means: not moved, as far as its message does not say otherwise.

    Raises:
        ConflictError: the alias points at a third version, or somebody else holds the lock; nothing was changed. Also where
            somebody moved the alias in the same moment, without the lock or after it was lost; then theirs stands.
        RegistryError, DiskFullError: MLflow did not answer or refused; promoting again is safe.
    """
    with lock(name):
        current = _number(registry, name, alias)
        if current == version:
            return False
        if current != expected:
            raise _conflict(name, alias, version, current=current, expected=expected)
        _move(registry, name, alias, version, before=expected)
    _log.info("alias.moved", model=name, alias=alias, version=version, before=expected or "none")
    return True


def _move(registry: Registry, name: str, alias: str, version: str, *, before: str) -> None:
    refusal: AvskriftError | None = None
    try:
        registry.set_alias(name, alias, version)
    except AvskriftError as error:
        refusal = error  # or only a lost answer
    current = _seen(registry, name, alias, late=before if refusal else None)
    if current is None and refusal is not None:
        raise _unseen(registry, name, alias, version, before=before, refusal=refusal) from refusal
    if current is None:
        _log.warning("alias.not_seen", model=name, alias=alias, version=version)  # MLflow said that it had moved it
        return
    if refusal is not None and current == before:
        raise refusal
    # A holder that was paused for longer than a Lease lasts writes without being alone: what stands in the end is what counts.
    if current != version:
        raise _conflict(name, alias, version, current=current, expected=version)


def _seen(registry: Registry, name: str, alias: str, *, late: str | None) -> str | None:
    """What the alias points at; None where MLflow does not say for a while. What is ``late`` may change in a moment."""
    started = time.monotonic()
    while True:
        current: str | None = None
        with suppress(AvskriftError):
            current = _number(registry, name, alias)
        waited = time.monotonic() - started
        if current is not None and (current != late or waited >= _LATE_SECONDS):
            return current
        if waited >= _PATIENCE_SECONDS:
            return None
        time.sleep(_PAUSE_SECONDS)


def _unseen(registry: Registry, name: str, alias: str, version: str, *, before: str, refusal: AvskriftError) -> RegistryError:
    """Put the alias back, and say how that went: whoever promotes goes back to what served before."""
    target = f"version {before}" if before else "no version"
    try:
        if before:
            registry.set_alias(name, alias, before)
        else:
            registry.remove_alias(name, alias)
    except AvskriftError:
        return RegistryError(
            f"{refusal}; {alias} of {name} was {target} and may be version {version} now, which could not be seen: once MLflow answers, "
            f"look at models:/{name}@{alias}, and deploy the version that should serve, which moves {alias} there"
        )
    return RegistryError(f"{refusal}; whether {alias} of {name} had moved could not be seen, and it was put back to {target}")


def file_lock(home: Path | None = None) -> PromotionLock:
    """Locks for the processes and threads that share a state folder, by default this machine's own.

    The system lets go of one whose process ends, however it ends.
    """

    @contextmanager
    def lock(name: str) -> Iterator[None]:
        # A digest, since a model's name may hold what no file name can. Never removed: another may be waiting to open it.
        path = (home or state_home()) / "locks" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
        make_folder(path.parent)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConflictError(f"another promotion of {name} is under way on this machine; wait for it, then look again") from error
            yield

    return lock


def _number(registry: Registry, name: str, alias: str) -> str:
    found = registry.version_of_alias(name, alias)
    return found.version if found else ""


def _conflict(name: str, alias: str, version: str, *, current: str, expected: str) -> ConflictError:
    now, before = (f"version {number}" if number else "no version" for number in (current, expected))
    advice = _ADVICE.format(name=name, alias=alias)
    return ConflictError(f"{alias} of {name} is {now}, not {before}: it was moved while version {version} was on its way; {advice}")
