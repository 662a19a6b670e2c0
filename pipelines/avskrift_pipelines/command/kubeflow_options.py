"""The options that say which Kubeflow Pipelines server is meant, and as whom it is asked."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

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
_PAGE_PORT = 8080  # where the page is opened through a tunnel


def _option(help_: str, *, shown: bool = False, **more: Any) -> Any:
    return typer.Option(help=help_, rich_help_panel=_PANEL, show_default=shown, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Each field is an option of the commands that ask a server; see :func:`with_server_options`."""

    host: Annotated[str, _option("KFP's address, as `https://kubeflow.example.org/pipeline`.", envvar=HOST_VARIABLE)] = ""
    existing_token: Annotated[
        str, _option("A token that you have. Better in the variable, which no list of processes shows.", envvar=TOKEN_VARIABLE)
    ] = field(default="", repr=False)
    token_file: Annotated[
        Path | None, _option("A file with a service account's token; read again for each request.", envvar=TOKEN_FILE_VARIABLE)
    ] = None
    cookies: Annotated[
        str, _option("A browser's cookies, as `authservice_session=...`, where KFP is behind a login.", envvar=COOKIES_VARIABLE)
    ] = field(default="", repr=False)
    port_forward: Annotated[bool, _option("Reach KFP through `kubectl port-forward` instead of an address.")] = False
    kube_context: Annotated[str, _option("With --port-forward: context of the kubeconfig; the current one by default.")] = ""
    kfp_namespace: Annotated[str, _option("With --port-forward: the namespace that KFP is installed in.", shown=True)] = "kubeflow"
    namespace: Annotated[str, _option("Your namespace in a multi-user KFP; in a pod, the pod's by default.")] = ""
    ui: Annotated[str, _option("Where people open KFP, for links; the address by default.", envvar=PAGE_VARIABLE)] = ""
    ca_cert: Annotated[Path | None, _option("Certificates (PEM) to trust, where the server's authority is your own.")] = None
    verify_tls: Annotated[bool, _option("Check the server's certificate.", shown=True)] = True
    timeout: Annotated[float, _option("Seconds that an answer may take.", shown=True, min=0.1)] = 60.0

    @property
    def page_hint(self) -> str:
        """What must run for KFP's page to open; empty where it is open anyhow. The tunnel goes with the command."""
        if not self.port_forward or self.ui:
            return ""
        context = f" --context {self.kube_context}" if self.kube_context else ""
        return f"kubectl{context} port-forward --namespace {self.kfp_namespace} svc/ml-pipeline-ui {_PAGE_PORT}:80"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A server that answered; ``mend`` opens the way to it again, should it have closed."""

    server: PipelinesServer
    mend: Callable[[], None]


def with_server_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with an option for each field of :class:`ServerOptions` in place of its parameter ``server``, which it is given."""
    hints, own = get_type_hints(command, include_extras=True), inspect.signature(command).parameters.values()
    kinds = get_type_hints(ServerOptions, include_extras=True)
    options = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=kinds[one.name])
        for one in fields(ServerOptions)
    ]
    kept = [one.replace(annotation=hints[one.name], kind=one.KEYWORD_ONLY) for one in own if one.name != "server"]
    signature = inspect.Signature([*kept, *options])

    @functools.wraps(command)
    def parsed(**given: Any) -> None:
        bound = signature.bind(**given)
        bound.apply_defaults()
        values = dict(bound.arguments)
        server = ServerOptions(**{one.name: values.pop(one.name) for one in options})
        command(server=server, **values)

    setattr(parsed, "__signature__", signature)  # noqa: B010 - mypy knows no such attribute of a function
    parsed.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    return parsed


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

    with PortForward(namespace=options.kfp_namespace, context=options.kube_context) as tunnel:
        yield Connection(server=_server(options, tunnel.host), mend=tunnel.mend)


def _server(options: ServerOptions, host: str) -> PipelinesServer:
    from avskrift_pipelines.kfp_server import PipelinesServer

    namespace = options.namespace or own_namespace(os.environ)
    server = PipelinesServer(
        access(
            host,
            page=options.ui or (f"http://127.0.0.1:{_PAGE_PORT}" if options.port_forward else ""),
            namespace=namespace,
            token=options.existing_token,
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
