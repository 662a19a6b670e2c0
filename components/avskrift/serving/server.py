"""KServe's model server around one model package, on one address, until it is told to stop."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from kserve import ModelServer
from kserve.model_server import app
from kserve.protocol.rest.server import RESTServer

from avskrift.errors import PortTakenError, UsageError
from avskrift.logs import Log
from avskrift.serving import library_logs
from avskrift.serving.model import OpenTranscriber, TranscriptionModel
from avskrift.serving.routes import furnish
from avskrift.serving.settings import Settings, from_environment
from avskrift.whisper.package import ModelPackage, open_package
from avskrift.whisper.transcript import Transcriber

DEFAULT_PORT = 8080  # where KServe's controller expects a predictor
_HIGHEST_PORT = 65535
_BACKLOG = 2048
_log = Log("serving")


def open_ctranslate2(package: ModelPackage, settings: Settings) -> Transcriber:
    """The engine that Avskrift serves and evaluates with."""
    from avskrift.whisper.transcriber import load_transcriber  # loads CTranslate2; a taken port is told without waiting for it

    return load_transcriber(package, device=settings.device, threads=settings.threads)


def serve(
    package: Path,
    *,
    name: str = "avskrift",
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    model_version: str = "",
    open_transcriber: OpenTranscriber = open_ctranslate2,
) -> None:
    """Serve the package folder over HTTP; return once SIGTERM or Ctrl-C asked for an end and requests in flight had theirs.

    The address is bound before the model is loaded and answers only after it is. ``port`` 0 takes a free one, which the
    log's ``serving.ready`` names. Call it from the main thread: it handles signals.

    Raises:
        PortTakenError: another process listens there.
        UsageError: a host, port or ``AVSKRIFT_*`` variable that cannot be used.
        PackageError, IntegrityError: the folder is no model package, or not the one that its ``model.json`` describes.
    """
    settings = from_environment()
    library_logs.calm()
    with _leaving_on_signals(), _bound(host, port) as listener:
        model = TranscriptionModel(name, open_package(package), settings=settings, open_transcriber=open_transcriber, version=model_version)
        model.load()
        _Server(listener, settings).start([model])
    _log.info("serving.stopped")


class _Server(ModelServer):  # type: ignore[misc]  # kserve has no types
    """KServe's model server on a socket that is already bound; KServe itself listens on every interface of the machine."""

    def __init__(self, listener: socket.socket, settings: Settings) -> None:
        super().__init__(http_port=listener.getsockname()[1], workers=1, enable_grpc=False, enable_latency_logging=False)
        self._listener = listener
        self._settings = settings

    def start(self, models: list[TranscriptionModel]) -> None:
        for model in models:
            self.register_model(model)
        _listen(self._listener)
        host, port = self._listener.getsockname()[:2]
        _log.info("serving.ready", models=len(models), host=host, port=port)
        rest = _Rest(
            models[0],
            "kserve.model_server:app",
            self.dataplane,
            self.model_repository_extension,
            self.http_port,
            grace_period=self._settings.grace_seconds,
            event_loop="asyncio",
            timeout_keep_alive=self.timeout_keep_alive,
            ssl_certfile=self.ssl_certfile,
            ssl_keyfile=self.ssl_keyfile,
        )
        rest.run(sockets=[self._listener])


class _Rest(RESTServer):  # type: ignore[misc]  # kserve has no types
    """KServe's HTTP server with our routes, guards and error answers added last, so that they win over KServe's."""

    def __init__(self, model: TranscriptionModel, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._model = model

    def create_application(self) -> None:
        super().create_application()
        furnish(app, self._model)


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to the address but not yet listening: whoever connects is refused, not kept waiting."""
    if not 0 <= port <= _HIGHEST_PORT:
        raise UsageError(f"port {port} does not exist; choose one from 1 to {_HIGHEST_PORT} with --port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise UsageError(f"{host!r} is no address of this machine; use --host 127.0.0.1, or 0.0.0.0 for every interface") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the last server's closed connections do not hold the port
        with _naming_the_port(host, port):
            listener.bind(address)
        yield listener


def _listen(listener: socket.socket) -> None:
    """Two sockets may be bound to one address; only one may listen."""
    host, port = listener.getsockname()[:2]
    with _naming_the_port(host, port):
        listener.listen(_BACKLOG)


@contextmanager
def _naming_the_port(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(
                f"port {port} on {host} is taken by another process; choose another with --port, or stop that one"
            ) from error
        if error.errno == errno.EACCES:
            raise UsageError(f"port {port} is not for this user to open; choose one above 1023 with --port") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"{host!r} is no address of this machine; use --host 127.0.0.1, or 0.0.0.0 for every interface") from error
        raise


class _Leave(SystemExit):
    """Raised by a signal; 0, since ending a server is what SIGTERM and Ctrl-C are for."""


@contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """Make SIGTERM and SIGINT end the body.

    While uvicorn runs it handles them itself: it lets requests in flight finish, then raises the signal again, for us.
    """
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _Leave:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise _Leave(0)
