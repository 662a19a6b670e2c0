"""Moving an alias from the version that one expects there to another: MLflow has no compare-and-set, so a lock stands around it."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from avskrift.errors import ConflictError
from avskrift.logs import Log
from avskrift.registry.protocol import CHAMPION, Registry
from avskrift.storage.atomic import make_folder
from avskrift.storage.paths import home as state_home

_ADVICE = "compare with that one first: evaluate against models:/{name}@{alias}, then promote what is better"
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

    Raises:
        ConflictError: the alias points at a third version, or somebody else holds the lock; nothing was changed. Also where
            somebody moved the alias in the same moment, without the lock or after it was lost; then theirs stands.
        RegistryError: MLflow did not answer or refused; promoting again is safe.
    """
    with lock(name):
        current = _number(registry, name, alias)
        if current == version:
            return False
        if current != expected:
            raise _conflict(name, alias, version, current=current, expected=expected)
        registry.set_alias(name, alias, version)
        # A holder that was paused for longer than a Lease lasts writes without being alone: what stands in the end is what counts.
        current = _number(registry, name, alias)
        if current != version:
            raise _conflict(name, alias, version, current=current, expected=version)
    _log.info("alias.moved", model=name, alias=alias, version=version, before=expected or "none")
    return True


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
