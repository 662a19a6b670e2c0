"""The options that say which Kubeflow Pipelines server is meant, and as whom it is asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avskrift.errors import UsageError
from avskrift_pipelines.kfp_access import (
    COOKIES_VARIABLE,
    HOST_VARIABLE,
    PAGE_VARIABLE,
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLE,
    access,
    own_namespace,
)

if TYPE_CHECKING:
    from avskrift_pipelines.kfp_server import PipelinesServer

_PANEL = "The KFP server"
_KFP_NAMESPACE, _PAGE_PORT = "kubeflow", 8080


def _option(help_: str, **more: Any) -> Any:
    return typer.Option(help=help_, rich_help_panel=_PANEL, show_default=False, **more)


Host = Annotated[str, _option("KFP's address, as `https://kubeflow.example.org/pipeline`.", envvar=HOST_VARIABLE)]
Token = Annotated[str, _option("A token that you have. Better in the variable, which no list of processes shows.", envvar=TOKEN_VARIABLE)]
TokenFile = Annotated[
    Path | None, _option("A file with a service account's token; read again for each request.", envvar=TOKEN_FILE_VARIABLE)
]
Cookies = Annotated[
    str, _option("A browser's cookies, as `authservice_session=...`, where KFP is behind a login.", envvar=COOKIES_VARIABLE)
]
Forward = Annotated[bool, _option("Reach KFP through `kubectl port-forward` instead of an address.")]
Context = Annotated[str, _option("With --port-forward: context of the kubeconfig; the current one by default.")]
KfpNamespace = Annotated[str, _option("With --port-forward: the namespace that KFP is installed in; kubeflow by default.")]
Namespace = Annotated[str, _option("Your namespace in a multi-user KFP; in a pod, the pod's by default.")]
Page = Annotated[str, _option("Where people open KFP, for links; the address by default.", envvar=PAGE_VARIABLE)]
CaCert = Annotated[Path | None, _option("Certificates (PEM) to trust, where the server's authority is your own.")]
VerifyTls = Annotated[bool, typer.Option("--verify-tls/--no-verify-tls", help="Check the server's certificate.", rich_help_panel=_PANEL)]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that an answer may take.", rich_help_panel=_PANEL)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What the options above were given."""

    host: str
    token: str
    token_file: Path | None
    cookies: str
    port_forward: bool
    kube_context: str
    kfp_namespace: str
    namespace: str
    page: str
    ca_cert: Path | None
    verify_tls: bool
    timeout: float

    @property
    def page_hint(self) -> str:
        """What must run for KFP's page to open; empty where it is open anyhow. The tunnel goes with the command."""
        if not self.port_forward or self.page:
            return ""
        context = f" --context {self.kube_context}" if self.kube_context else ""
        return f"kubectl{context} port-forward --namespace {self.kfp_namespace or _KFP_NAMESPACE} svc/ml-pipeline-ui {_PAGE_PORT}:80"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A server that answered; ``mend`` opens the way to it again, should it have closed."""

    server: PipelinesServer
    mend: Callable[[], None]


@contextmanager
def connected(options: ServerOptions) -> Iterator[Connection]:
    """The server that ``options`` name, while the way to it is open.

    Raises:
        UsageError: no address, two ways at once, or a multi-user server and no namespace.
        KubeflowError, AccessError: it did not answer, or does not let us in.
    """
    if options.port_forward and options.host:
        raise UsageError(f"--port-forward makes its own address; leave out --host (or unset {HOST_VARIABLE})")
    if not options.port_forward and not options.host:
        raise UsageError(f"where is KFP? Give --host https://..., set {HOST_VARIABLE}, or use --port-forward")
    if not options.port_forward:
        yield Connection(server=_server(options, options.host), mend=lambda: None)
        return
    from avskrift_pipelines.port_forward import PortForward

    with PortForward(namespace=options.kfp_namespace or _KFP_NAMESPACE, context=options.kube_context) as tunnel:
        yield Connection(server=_server(options, tunnel.host), mend=tunnel.mend)


def _server(options: ServerOptions, host: str) -> PipelinesServer:
    from avskrift_pipelines.kfp_server import PipelinesServer

    namespace = options.namespace or own_namespace(os.environ)
    server = PipelinesServer(
        access(
            host,
            page=options.page or (f"http://127.0.0.1:{_PAGE_PORT}" if options.port_forward else ""),
            namespace=namespace,
            token=options.token,
            token_file=options.token_file,
            cookies=options.cookies,
            ca_file=options.ca_cert,
            verify_tls=options.verify_tls,
            timeout_seconds=options.timeout,
        )
    )
    if server.multi_user() and not namespace:
        raise UsageError("this KFP is shared by several users, each with a namespace; name yours with --namespace")
    return server
