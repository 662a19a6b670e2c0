"""KServe's V2 protocol over gRPC, beside HTTP: the same model, the same limits, the same sentence for a failure."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
from grpc import StatusCode, aio
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as v2
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from avskrift.serving import metrics, tracing
from avskrift.serving.addresses import port_taken
from avskrift.serving.admission import Admission
from avskrift.serving.answers import Refusal, failure_of
from avskrift.serving.settings import Settings

OPTION = "--grpc-port"
_PROTOCOL = "grpc"  # in metrics and traces
_LEFT = 499  # counted, never sent: the call was cancelled
_OVERHEAD_BYTES = 64 << 10  # of a message besides the recordings: names, shapes, parameters
_STATUS_CODES: Mapping[int, StatusCode] = {
    HTTPStatus.NOT_FOUND: StatusCode.NOT_FOUND,
    HTTPStatus.TOO_MANY_REQUESTS: StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.NOT_IMPLEMENTED: StatusCode.UNIMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE: StatusCode.UNAVAILABLE,
    HTTPStatus.REQUEST_TIMEOUT: StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.GATEWAY_TIMEOUT: StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """PEM files, as KServe names them in ``KSERVE_TLS_CERT_FILE`` and ``KSERVE_TLS_KEY_FILE``."""

    certificate: Path
    key: Path


class GrpcServer:
    """Answers on the address that ``reserved`` is bound to.

    The reservation may not listen: gRPC takes no socket, only an address, and shares it as long as nobody listens there.
    """

    def __init__(
        self, reserved: socket.socket, servicer: InferenceServicer, settings: Settings, *, certificate: Certificate | None = None
    ) -> None:
        self._host, self.port = reserved.getsockname()[:2]
        self._family = reserved.family
        self._servicer = servicer
        self._settings = settings
        self._certificate = certificate
        self._server: aio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            PortTakenError: another process listens there.
        """
        longest = self._settings.max_upload_bytes + _OVERHEAD_BYTES
        options = [
            ("grpc.max_receive_message_length", longest),
            ("grpc.max_send_message_length", longest),
            ("grpc.so_reuseport", 0),  # with it, two servers would share one port and nobody would be told
        ]
        self._server = aio.server(interceptors=[_Failures()], options=options)
        v2.add_GRPCInferenceServiceServicer_to_server(self._servicer, self._server)
        try:
            self._add_port(self._server)
        except RuntimeError as error:
            raise port_taken(self._host, self.port, option=OPTION) from error
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls; those in flight are cancelled after ``grace_s``."""
        if self._server:
            await self._server.stop(grace_s)

    def _add_port(self, server: aio.Server) -> None:
        address = f"[{self._host}]:{self.port}" if self._family == socket.AF_INET6 else f"{self._host}:{self.port}"
        if self._certificate is None:
            server.add_insecure_port(address)
            return
        pair = (self._certificate.key.read_bytes(), self._certificate.certificate.read_bytes())
        server.add_secure_port(address, grpc.ssl_server_credentials([pair]))


class Inference(InferenceServicer):  # type: ignore[misc]  # kserve has no types
    """KServe's service, without what its HTTP routes here do not offer either, and no fuller than they are let be."""

    def __init__(self, data_plane: DataPlane, repository: ModelRepositoryExtension, admission: Admission) -> None:
        super().__init__(data_plane, repository)
        self._admission = admission

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name, as those below
        _refuse_version(request.version)
        return await super().ModelReady(request, context)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        _refuse_version(request.version)
        answer = await super().ModelMetadata(request, context)
        answer.versions.extend((await self._data_plane.model_metadata(request.name))["versions"] or ())
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        _refuse_version(request.model_version)
        sent = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        with tracing.request(_PROTOCOL, sent), self._admission.spooled(request.ByteSize()):
            return await super().ModelInfer(request, context)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        del request, context
        raise _not_offered("this server keeps the model that it was started with")

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        del request, context
        raise _not_offered("this server keeps the model that it was started with")


class _Failures(aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Ends a call that failed with a status and our sentence. A cancelled one is cancelled all the way down to the model.

    Calls to transcribe are counted, under the HTTP status that the same failure has there.
    """

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:  # no such method; gRPC says so itself
            return None

        counted = details.method.endswith("/ModelInfer")

        async def answering(request: Any, context: aio.ServicerContext) -> Any:
            began, status = time.monotonic(), _LEFT
            try:
                answer = await handler.unary_unary(request, context)
                status = int(HTTPStatus.OK)
            except Exception as error:
                failure = failure_of(error)
                status = failure.status
                metadata = tuple((name.lower(), value) for name, value in (failure.headers or {}).items())
                await context.abort(status_code(status), failure.message, trailing_metadata=metadata)
            finally:
                if counted:
                    metrics.REQUESTS.labels(_PROTOCOL, str(int(status))).inc()
                    metrics.REQUEST_SECONDS.observe(time.monotonic() - began)
            return answer

        return grpc.unary_unary_rpc_method_handler(
            answering, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


def status_code(status: int) -> StatusCode:
    """RESOURCE_EXHAUSTED calls for a retry, so a recording over the limit (413) is INVALID_ARGUMENT like all that never helps."""
    rest = StatusCode.INTERNAL if status >= HTTPStatus.INTERNAL_SERVER_ERROR else StatusCode.INVALID_ARGUMENT
    return _STATUS_CODES.get(status, rest)


def _refuse_version(version: str) -> None:
    if version:
        raise _not_offered("this server has one version of its model; leave the version out")


def _not_offered(message: str) -> Refusal:
    return Refusal(HTTPStatus.NOT_IMPLEMENTED, message)
