"""Where a package is put so that whoever finds its version can read it, and how it gets there. See docs/adr/0016."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from avskrift.errors import UsageError
from avskrift.logs import Log
from avskrift.storage.door import local_path
from avskrift.storage.manifest import sha256_file
from avskrift.storage.uploads import upload_folder
from avskrift.whisper.package import DESCRIPTION_FILE, open_package

STORE_VARIABLE = "AVSKRIFT_PACKAGE_STORE"  # s3://BUCKET/PREFIX, where packages are put that lie on this machine
PACKAGE_FOLDER = "package"  # among a run's artifacts
_log = Log("registry")


def place(source_uri: str, *, name: str, is_server: bool, artifact_root: Callable[[], str], through_mlflow: Callable[[Path], str]) -> str:
    """An absolute URI at which the package of the model ``name`` can be read, put there first if it lies on this machine.

    In the order in which they are tried: where it lies, if that is not this machine; ``$AVSKRIFT_PACKAGE_STORE``; the run's own
    artifacts in S3; through MLflow (``through_mlflow``), where its server keeps them to itself. A registry without a server
    sees this machine's folders. ``artifact_root`` asks for the URI of the run's artifacts.

    Raises:
        UsageError: the variable is no s3:// address.
        StorageError: the store refused or could not be reached; nothing that looks whole is left there.
    """
    folder = local_path(source_uri)
    if folder is None:
        return source_uri
    store = os.environ.get(STORE_VARIABLE, "")
    if store:
        open_package(folder)  # refuses what is none
        # By content, since the description names that of all files: the same package again, from whatever machine, is found there,
        # and another one never takes its place.
        return _upload(folder, f"{_s3(store)}/{quote(name, safe='')}/{sha256_file(folder / DESCRIPTION_FILE)}")
    if not is_server:
        return folder.absolute().as_uri()
    root = artifact_root().rstrip("/")
    if root.startswith("s3://"):
        return _upload(folder, f"{root}/{PACKAGE_FOLDER}")
    _log.info("package.uploading", size=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), through="mlflow")
    return through_mlflow(folder)


def _upload(folder: Path, target: str) -> str:
    package = open_package(folder)
    files = dict(package.description.files)
    _log.info("package.uploading", size=sum(file.size for file in files.values()), through="s3")
    upload_folder(folder, target, last=DESCRIPTION_FILE, files=files)
    return target


def _s3(store: str) -> str:
    if not store.startswith("s3://") or not store.removeprefix("s3://").strip("/"):
        raise UsageError(f"{STORE_VARIABLE} is {store!r}; write s3://BUCKET/a/folder, or unset it")
    return store.rstrip("/")
