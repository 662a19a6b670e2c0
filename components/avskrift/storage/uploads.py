"""A folder into an S3 store, straight from this machine: in parts, taken up again where they were cut, and seen whole or not at all.

What makes a folder whole is one file, its manifest: that is put last, so whoever finds it finds all the rest. Nothing is kept
on this machine to go on from. The store knows the parts of an unfinished upload, and the ETag of a part is the MD5 of its bytes
(but where the store encrypts with keys of a key service: there a part is sent again). The sha256 of a whole file is kept with
its object, so a file that is there is not sent again.

Source: Amazon S3 User Guide, "Uploading and copying objects using multipart upload" and "Multipart upload limits".
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avskrift.errors import StorageError, UsageError
from avskrift.logs import Log
from avskrift.storage.manifest import FileDigest, digest_folder
from avskrift.storage.objects import answering, bucket_and_prefix, s3_client

_SHA256 = "avskrift-sha256"  # among an object's own metadata
_MOST_PARTS = 10_000
_LEAST_PART_BYTES = 5 << 20
_BEGINNINGS = 3  # of one file: another process may finish or abort what we are adding to
_log = Log("storage.uploads")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions:
    """``part_bytes`` is how much goes in one request and is lost when it breaks; ``threads`` parts are in memory and on their way.

    A request that is met by a 5xx, a timeout or a broken connection is made ``attempts`` times, with pauses that grow and hold
    an element of chance, so that many who were cut off do not come back in the same moment.
    """

    part_bytes: int = 32 << 20
    threads: int = 4
    attempts: int = 6
    connect_seconds: float = 5.0
    read_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Raises UsageError for parts that no store takes."""
        if self.part_bytes < _LEAST_PART_BYTES or self.threads < 1 or self.attempts < 1:
            raise UsageError(f"parts have {_LEAST_PART_BYTES} bytes at least, and there is one thread and one attempt at least")


_OPTIONS = UploadOptions()


