"""Bytes from where a URI points, read once from the first to the last: a file, ``s3://`` or ``https://``.

A connection that breaks is made again from the byte that was reached. A server that cannot begin there begins at the
start, and what was read before is passed over. ``http://`` is read too, for stores inside a cluster: nobody else should
trust what comes that way.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

import avskrift
from avskrift import logs
from avskrift.errors import StorageError, UsageError
from avskrift.storage.door import local_path
from avskrift.storage.objects import refused, s3_client, s3_reason

# Before each new attempt. Whoever gets on between two failures has all attempts again.
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
_GETTING_ON_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60.0
_SKIP_BYTES = 1 << 20
_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<length>\d+|\*)")
_ADVICE = "check the network and run the same command again, or download it first and name the file"
_log = logs.Log("storage.streams")


class ByteStream(io.RawIOBase):
    """Bytes to be read once. ``version`` changes when they do; "" where nothing tells."""

    version: str = ""

    def readable(self) -> bool:
        return True


def open_stream(uri: str | Path) -> ByteStream:
    """The bytes of one object; a path is taken as it is.

    Raises:
        UsageError: the URI is of another kind, or incomplete.
        StorageError: it is not there, refused, or cannot be reached; reading raises it where the rest cannot be had.
    """
    if isinstance(uri, Path):
        return _File(uri)
    if uri.startswith("s3://"):
        return _Resuming(uri, _s3(uri))
    if uri.startswith(("https://", "http://")):
        return _Resuming(without_secrets(uri), _http(uri))
    path = local_path(uri)
    if path is None:
        raise UsageError(f"{uri}: cannot be read as a stream; name a file, s3://BUCKET/KEY or https://HOST/PATH")
    return _File(path)


def without_secrets(url: str) -> str:
    """A URL as it may be shown: no user, no query; either can hold what opens the door."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme in ("http", "https") else url


class _File(ByteStream):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        try:
            self._file = path.open("rb", buffering=0)
            status = os.fstat(self._file.fileno())
        except OSError as error:
            raise self._unreadable(error) from error
        self.version = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"

    def readinto(self, buffer: Any, /) -> int:
        try:
            return self._file.readinto(buffer) or 0
        except OSError as error:
            raise self._unreadable(error) from error

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()

    def _unreadable(self, error: OSError) -> StorageError:
        return StorageError(f"{self._path}: cannot be read ({error.strerror}); check the name and its permissions")


