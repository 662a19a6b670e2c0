"""Where a job's inputs come from and where its results go: folders of this machine, or an object store."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from avskrift.errors import StorageError, UsageError
from avskrift.storage.atomic import make_folder
from avskrift.storage.door import fetch, local_path
from avskrift.storage.paths import home
from avskrift.storage.uploads import upload_folder

_LOCK_FILE = "fetching.lock"


@dataclass(frozen=True, slots=True)
class Target:
    """A result: the folder that it is written to, and the ``s3://`` address that it is then put at, "" where it stays."""

    folder: Path
    uri: str = ""

    def deliver(self, *, last: str) -> None:
        """Put the folder where it belongs, whole or not at all: the file ``last`` makes it whole. Doing it again sends what is missing.

        Raises:
            StorageError: the store refused or could not be reached; ``last`` is not there.
        """
        if self.uri:
            upload_folder(self.folder, self.uri, last=last)


def target(place: str | Path) -> Target:
    """Where a result goes. What goes to a store is first written to the state folder, under a name that every try has again.

    Raises:
        UsageError: a place that results cannot be put at.
    """
    uri = as_s3(str(place))
    if "://" not in uri:
        return Target(Path(place))
    if uri.startswith("s3://"):
        return Target(home() / "results" / hashlib.sha256(uri.encode()).hexdigest()[:32], uri.rstrip("/"))
    folder = local_path(uri)
    if folder is None:
        raise UsageError(f"{place}: results cannot be put there; give a folder or s3://BUCKET/PREFIX")
    return Target(folder)


def check_writable(place: str | Path) -> None:
    """Return if checkpoints can be kept at ``place``; a store is asked when the first is sent.

    Raises:
        StorageError: a folder that cannot be made or written to, as a volume that belongs to root.
    """
    folder = local_path(str(place))
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(
            f"checkpoints cannot be kept in {folder} ({error.strerror}, as user {os.getuid()}); "
            "name a folder that this user may write to, or s3://BUCKET/PREFIX"
        ) from error


def source_folder(place: str | Path) -> Path:
    """The folder of an input; what a URI names elsewhere is fetched.

    Raises:
        ModelUnavailableError, StorageError, UsageError: as :func:`avskrift.storage.door.fetch`.
    """
    uri = as_s3(str(place))
    return fetch(uri) if "://" in uri else Path(place)


@contextmanager
def one_at_a_time(*places: str | Path) -> Iterator[None]:
    """Of a machine's processes one fetches, and the others find it there. What lies on this machine is not waited for."""
    if all((folder := local_path(str(place))) is not None and folder.is_dir() for place in places):
        yield
        return
    make_folder(home())
    with (home() / _LOCK_FILE).open("w") as lock:  # given back when it is closed, by a kill too
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def as_s3(uri: str) -> str:
    """The same object store as boto3 names it: ``minio://`` is Kubeflow's own name for the one that it ships with."""
    scheme, separator, rest = uri.partition("://")
    return f"s3://{rest}" if separator and scheme == "minio" else uri