def upload_folder(
    folder: Path, uri: str, *, last: str, files: Mapping[str, FileDigest] | None = None, options: UploadOptions = _OPTIONS
) -> None:
    """Put the files of ``folder`` below ``s3://BUCKET/a/folder``, the file ``last`` after all others.

    Doing it again sends what is missing. A ``last`` of other content that lies there is deleted first: from then on nobody sees a
    whole folder, until ours is. ``files`` are the digests of what is put, where they are known; all of the folder's otherwise.
    When all is there, whatever was begun below ``uri`` and never finished is aborted, since it is paid for.

    Raises:
        UsageError: the URI names no bucket, or there is no file ``last``.
        StorageError: the store refused or could not be reached; ``last`` is not there, and doing it again goes on from here.
    """
    files = dict(files or digest_folder(folder))
    if last not in files:
        files |= {name: digest for name, digest in digest_folder(folder).items() if name == last}
    if last not in files:
        raise UsageError(f"{folder}: no {last}, so nobody could tell when it is there as a whole; give a folder that has one")
    place = _Place(uri, options)
    try:
        if place.state(last, files[last]) == "other":
            place.delete(last)
        for name in sorted(files.keys() - {last}):
            place.put(folder / name, name, files[name])
        place.put(folder / last, last, files[last])
        place.abort_unfinished()
    finally:
        place.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Part ``number`` of a file: ``size`` bytes from ``offset`` on."""

    number: int
    offset: int
    size: int


class _GoneError(Exception):
    """The store knows no such upload: it was finished or aborted, by us in a request whose answer was lost or by another."""


class _Place:
    """Where a folder is put: files by their names relative to it."""

    def __init__(self, uri: str, options: UploadOptions) -> None:
        self._bucket, self._prefix = bucket_and_prefix(uri)
        self._uri = uri.rstrip("/")
        self._options = options
        self._client = s3_client(uri, attempts=options.attempts, connect_seconds=options.connect_seconds, read_seconds=options.read_seconds)
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="upload")

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def state(self, name: str, digest: FileDigest) -> Literal["absent", "same", "other"]:
        """What lies there under a name: nothing, these bytes, or something else."""
        from botocore.exceptions import ClientError

        with answering(f"{self._uri}/{name}", "tell of"):
            try:
                found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NotFound"):
                    return "absent"
                raise
        same = found["ContentLength"] == digest.size and found.get("Metadata", {}).get(_SHA256) == digest.sha256
        return "same" if same else "other"

    def delete(self, name: str) -> None:
        self._ask("delete", name, "delete_object")

    def put(self, file: Path, name: str, digest: FileDigest) -> None:
        """Make an object of a file, unless it is there."""
        if self.state(name, digest) == "same":
            return
        if digest.size <= self._options.part_bytes:
            body = file.read_bytes()
            self._ask("take", name, "put_object", Body=body, ContentMD5=_content_md5(body), Metadata={_SHA256: digest.sha256})
            return
        for beginning in range(_BEGINNINGS):
            try:
                self._put_in_parts(file, name, digest, go_on=beginning == 0)
            except _GoneError:
                _log.warning("upload.gone", attempt=beginning + 1)
            if self.state(name, digest) == "same":
                return
        raise StorageError(f"{self._uri}/{name}: what was put there is not what lies there; is somebody else writing below that address?")

    def abort_unfinished(self) -> None:
        """Drop what was begun below this place and is not finished. A store that does not allow it is only logged."""
        try:
            for key, upload in list(self._unfinished("")):
                name = key.removeprefix(self._prefix)
                self._ask("abort the unfinished upload of", name, "abort_multipart_upload", UploadId=upload)
                _log.info("upload.aborted")
        except _GoneError:
            return  # another process does the same
        except StorageError as error:
            _log.warning("upload.not_aborted", reason=str(error))

    def _put_in_parts(self, file: Path, name: str, digest: FileDigest, *, go_on: bool) -> None:
        parts = _parts(digest.size, self._options.part_bytes)
        upload, tags = self._begun(file, name, parts) if go_on else ("", {})
        if not upload:
            made = self._ask("take", name, "create_multipart_upload", Metadata={_SHA256: digest.sha256})
            upload = str(made["UploadId"])
        missing = [part for part in parts if part.number not in tags]
        _log.info("upload.started", size=digest.size, parts=len(parts), parts_there=len(tags))
        sent = self._pool.map(lambda part: self._send(file, name, upload, part), missing)
        tags |= {part.number: tag for part, tag in zip(missing, sent, strict=True)}
        listed = [{"PartNumber": part.number, "ETag": tags[part.number]} for part in parts]
        self._ask("take", name, "complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": listed})

    def _send(self, file: Path, name: str, upload: str, part: _Part) -> str:
        """Send a part; return its ETag."""
        body = _read(file, part)
        answer = self._ask("take", name, "upload_part", UploadId=upload, PartNumber=part.number, Body=body, ContentMD5=_content_md5(body))
        return str(answer["ETag"])

    def _begun(self, file: Path, name: str, parts: list[_Part]) -> tuple[str, dict[int, str]]:
        """An unfinished upload of this file and the ETags of its parts by number; ``""`` where there is none to go on with.

        One of which any part is not ours is of another file, or in parts of another size.
        """
        by_number = {part.number: part for part in parts}
        for key, upload in self._unfinished(name):
            if key != self._prefix + name:
                continue
            try:
                there = dict(self._parts_there(name, upload))
            except _GoneError:
                continue
            known = {number: by_number.get(number) for number in there}
            if there and all(part and _is(file, part, there[number]) for number, part in known.items()):
                return upload, {number: tag for number, (tag, _size) in there.items()}
        return "", {}

    def _unfinished(self, name: str) -> Iterator[tuple[str, str]]:
        """Key and id of each upload that was begun under a name that begins so."""
        with answering(self._uri, "list the unfinished uploads of"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix + name)
            for page in pages:
                yield from ((str(upload["Key"]), str(upload["UploadId"])) for upload in page.get("Uploads", ()))

    def _parts_there(self, name: str, upload: str) -> Iterator[tuple[int, tuple[str, int]]]:
        """Number, and ETag and size, of each part that the store has."""
        marker = 0
        while True:
            page = self._ask("list the parts of", name, "list_parts", UploadId=upload, PartNumberMarker=marker)
            for part in page.get("Parts", ()):
                yield int(part["PartNumber"]), (str(part["ETag"]), int(part["Size"]))
            if not page.get("IsTruncated"):
                return
            marker = int(page["NextPartNumberMarker"])

    def _ask(self, what: str, name: str, operation: str, **more: Any) -> Any:
        from botocore.exceptions import ClientError

        with answering(f"{self._uri}/{name}", what):
            try:
                return getattr(self._client, operation)(Bucket=self._bucket, Key=self._prefix + name, **more)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "NoSuchUpload":
                    raise _GoneError from error
                raise


def _parts(size: int, part_bytes: int) -> list[_Part]:
    """Parts of the same size, the last one smaller; larger ones where there would be more than a store takes."""
    each = max(part_bytes, -(-size // _MOST_PARTS))
    return [
        _Part(number=number, offset=offset, size=min(each, size - offset)) for number, offset in enumerate(range(0, size, each), start=1)
    ]


def _is(file: Path, part: _Part, there: tuple[str, int]) -> bool:
    """Whether what the store has, by ETag and size, is this part."""
    tag, size = there
    return size == part.size and hashlib.md5(_read(file, part), usedforsecurity=False).hexdigest() == tag.strip('"')


def _read(file: Path, part: _Part) -> bytes:
    with file.open("rb") as stream:
        body = os.pread(stream.fileno(), part.size, part.offset)
    if len(body) != part.size:
        raise StorageError(f"{file} became shorter while it was sent; leave it alone and run the same command again")
    return body


def _content_md5(body: bytes) -> str:
    """What the store checks the bytes against when they arrive, as HTTP's Content-MD5 (RFC 1864)."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