class _Readable(Protocol):
    def readinto(self, buffer: Any, /) -> int: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What a server gives: the object's bytes from ``start`` on, in a body that raises ``broken`` where the connection breaks.

    ``length`` is that of the whole object, None if the server does not say.
    """

    body: _Readable
    broken: tuple[type[Exception], ...]
    start: int
    length: int | None
    version: str


class _BrokenConnectionError(Exception):
    """The server could not be reached, or not just now: trying again may help."""


_Connect = Callable[[int], _Answer]


class _Resuming(ByteStream):
    """Connects when it is made, and again whenever the connection breaks; ``name`` is for messages."""

    def __init__(self, name: str, connect: _Connect) -> None:
        super().__init__()
        self._name = name
        self._connect = connect
        self._position = 0
        self._failures = 0
        self._failed_at = 0
        self._length: int | None = None
        self._answer: _Answer | None = None
        self._answer = self._connected()
        self._length = self._answer.length
        self.version = self._answer.version

    def readinto(self, buffer: Any, /) -> int:
        while True:
            answer = self._answer = self._answer or self._reconnected()
            try:
                count = answer.body.readinto(buffer)
            except answer.broken as error:
                self._lost(_reason(error))
                continue
            if count or self._length is None or self._position >= self._length:
                self._position += count
                return count
            self._lost("the connection was closed")

    def close(self) -> None:
        if not self.closed:
            self._drop()
        super().close()

    def _connected(self) -> _Answer:
        while True:
            try:
                return self._connect(self._position)
            except _BrokenConnectionError as error:
                self._lost(str(error))

    def _reconnected(self) -> _Answer:
        answer = self._connected()
        if (answer.version, answer.length) != (self.version, self._length):
            answer.body.close()
            raise StorageError(
                f"{self._name}: was changed while it was read, after {_mebibytes(self._position)}; run the same command again"
            )
        try:
            return self._from_position(answer)
        except answer.broken as error:
            answer.body.close()
            self._lost(_reason(error))
            return self._reconnected()

    def _from_position(self, answer: _Answer) -> _Answer:
        """Pass over what was read before, where the server began at the start again."""
        buffer = bytearray(_SKIP_BYTES)
        left = self._position - answer.start
        while left > 0:
            count = answer.body.readinto(memoryview(buffer)[: min(left, _SKIP_BYTES)])
            if not count:
                raise ConnectionError("the connection was closed")
            left -= count
        return answer

    def _lost(self, reason: str) -> None:
        """Wait before the next attempt, or give up."""
        if self._position - self._failed_at >= _GETTING_ON_BYTES:
            self._failures = 0
        self._failed_at = self._position
        self._drop()
        if self._failures >= len(PAUSES_SECONDS):
            reached = f"after {_mebibytes(self._position)}" + (f" of {_mebibytes(self._length)}" if self._length else "")
            raise StorageError(f"{self._name}: cannot be read on, {reached} ({reason}; tried {self._failures + 1} times); {_ADVICE}")
        _log.warning("storage.connection_lost", bytes_read=self._position, attempt=self._failures + 1)
        time.sleep(PAUSES_SECONDS[self._failures])
        self._failures += 1

    def _drop(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.body.close()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects between web servers, never from https to where anybody can listen."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise StorageError(f"{without_secrets(req.full_url)}: sends on to a {scheme}: address, which is not followed; name that one")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _http(url: str) -> _Connect:
    name = without_secrets(url)
    if urlsplit(url).username is not None:
        raise UsageError(f"{name}: a name and password in a URL are not sent; use a signed URL, or download the file first")
    opener = urllib.request.build_opener(_Redirects)

    def connect(position: int) -> _Answer:
        headers = {"User-Agent": f"avskrift/{avskrift.__version__}", "Accept-Encoding": "identity"}
        if position:
            headers["Range"] = f"bytes={position}-"
        try:
            answer = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (408, 425, 429) or error.code >= 500:
                raise _BrokenConnectionError(f"HTTP {error.code} {error.reason}") from error
            raise StorageError(
                f"{name}: the server refused it (HTTP {error.code} {error.reason}); check the address, and that it has not expired"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            if _is_final(error):
                raise StorageError(f"{name}: cannot be reached ({_reason(error)}); check the address") from error
            raise _BrokenConnectionError(_reason(error)) from error
        return _http_answer(answer, name, position)

    return connect


def _http_answer(answer: Any, name: str, position: int) -> _Answer:
    headers = answer.headers
    start, length = 0, headers.get("Content-Length")
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        given = _RANGE.fullmatch(headers.get("Content-Range") or "")
        if given is None or int(given["start"]) != position:
            answer.close()
            raise StorageError(f"{name}: the server gave another part than was asked for; download the file first and name it")
        start, length = position, given["length"].replace("*", "")
    total = int(length) if length and length.isdigit() else None
    known = [headers.get("ETag") or "", headers.get("Last-Modified") or ""]
    version = " ".join([*known, str(total)]) if any(known) else ""
    return _Answer(body=answer, broken=(OSError, http.client.HTTPException), start=start, length=total, version=version)


def _is_final(error: Exception) -> bool:
    """Whether no patience helps: a name that does not exist, a certificate that does not hold, a URL that is none."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, socket.gaierror):
        return reason.errno == socket.EAI_NONAME
    return isinstance(reason, ssl.SSLCertVerificationError | http.client.InvalidURL | ValueError)


def _s3(uri: str) -> _Connect:
    from botocore import exceptions as boto
    from urllib3.exceptions import HTTPError  # what boto3 reads with, and does not always translate

    bucket, _, key = uri.removeprefix("s3://").partition("/")  # not urlsplit: "#" and "?" may stand in a key
    if not bucket or not key:
        raise UsageError(f"{uri}: names no object; write s3://BUCKET/KEY")
    client = s3_client(uri, attempts=1, read_seconds=_TIMEOUT_SECONDS)  # whether to try again is decided in one place

    def connect(position: int) -> _Answer:
        part = {"Range": f"bytes={position}-"} if position else {}
        try:
            answer = client.get_object(Bucket=bucket, Key=key, **part)
        except boto.ClientError as error:
            said = s3_reason(error)
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status in (408, 429) or status >= 500:
                raise _BrokenConnectionError(said) from error
            raise refused(uri, said) from error
        except (boto.ConnectionError, boto.HTTPClientError) as error:
            raise _BrokenConnectionError(_reason(error)) from error
        except boto.BotoCoreError as error:
            raise refused(uri, s3_reason(error)) from error
        given = _RANGE.fullmatch(answer.get("ContentRange") or "")
        length = int(given["length"]) if given else int(answer["ContentLength"])
        version = f"{answer.get('ETag')} {answer.get('LastModified')} {length}"
        start = position if given else 0
        return _Answer(body=answer["Body"], broken=(OSError, boto.BotoCoreError, HTTPError), start=start, length=length, version=version)

    return connect


def _reason(error: BaseException) -> str:
    """The system's own words where there are any: libraries put URLs into theirs."""
    inner = getattr(error, "reason", error)
    return inner if isinstance(inner, str) else str(getattr(inner, "strerror", None) or type(inner).__name__)


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
