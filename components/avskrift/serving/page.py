"""The page at ``/`` on which a person without any client speaks, or drops a file, and reads.

Its files are in the folder ``page``. They ask this server and no other, and their content security policy keeps it so.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from pathlib import PurePath

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from avskrift.serving.answers import Refusal
from avskrift.serving.settings import Settings
from avskrift.text.languages import LANGUAGES

_INDEX = "index.html"
_ABOUT = "endpoint.json"  # made here, not a file: what the page must know of this server
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; media-src blob:; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self)",
    "Cache-Control": "no-cache",  # asked for again each time, and answered with 304: a new server never meets an old script
}


def install(app: FastAPI, settings: Settings) -> None:
    """Add the page in front of the routes that ``app`` has: KServe has one at ``/`` too."""
    app.include_router(router(settings))
    app.router.routes.insert(0, app.router.routes.pop())


def router(settings: Settings) -> APIRouter:
    """``/`` for browsers, and ``/page/{name}`` for the files that the page loads."""
    served = _files() | {_ABOUT: _file(_ABOUT, json.dumps(_about(settings)).encode())}
    index = served.pop(_INDEX)  # its links are relative to "/"
    routes = APIRouter(include_in_schema=False)

    async def page(request: Request) -> Response:
        return _answer(request, index, Vary="Accept")

    routes.add_api_route("/", page, response_model=None, route_class_override=_ForBrowsers)

    @routes.get("/page/{name}", response_model=None)
    async def file(request: Request, name: str) -> Response:
        if name not in served:
            raise Refusal(HTTPStatus.NOT_FOUND, "the page has no such file")
        return _answer(request, served[name])

    return routes


class _ForBrowsers(APIRoute):
    """A route for who asks for HTML. Others go on to KServe's liveness answer, which probes and KServe's own client rely on."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and "text/html" in Headers(scope=scope).get("accept", "").lower():
            return super().matches(scope)
        return Match.NONE, {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def _files() -> dict[str, _File]:
    """The files of the page by name, read once: a name that a client sends is looked up here and never on the disk."""
    return {path.name: _file(path.name, path.read_bytes()) for path in (files("avskrift.serving") / "page").iterdir() if path.is_file()}


def _file(name: str, content: bytes) -> _File:
    return _File(content=content, media_type=_MEDIA_TYPES[PurePath(name).suffix], etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _about(settings: Settings) -> dict[str, object]:
    return {
        "max_upload_bytes": settings.max_upload_bytes,
        "max_audio_seconds": settings.max_audio_seconds,
        "languages": LANGUAGES,
    }


def _answer(request: Request, file: _File, **more: str) -> Response:
    headers = {**_HEADERS, "ETag": file.etag, **more}
    known = request.headers.get("if-none-match", "")
    if file.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
