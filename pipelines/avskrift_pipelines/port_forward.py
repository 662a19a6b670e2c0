"""A way to Kubeflow Pipelines through ``kubectl port-forward``, for who has a kubeconfig and no address."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import urllib3

from avskrift.errors import KubeflowError, UsageError
from avskrift.logs import redact

_SERVICES = (("ml-pipeline-ui", 80), ("ml-pipeline", 8888))  # the first has the pages too, and is missing where KFP is without them
_HEALTH = "/apis/v2beta1/healthz"
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.2
_STOP_SECONDS = 5.0
_LONGEST_REASON = 300


class PortForward:
    """While open, ``host`` is an address of KFP on this machine. ``context`` is of the kubeconfig; its current one by default.

    kubectl's tunnels end by themselves after some idle or eventful hours: :meth:`mend` opens a new one at the same address.

    Raises:
        UsageError: kubectl is not installed.
        KubeflowError: kubectl could not, or KFP did not answer through it; what kubectl said is in the message.
    """

    def __init__(self, *, namespace: str = "kubeflow", context: str = "", kubectl: str = "kubectl") -> None:
        self._namespace, self._context = namespace, context
        self._kubectl = shutil.which(kubectl) or ""
        self._process: subprocess.Popen[bytes] | None = None
        self._said = Path()
        self._service = _SERVICES[0]
        self._port = 0

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> PortForward:
        if not self._kubectl:
            raise UsageError("--port-forward needs kubectl, which is not on the PATH; install it, or give KFP's address with --host")
        self._folder = tempfile.TemporaryDirectory(prefix="avskrift-port-forward-")
        self._said = Path(self._folder.name) / "said"
        try:
            self._open()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()
        self._folder.cleanup()

    def mend(self) -> None:
        """Open the tunnel again if kubectl has ended."""
        if self._process is None or self._process.poll() is not None:
            self._start(self._service)
            self._wait()

    def _open(self) -> None:
        refused = ""
        for service in _SERVICES:
            self._port = _free_port()
            self._start(service)
            try:
                self._wait()
            except _NoSuchServiceError as error:
                refused = str(error)
                continue
            self._service = service
            return
        raise KubeflowError(f"no Kubeflow Pipelines in namespace {self._namespace} ({refused}); name its namespace with --kfp-namespace")

    def _start(self, service: tuple[str, int]) -> None:
        self._stop()
        name, port = service
        context = ["--context", self._context] if self._context else []
        words = ["port-forward", "--namespace", self._namespace, "--address", "127.0.0.1", f"svc/{name}", f"{self._port}:{port}"]
        with self._said.open("wb") as said:
            # A session of its own: Ctrl-C is ours to answer, and the last questions still go through the tunnel.
            self._process = subprocess.Popen(
                [self._kubectl, *context, *words], stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )

    def _wait(self) -> None:
        """Until KFP answers through the tunnel."""
        process, deadline = self._process, time.monotonic() + _PATIENCE_SECONDS
        while process is not None and process.poll() is None:
            if self._answers():
                return
            if time.monotonic() > deadline:
                self._stop()
                raise KubeflowError(
                    f"KFP did not answer through kubectl port-forward in {_PATIENCE_SECONDS:.0f} s "
                    f"({self._last_word()}); look at its pods: kubectl get pods --namespace {self._namespace}"
                )
            time.sleep(_POLL_SECONDS)
        reason = self._last_word()
        if "not found" in reason and "services" in reason:
            raise _NoSuchServiceError(reason)
        raise KubeflowError(f"kubectl port-forward ended ({reason}); check the kubeconfig and --kube-context")

    def _answers(self) -> bool:
        try:
            answer = urllib3.request("GET", f"{self.host}{_HEALTH}", timeout=2.0, retries=False)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status < 500  # who must log in first has an answer too

    def _last_word(self) -> str:
        lines = [line for line in self._said.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return redact(lines[-1])[:_LONGEST_REASON] if lines else "it said nothing"

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class _NoSuchServiceError(KubeflowError):
    """kubectl found the cluster, and no service of that name."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
