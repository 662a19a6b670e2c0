"""The Kubernetes API of one namespace: what is asked, asked again, and what its refusals mean. The only importer of kubernetes.

Every request bears being repeated: reads, server-side applies, and writes that name the version which they replace.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avskrift.errors import ClusterError, ConflictError, UsageError
from avskrift.logs import Log, redact

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

FIELD_MANAGER = "avskrift"
Resource = dict[str, Any]
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # where Kubernetes puts a pod's own token and namespace
_WORTH_ANOTHER_TRY = frozenset({429, 500, 502, 503, 504})
_UNKNOWN_FIELD = "field not declared in schema"  # of a server-side apply; the API server calls it an error of its own, 500
_LONGEST_REASON = 500
_log = Log("cluster")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a request may take and how often it is repeated: ``tries`` in all, the wait between them doubles. Seconds."""

    tries: int = 5
    first_wait_s: float = 0.5
    connect_s: float = 5.0
    answer_s: float = 30.0


class _Refusal(Exception):  # noqa: N818  # never leaves this module
    """An answer other than 2xx. ``named``: it speaks of one object, not of a kind of object that the cluster does not have."""

    def __init__(self, *, status: int, message: str, causes: tuple[str, ...] = (), named: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.causes, self.named = status, message, causes, named


class Cluster:
    """One namespace of one cluster; :func:`connect` opens it. For several threads."""

    def __init__(self, api: ApiClient, *, namespace: str, server: str, patience: Patience | None = None) -> None:
        self._api = api
        self.namespace, self.server = namespace, server
        self._patience = patience or Patience()

    def get(self, path: str) -> Resource | None:
        """The object at ``path``; None where there is none.

        Raises:
            ClusterError: the API did not answer or refused, or the cluster does not know this kind of object.
        """
        try:
            return self._ask("GET", path)
        except _Refusal as refusal:
            if refusal.status == 404 and refusal.named:
                return None
            raise self._error(path, refusal) from refusal

    def find(self, path: str, *, selector: str = "") -> list[Resource]:
        """The objects at ``path`` whose labels fit ``selector``.

        Raises:
            ClusterError: as :meth:`get`.
        """
        try:
            return self._ask("GET", path, query={"labelSelector": selector} if selector else {}).get("items") or []
        except _Refusal as refusal:
            raise self._error(path, refusal) from refusal

    def create(self, path: str, body: Resource) -> Resource:
        """Make an object.

        Raises:
            ConflictError: there is one of that name.
            ClusterError: the API did not answer or refused.
        """
        return self._write("POST", path, body)

    def replace(self, path: str, body: Resource) -> Resource:
        """Put ``body`` in the place of the object whose ``resourceVersion`` it names.

        Raises:
            ConflictError: the object was changed since.
            ClusterError: the API did not answer or refused.
        """
        return self._write("PUT", path, body)

    def apply(self, path: str, manifest: Resource, *, force: bool) -> Resource:
        """Server-side apply, strict about fields that the cluster does not know; ``force`` takes over what others manage.

        Raises:
            ConflictError: others manage fields that ``manifest`` sets; names them.
            ClusterError: the API did not answer or refused.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": str(force).lower()}
        return self._write("PATCH", path, manifest, query=query, content_type="application/apply-patch+yaml")

    def _write(self, method: str, path: str, body: Resource, **how: Any) -> Resource:
        try:
            return self._ask(method, path, body=body, **how)
        except _Refusal as refusal:
            if refusal.status == 409:
                raise ConflictError("; ".join(refusal.causes) or refusal.message) from refusal
            raise self._error(path, refusal) from refusal

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Resource | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Resource:
        patience, reason = self._patience, ""
        for attempt in range(patience.tries):
            if attempt:
                wait = patience.first_wait_s * 2.0 ** (attempt - 1) * (1 + random.random() / 4)
                _log.warning("cluster.asked_again", attempt=attempt + 1, reason=reason, seconds=wait)
                time.sleep(wait)
            try:
                return self._ask_once(method, path, body, query or {}, content_type)
            except _Refusal as refusal:
                if refusal.status not in _WORTH_ANOTHER_TRY or _UNKNOWN_FIELD in refusal.message:
                    raise
                reason = f"{refusal.status} {refusal.message}".strip()
            except OSError as error:
                reason = _first_line(error)
        raise ClusterError(
            f"the Kubernetes API at {self.server} did not answer {patience.tries} times ({reason}); "
            "check that it is up and that this machine reaches it"
        )

    def _ask_once(self, method: str, path: str, body: Resource | None, query: Mapping[str, str], content_type: str) -> Resource:
        from kubernetes.client.exceptions import ApiException

        try:
            answer = self._api.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                response_type="object",
                _return_http_data_only=True,
                _request_timeout=(self._patience.connect_s, self._patience.answer_s),
            )
        except ApiException as error:
            raise _refusal(error.status or 0, error.body or error.reason or "") from error
        except Exception as error:
            # The client lets errors of the library below it through, which is no dependency of ours to import.
            if type(error).__module__.split(".")[0] != "urllib3":
                raise
            raise OSError(_first_line(error)) from error
        if not isinstance(answer, dict):
            raise _Refusal(status=502, message="it answered with what is no object of Kubernetes")
        return answer

    def _error(self, path: str, refusal: _Refusal) -> ClusterError:
        where = f"the Kubernetes API at {self.server}"
        if refusal.status in (401, 403):
            return ClusterError(f"{where} refused ({refusal.message}); this account needs the Role of charts/avskrift, deploy-role.yaml")
        if refusal.status == 404:
            kind = path.split("/namespaces/")[0].removeprefix("/apis/").removeprefix("/api/")
            return ClusterError(f"{where} does not know {kind} ({refusal.message}); is KServe installed there?")
        return ClusterError(f"{where} refused with {refusal.status} ({refusal.message})")


def connect(*, context: str = "", namespace: str = "", kubeconfig: str = "", patience: Patience | None = None) -> Cluster:
    """The cluster of ``context`` in a kubeconfig; inside a pod, where none is named, the pod's own.

    ``kubeconfig`` is a file, else ``KUBECONFIG``, else ``~/.kube/config``. ``namespace`` is else the context's or the pod's own.

    Raises:
        UsageError: no kubeconfig, one that cannot be used, or no such context.
    """
    from kubernetes.client import ApiClient, Configuration

    settings = Configuration()
    settings.retries = False  # _ask repeats, and tells of it
    own = _load(settings, context=context, kubeconfig=kubeconfig)
    return Cluster(ApiClient(settings), namespace=namespace or own or "default", server=redact(settings.host), patience=patience)


def _load(settings: Any, *, context: str, kubeconfig: str) -> str:
    """Fill in ``settings``; the namespace that goes with them, "" where none does."""
    from kubernetes import config

    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and (_ACCOUNT / "token").is_file()
    if in_pod and not (context or kubeconfig or os.environ.get("KUBECONFIG")):
        config.load_incluster_config(client_configuration=settings)
        namespace = _ACCOUNT / "namespace"
        return namespace.read_text(encoding="utf-8").strip() if namespace.is_file() else ""
    file = kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    if not any(Path(name).is_file() for name in file.split(os.pathsep)):
        raise UsageError(f"no cluster is known: {file} is not there; give a kubeconfig with --kubeconfig or KUBECONFIG")
    try:
        config.load_kube_config(config_file=file, context=context or None, client_configuration=settings)
        contexts, active = config.list_kube_config_contexts(config_file=file)
    except Exception as error:  # it lets errors of YAML, base64 and its own through
        raise UsageError(
            f"the kubeconfig {file} cannot be used ({_first_line(error)}); `kubectl config view` shows what is in it"
        ) from error
    chosen = next((entry for entry in contexts if entry["name"] == context), active)
    return str(chosen.get("context", {}).get("namespace") or "")


def wait_out(step: Callable[[], Resource], *, until: float, pause_s: float) -> Resource:
    """What ``step`` answers once the API answers at all, asked again until ``until`` on the monotonic clock.

    Raises:
        ClusterError: it did not until then.
    """
    while True:
        try:
            return step()
        except ClusterError:
            if time.monotonic() >= until:
                raise
            time.sleep(pause_s)


def _refusal(status: int, body: str | bytes) -> _Refusal:
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    try:
        said = json.loads(text)
        details = said.get("details") or {}
        causes = tuple(_cause(cause) for cause in details.get("causes") or ())
        return _Refusal(
            status=status, message=_short(str(said.get("message") or "")), causes=causes, named=bool(details.get("name") or causes)
        )
    except (ValueError, AttributeError):
        return _Refusal(status=status, message=_short(text))


def _cause(cause: Mapping[str, str]) -> str:
    return _short(" ".join(filter(None, (cause.get("field", "").lstrip("."), cause.get("message", "")))))


def _short(text: str) -> str:
    return redact(" ".join(text.split()))[:_LONGEST_REASON]


def _first_line(error: BaseException) -> str:
    lines: Iterable[str] = str(error).strip().splitlines()
    return _short(next(iter(lines), "") or type(error).__name__)
