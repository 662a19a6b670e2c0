"""KServe's model server around one model package, over HTTP and gRPC, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from kserve import InferRequest, ModelServer
from kserve.constants.constants import INFERENCE_CONTENT_LENGTH_HEADER
from kserve.model_server import app
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.server import RESTServer, _RefreshingServer
from kserve.protocol.rest.v2_datamodels import InferenceRequest

from avskrift.errors import IntegrityError
from avskrift.logs import Log
from avskrift.serving import library_logs, tracing
from avskrift.serving.addresses import bound, listen
from avskrift.serving.grpc_server import OPTION as GRPC_OPTION
from avskrift.serving.grpc_server import Certificate, GrpcServer, Inference
from avskrift.serving.model import OpenTranscriber, TranscriptionModel
from avskrift.serving.openapi import describe
from avskrift.serving.payloads import v2_binary_request
from avskrift.serving.routes import furnish
from avskrift.serving.settings import Settings, from_environment
from avskrift.whisper.package import ModelPackage, open_package
from avskrift.whisper.windows import WindowTranscriber

DEFAULT_PORT = 8080  # where KServe's controller expects a predictor
_log = Log("serving")


def open_ctranslate2(package: ModelPackage, settings: Settings) -> WindowTranscriber:
    """The engine that Avskrift serves and evaluates with."""
    from avskrift.whisper.transcriber import load_transcriber  # loads CTranslate2; a taken port is told without waiting for it

    return load_transcriber(package, device=settings.device, threads=settings.threads)


def serve(
    package: Path,
    *,
    name: str = "avskrift",
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    grpc_port: int | None = None,
    model_version: str = "",
    package_sha256: str = "",
    open_transcriber: OpenTranscriber = open_ctranslate2,
) -> None:
    """Serve the package folder over HTTP, and over gRPC too where ``grpc_port`` is given; no other than ``package_sha256``, if given.

    Returns once SIGTERM or Ctrl-C asked for an end and requests in flight had theirs. Addresses are bound before the model
    is loaded and answer only after it is. A port of 0 takes a free one, which the log's ``serving.ready`` names. Call it
    from the main thread: it handles signals.

    Raises:
        PortTakenError: another process listens there.
        UsageError: a host, port or ``AVSKRIFT_*`` variable that cannot be used.
        PackageError, IntegrityError: the folder is no model package, not the one that its ``model.json`` describes, or not the one
            that was asked for.
    """
    settings = from_environment()
    library_logs.calm()
    grpc_address = nullcontext() if grpc_port is None else bound(host, grpc_port, option=GRPC_OPTION)
    with _leaving_on_signals(), bound(host, port, option="--port") as listener, grpc_address as grpc_listener:
        opened = open_package(package)
        _check_identity(opened, package_sha256)
        model = TranscriptionModel(name, opened, settings=settings, open_transcriber=open_transcriber, version=model_version)
        with tracing.exported(), closing(model):
            model.load()
            _Server(listener, settings).start([model], grpc_address=grpc_listener)
    _log.info("serving.stopped")


def _check_identity(package: ModelPackage, wanted: str) -> None:
    """``model.json`` is sealed and names every file's sha256, which loading checks: the seal stands for all bytes."""
    found = package.description.sha256
    if wanted not in ("", found):
        raise IntegrityError(
            f"{package.folder} holds the package with sha256 {found}, not {wanted}, which the registry holds of this version; "
            "find out who changed what lies there, and put the registered package back"
        )


class _Server(ModelServer):  # type: ignore[misc]  # kserve has no types
    """KServe's model server on addresses that are already bound; KServe itself listens on every interface of the machine."""

    def __init__(self, listener: socket.socket, settings: Settings) -> None:
        super().__init__(http_port=listener.getsockname()[1], workers=1, enable_grpc=False, enable_latency_logging=False)
        self.dataplane = _DataPlane(model_registry=self.registered_models)
        self._listener = listener
        self._settings = settings

    def start(self, models: list[TranscriptionModel], *, grpc_address: socket.socket | None = None) -> None:
        for model in models:
            self.register_model(model)
        listen(self._listener, option="--port")
        rest = _Rest(
            models[0],
            self._grpc(grpc_address, models[0]) if grpc_address else None,
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

    def _grpc(self, reserved: socket.socket, model: TranscriptionModel) -> GrpcServer:
        encrypted = self.ssl_certfile and self.ssl_keyfile
        certificate = Certificate(certificate=Path(self.ssl_certfile), key=Path(self.ssl_keyfile)) if encrypted else None
        servicer = Inference(self.dataplane, self.model_repository_extension, model.admission)
        return GrpcServer(reserved, servicer, self._settings, certificate=certificate)


class _DataPlane(DataPlane):  # type: ignore[misc]  # kserve has no types
    """KServe's, which also says which version of the registry's answers, and takes recordings as binary tensors."""

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        version = self.get_model_from_registry(model_name).version
        return {**await super().model_metadata(model_name), "versions": [version] if version else None}

    def decode_inference_request(self, body: bytes | InferenceRequest, headers: dict[str, str], model_name: str) -> InferRequest:
        length = headers.get(INFERENCE_CONTENT_LENGTH_HEADER)
        if isinstance(body, bytes) and length is not None:
            return v2_binary_request(body, length, model_name)
        return super().decode_inference_request(body, headers, model_name)


class _Rest(RESTServer):  # type: ignore[misc]  # kserve has no types
    """KServe's HTTP server with our routes, guards and error answers added last, so that they win over KServe's."""

    def __init__(self, model: TranscriptionModel, grpc: GrpcServer | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._model = model
        self._server = _BothServers(self.config, grpc)

    def create_application(self) -> None:
        app.router.strict_content_type = False  # Triton's HTTP client sends JSON without saying so
        super().create_application()
        furnish(app, self._model)
        describe(app, model_name=self._model.name, settings=self._model.settings)


class _BothServers(_RefreshingServer):  # type: ignore[misc]  # kserve has no types
    """KServe's uvicorn, which opens and closes gRPC's door with its own: both share one event loop and one time of grace."""

    def __init__(self, config: Any, grpc: GrpcServer | None) -> None:
        super().__init__(config)
        self._grpc = grpc

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._grpc:
            await self._grpc.start()
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            _log.info("serving.ready", host=host, port=port, **({"grpc_port": self._grpc.port} if self._grpc else {}))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        closing = [super().shutdown(sockets)]
        if self._grpc:
            closing.append(self._grpc.stop(self.config.timeout_graceful_shutdown))
        await asyncio.gather(*closing)


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
