"""A recording that is uploaded is in memory once: what admission counts is all that it takes."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator

from starlette.requests import Request
from starlette.types import Message

from avskrift.serving import routes

_BYTES, _PIECE = 16 << 20, 64 << 10
_HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def test_an_upload_is_in_memory_once() -> None:
    pieces = iter([_HEAD, *(bytes([number % 251]) * _PIECE for number in range(_BYTES // _PIECE)), b"\r\n--b--\r\n"])
    data, peak = asyncio.run(_read(pieces))
    assert (len(data), data[_PIECE], data[-1]) == (_BYTES, 1, (_BYTES // _PIECE - 1) % 251)
    assert peak < 1.5 * _BYTES


async def _read(pieces: Iterator[bytes]) -> tuple[bytes, int]:
    """The recording, and how many bytes were in use at most."""

    async def receive() -> Message:
        piece = next(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    request = Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}, receive)
    tracemalloc.start()
    try:
        form = await routes._read_form(request, "transcribe", largest_file=2 * _BYTES)
        return await routes._read_file(form), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
