"""One door to bytes: any URI of a folder becomes a local folder.

===================================  ==========================================================================
``/a/folder``, ``file:///a/folder``   used in place
``pvc://CLAIM/a/folder``              a volume mounted at ``$AVSKRIFT_PVC_ROOT/CLAIM`` (``/mnt/pvc`` by default)
``s3://BUCKET/PREFIX``                fetched with boto3 into the cache
``hf://ORG/NAME``, ``ORG/NAME``       a Hugging Face hub repository, fetched into the cache
``package:NAME``                      weights that ship inside installed Python packages
``models:/NAME@ALIAS``                resolved by the registry to one of the above
===================================  ==========================================================================
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from avskrift.errors import ModelUnavailableError, StorageError, UsageError, disk_full
from avskrift.storage import bundled
from avskrift.storage.atomic import atomic_folder
from avskrift.storage.objects import refused, s3_client, s3_reason
from avskrift.storage.paths import cache

OFFLINE_ALTERNATIVES = "without internet use package:whisper-base, a local folder, or s3://"
_S3_FETCHES = 3  # of a folder whose objects change meanwhile
_SCHEME = re.compile(r"^(?P<scheme>[a-z][a-z0-9+.-]*):", re.IGNORECASE)
_HUB_ID = re.compile(r"^[\w][\w.-]*/[\w][\w.-]*$")


def fetch(uri: str) -> Path:
    """The local folder that holds what ``uri`` names; fetched whole or not at all.

    Raises:
        UsageError: a URI that no scheme understands.
        ModelUnavailableError: nothing is there, or it cannot be reached; the offline alternatives are named.
        IntegrityError: bundled weights with the wrong sha256.
        StorageError: the store refused, what it holds kept changing, or the disk is full.
    """
    if not uri.strip():
        raise UsageError("no URI was given; name a folder, a hub id like openai/whisper-small, or package:whisper-base")
    match = _SCHEME.match(uri)
    if match is None:
        return _local_or_hub(uri)
    scheme = match["scheme"].lower()
    opener = _OPENERS.get(scheme)
    if opener is not None:
        return opener(uri)
    return fetch(_resolve_with_plugin(scheme, uri))


def local_path(uri: str) -> Path | None:
    """The path that a URI names on this machine, whether or not it exists; None if its bytes live elsewhere."""
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return Path(uri).expanduser()
    if scheme["scheme"].lower() == "file":
        return Path(unquote(urlsplit(uri).path))
    return None


def _local_or_hub(uri: str) -> Path:
    folder = Path(uri).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if _HUB_ID.match(uri):
        return _from_hub(uri)
    raise ModelUnavailableError(f"{uri}: no such folder, and not a hub id like openai/whisper-small; {OFFLINE_ALTERNATIVES}")


def _from_file(uri: str) -> Path:
    if urlsplit(uri).netloc not in ("", "localhost"):
        raise UsageError(f"{uri}: names another machine; write file:///a/folder, with three slashes")
    folder = local_path(uri)
    if folder is None or not folder.is_dir():
        raise ModelUnavailableError(f"{uri}: no such folder on this machine; check the path")
    return folder.absolute()


def _from_claim(uri: str) -> Path:
    parts = urlsplit(uri)
    if not parts.netloc:
        raise UsageError(f"{uri}: names no claim; write pvc://CLAIM/a/folder")
    folder = Path(os.environ.get("AVSKRIFT_PVC_ROOT") or "/mnt/pvc") / parts.netloc / unquote(parts.path).lstrip("/")
    if not folder.is_dir():
        raise ModelUnavailableError(f"{uri}: {folder} is not there; mount the claim {parts.netloc} or set AVSKRIFT_PVC_ROOT")
    return folder


def _from_hub(uri: str) -> Path:
    from huggingface_hub import snapshot_download  # the ops image has no hub client, and needs none until here

    repository = uri.removeprefix("hf://")
    try:
        # Safetensors only: pickled weights are never fetched, so they can never be loaded.
        return Path(snapshot_download(repository, allow_patterns=["*.safetensors", "*.json", "*.txt"], cache_dir=cache() / "hub"))
    except Exception as error:  # the hub's client lets through what its HTTP library raises, whose name changes between releases
        full = disk_full(error, where=cache() / "hub")
        if full is not None:
            raise full from error
        reason = f"no such folder, and not to be had from the Hugging Face hub ({type(error).__name__})"
        raise ModelUnavailableError(f"{uri}: {reason}; {OFFLINE_ALTERNATIVES}") from error


def _from_s3(uri: str) -> Path:
    """Keyed by the listing (names, sizes, entity tags): the same objects are fetched once, changed ones again.

    An object that was replaced since the listing is not taken for what is listed: the store is asked for that entity tag.
    """
    from boto3.exceptions import Boto3Error  # only where an s3:// URI is met
    from botocore.exceptions import BotoCoreError, ClientError
    from s3transfer.exceptions import S3DownloadFailedError  # type: ignore[import-untyped]  # boto3 lets it through

    bucket, _, path = uri[len("s3://") :].partition("/")  # not urlsplit: "#" and "?" may stand in a key
    if not bucket:
        raise UsageError(f"{uri}: names no bucket; write s3://BUCKET/a/folder")
    prefix = f"{path.strip('/')}/".lstrip("/")
    client, tags = s3_client(uri, attempts=6), dict[str, str]()
    # A download is one request or several, and takes no condition of its own.
    client.meta.events.register("provide-client-params.s3.GetObject", lambda params, **_: {**params, "IfMatch": tags[params["Key"]]})
    try:
        for _ in range(_S3_FETCHES):
            objects = _listed(client, uri, bucket, prefix)
            target = cache() / "s3" / hashlib.sha256(repr((uri, objects)).encode()).hexdigest()[:32]
            if target.is_dir():
                return target
            tags.update({key: tag for key, _size, tag in objects})
            with suppress(S3DownloadFailedError), atomic_folder(target) as folder:  # it says that an entity tag is another one
                for key, _size, _tag in objects:
                    file = _inside(folder, key.removeprefix(prefix))
                    file.parent.mkdir(parents=True, exist_ok=True)
                    client.download_file(bucket, key, str(file))
            if target.is_dir():
                return target
    except (BotoCoreError, ClientError, Boto3Error) as error:
        raise refused(uri, s3_reason(error)) from error
    raise StorageError(f"{uri}: its objects keep changing while they are fetched; wait until all of it is written, then try again")


def _listed(client: Any, uri: str, bucket: str, prefix: str) -> list[tuple[str, int, str]]:
    """Key, size and entity tag of each object."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    listed = sorted((entry["Key"], entry["Size"], entry["ETag"]) for page in pages for entry in page.get("Contents", ()))
    objects = [entry for entry in listed if not entry[0].endswith("/")]  # consoles mark folders with empty objects
    if not objects:
        raise ModelUnavailableError(f"{uri}: nothing is stored under that prefix; check the bucket and the path")
    return objects


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise StorageError(f"object name {name!r} leaves the folder it is fetched into; refused")
    return path


def _from_package(uri: str) -> Path:
    name = uri.removeprefix("package:")
    target = cache() / "package" / f"{name}-{bundled.find(name).sha256[:16]}"
    if not target.is_dir():
        with atomic_folder(target) as folder:
            bundled.join(name, folder)
    return target


def _resolve_with_plugin(scheme: str, uri: str) -> str:
    """Ask the plugin that installed packages register under ``avskrift.storage.schemes``; it answers with another URI."""
    plugins = entry_points(group="avskrift.storage.schemes", name=scheme)
    if not plugins:
        known = ", ".join(sorted([*_OPENERS, "models"]))
        raise UsageError(f"{uri}: {scheme}: is not a scheme that is understood; use a folder, a hub id, or one of {known}")
    try:
        resolve: Callable[[str], str] = next(iter(plugins)).load()
    except ImportError as error:
        raise ModelUnavailableError(f"{uri}: {error.name or 'a package'} is missing; install avskrift[ops]") from error
    return resolve(uri)


_OPENERS: dict[str, Callable[[str], Path]] = {
    "file": _from_file,
    "pvc": _from_claim,
    "s3": _from_s3,
    "hf": _from_hub,
    "package": _from_package,
}
