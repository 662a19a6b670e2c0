"""Objects in an S3 store: one way of making a client, and the few things that are done to the objects under a prefix."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from avskrift import logs
from avskrift.errors import StorageError, UsageError

# Botocore pauses at random between them, at most 1, 2 and 4 s. A store that is gone is known to be so in 20 s: less than a pod has to stop.
ATTEMPTS = 4
_CONNECT_SECONDS, _READ_SECONDS = 3.0, 30.0
_log = logs.Log("storage.objects")


class ObjectStore:
    """The objects under ``s3://BUCKET/PREFIX``, named relative to it. Threads may share one.

    A request that is met by a 5xx, a timeout or a broken connection is made ``ATTEMPTS`` times. Everything raises
    StorageError where the store refuses or cannot be reached.
    """

    def __init__(self, uri: str) -> None:
        """Connects to nothing yet.

        Raises:
            UsageError: the URI names no bucket.
            StorageError: the endpoint is no URL.
        """
        self.uri = uri.rstrip("/")
        self._bucket, self._prefix = bucket_and_prefix(uri)
        self._client = s3_client(uri, attempts=ATTEMPTS, connect_seconds=_CONNECT_SECONDS, read_seconds=_READ_SECONDS)

    def names(self, under: str = "") -> list[str]:
        """The names that begin with ``under``, sorted."""
        with self._answering("list", under):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + under)
            return sorted(entry["Key"].removeprefix(self._prefix) for page in pages for entry in page.get("Contents", ()))

    def get(self, name: str, file: Path) -> None:
        """Write an object into ``file``; what the file system refuses is raised as it is."""
        # Not download_file: that writes to a name of its own first, which nobody would sweep after a kill.
        with self._answering("give", name), file.open("wb") as stream:
            self._client.download_fileobj(self._bucket, self._prefix + name, stream)

    def put(self, name: str, file: Path) -> None:
        """Make an object of ``file``, in parts if it is large; readers see it whole or not at all."""
        with self._answering("take", name):
            self._client.upload_file(str(file), self._bucket, self._prefix + name)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects one by one, in this order; it does not matter whether they are there."""
        for name in names:
            with self._answering("delete", name):
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def sweep(self) -> None:
        """Drop the parts of uploads that were never finished: no listing shows them, and they are paid for.

        A store that does not allow it is only logged.
        """
        try:
            with self._answering("list the unfinished uploads of", ""):
                pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
                for upload in [upload for page in pages for upload in page.get("Uploads", ())]:
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        except StorageError as error:
            _log.warning("storage.not_swept", reason=str(error))

    def _answering(self, what: str, name: str) -> AbstractContextManager[None]:
        return answering(f"{self.uri}/{name}" if name else self.uri, what)


@contextmanager
def answering(uri: str, what: str) -> Iterator[None]:
    """Turn what boto3, and what it reads with, raise into the error tree's: the store did not ``what`` what ``uri`` names."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from s3transfer.exceptions import S3DownloadFailedError  # type: ignore[import-untyped]  # boto3 lets it through
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error, S3DownloadFailedError, HTTPError, ConnectionError, TimeoutError) as error:
        raise refused(uri, s3_reason(error), what=what) from error


def bucket_and_prefix(uri: str) -> tuple[str, str]:
    """The bucket of ``s3://BUCKET/a/folder``, and what the names of all objects below it begin with: "" or "a/folder/".

    Raises:
        UsageError: the URI names no bucket.
    """
    bucket, _, path = uri.removeprefix("s3://").partition("/")  # not urlsplit: "#" and "?" may stand in a key
    if not uri.startswith("s3://") or not bucket:
        raise UsageError(f"{uri}: names no bucket; write s3://BUCKET/a/folder")
    return bucket, f"{path.strip('/')}/".lstrip("/")


def s3_client(uri: str, *, attempts: int, connect_seconds: float = 10.0, read_seconds: float = 60.0) -> Any:
    """A boto3 client for the store that holds ``uri``; ``attempts`` counts the first one too.

    The endpoint is that of ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL`` or ``MLFLOW_S3_ENDPOINT_URL`` (where MLflow's own client
    looks), for stores that are not Amazon's.

    Raises:
        StorageError: that is no URL, or the credentials' configuration cannot be read.
    """
    import boto3  # only where an s3:// URI is met
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    retries = {"mode": "standard", "total_max_attempts": attempts}
    config = Config(signature_version="s3v4", retries=retries, connect_timeout=connect_seconds, read_timeout=read_seconds)
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
    endpoint = next((address for variable in variables if (address := os.environ.get(variable))), None)
    try:
        # A session of its own: the shared one keeps the first credentials that it saw, and threads must not share it.
        return boto3.Session().client("s3", endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise refused(uri, s3_reason(error)) from error


def s3_reason(error: BaseException) -> str:
    """What boto3 raised, in a few words: its kind, and the store's own code where the store answered."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import ClientError

    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, ClientError):
        error = error.__context__  # whose words are wrapped in file names
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else str(error)
    return f"{type(error).__name__}: {code}"


def refused(uri: str, reason: str, *, what: str = "give") -> StorageError:
    """The error of a store that did not ``give`` (or ``take``, ``list``, ``delete``) what ``uri`` names."""
    return StorageError(f"{uri}: the store did not {what} it ({reason}); check endpoint, credentials and path")
