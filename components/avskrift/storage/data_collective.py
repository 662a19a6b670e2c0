"""Datasets of the Mozilla Data Collective, where Mozilla publishes Common Voice, through its own client."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avskrift import logs
from avskrift.errors import AvskriftError, BusyError, SourceError, StorageError, disk_full
from avskrift.storage.paths import cache

KEY_VARIABLE = "MDC_API_KEY"
SITE = "https://mozilladatacollective.com"
# Before each new attempt, which goes on from the byte that was reached.
PAUSES_SECONDS = (1.0, 4.0, 15.0)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_UNFINISHED = (".part", ".checksum")  # the names that the client gives to what it has begun
_log = logs.Log("storage.data_collective")


def download(dataset_id: str) -> Path:
    """The archive of a dataset, in the cache folder; a download that was interrupted is gone on with.

    ``MDC_API_KEY`` holds the key. The terms of the dataset must have been accepted on its page.

    Raises:
        SourceError: no key; a key or an id that is not accepted, or terms that have not been.
        StorageError: the site cannot be reached, or the download broke off too often; DiskFullError where the disk is full.
        BusyError: another command is downloading it.
    """
    if not _ID.fullmatch(dataset_id):
        raise SourceError(f"mdc:{dataset_id}: is no id of a dataset; copy it from the dataset's page on {SITE}")
    folder = cache() / "commonvoice" / dataset_id
    finished = _finished(folder)
    if finished is not None:
        return finished
    if not os.environ.get(KEY_VARIABLE):
        raise SourceError(f"mdc:{dataset_id}: needs {KEY_VARIABLE}, a key of the Mozilla Data Collective; make one at {SITE}/api-reference")
    with _alone(folder, dataset_id):
        return _finished(folder) or _downloaded(folder, dataset_id)


def _finished(folder: Path) -> Path | None:
    """The archive that is there whole: the client renames it last."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return next((file for file in files if file.is_file() and file.suffix not in _UNFINISHED), None)


def _downloaded(folder: Path, dataset_id: str) -> Path:
    name, size = _details(dataset_id)
    part = folder / f"{name}.part"
    begun = part.stat().st_size if part.is_file() else 0
    if size and begun >= size:  # the client would ask for what is behind the end, again and again
        part.unlink()
    _log.info("data_collective.download", mebibytes=size >> 20, begun_mebibytes=begun >> 20)
    archive = _fetched(folder, dataset_id)
    if size and archive.stat().st_size != size:  # a server that does not go on, but starts again, makes it longer
        archive.unlink()
        raise StorageError(f"mdc:{dataset_id}: came with another length than its {size} bytes, and was removed; run the same command again")
    return archive


def _details(dataset_id: str) -> tuple[str, int]:
    """The name of the archive's file and its bytes, 0 where the site does not say."""
    client = _client(dataset_id)
    with _failures_told(dataset_id):
        details = client.get_dataset_details(dataset_id)
    name, size = str(details.filename or ""), int(details.sizeBytes or 0)
    # The client writes to whatever name the site answers.
    if not name or Path(name).name != name or name.startswith("."):
        raise StorageError(f"mdc:{dataset_id}: the site names no archive that its client can download; download it from its page")
    return name, size


def _fetched(folder: Path, dataset_id: str) -> Path:
    client = _client(dataset_id)
    for pause in (*PAUSES_SECONDS, None):
        try:
            with _failures_told(dataset_id):
                return Path(client.download_dataset(dataset_id, download_directory=str(folder), show_progress=False))
        except client.errors.DownloadError as error:
            cause = error.__cause__
            if isinstance(cause, KeyboardInterrupt | AvskriftError):  # the client takes a Ctrl-C for a broken connection
                raise cause from None
            full = disk_full(cause or error, where=folder)
            if full is not None:
                raise full from error
            if pause is None:
                raise StorageError(
                    f"mdc:{dataset_id}: the download broke off {len(PAUSES_SECONDS) + 1} times, at {error.total_downloaded_bytes} of "
                    f"{error.total_archive_bytes} ({type(cause).__name__}); run the same command again to go on with it"
                ) from error
            _log.warning("data_collective.connection_lost", reached=error.total_downloaded_bytes)
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _failures_told(dataset_id: str) -> Iterator[None]:
    """The client's errors as the tree's. Those of a download that broke off pass through."""
    client = _client(dataset_id)
    try:
        yield
    except client.AuthenticationError as error:
        raise SourceError(f"mdc:{dataset_id}: the key in {KEY_VARIABLE} is not accepted; make a new one at {SITE}/api-reference") from error
    except FileNotFoundError as error:
        raise SourceError(f"mdc:{dataset_id}: there is no such dataset, or no longer; copy the id from its page on {SITE}") from error
    except PermissionError as error:
        raise SourceError(f"mdc:{dataset_id}: access is refused; accept the terms at {SITE}/datasets/{dataset_id} and try again") from error
    except (OSError, RuntimeError, ValueError) as error:  # its HTTP library's errors are OSErrors
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = type(error).__name__ + (f", HTTP {status}" if status else "")
        raise StorageError(
            f"mdc:{dataset_id}: the site did not give it ({reason}); try again later, or download it from its page"
        ) from error


def _client(dataset_id: str) -> Any:
    try:
        import datacollective  # takes a second, and reads a .env of the working folder
    except ImportError as error:
        raise SourceError(f"mdc:{dataset_id}: needs the package {error.name or 'datacollective'}; install avskrift[data]") from error
    return datacollective


@contextmanager
def _alone(folder: Path, dataset_id: str) -> Iterator[None]:
    """Two downloads into one file would spoil it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError(f"mdc:{dataset_id}: another command is downloading it to {folder}; wait for it, then try again") from error
            yield
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror}; set AVSKRIFT_HOME to a folder that can be written") from error
