"""`--port-forward` with a kubectl that stands in for the real one: it takes the same words, and listens where it is told to."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from kfp_replay import Replay
from small_pipeline import Command

from avskrift.errors import KubeflowError, UsageError
from avskrift_pipelines.port_forward import PortForward

_KUBECTL = """\
#!{python}
import os, pathlib, socket, sys, threading

pathlib.Path(os.environ["KUBECTL_ASKED"]).open("a").write(" ".join(sys.argv[1:]) + "\\n")
refusal = os.environ.get("KUBECTL_SAYS", "")
service = next(word for word in sys.argv if word.startswith("svc/"))
if refusal and (not os.environ.get("KUBECTL_MISSES") or service == os.environ["KUBECTL_MISSES"]):
    sys.exit(refusal)
port = int(sys.argv[-1].split(":")[0])
listener = socket.create_server(("127.0.0.1", port))
print(f"Forwarding from 127.0.0.1:{{port}} -> 3000", flush=True)

def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass

while True:
    client, _ = listener.accept()
    server = socket.create_connection(("127.0.0.1", int(os.environ["KUBECTL_TARGET"])))
    for pair in ((client, server), (server, client)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


@pytest.fixture
def asked(tmp_path: Path, kfp: Replay, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of what kubectl was asked, which is the first on the path of this process and of commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "kubectl"
    script.write_text(_KUBECTL.format(python=sys.executable), encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    more = {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "KUBECTL_ASKED": str(tmp_path / "asked"),
        "KUBECTL_TARGET": kfp.url.rpartition(":")[2],
    }
    environment.update(more)
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "asked"


def _kubectls() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "port-forward" in " ".join(child.cmdline())]


def test_a_run_goes_through_a_tunnel_that_is_closed_afterwards(kfp: Replay, asked: Path, avskrift: Command, pipeline: Path) -> None:
    context = ("--kube-context", "kind-test", "--kfp-namespace", "pipelines", "--ui", "https://kubeflow.example.org")
    ended = avskrift("submit", pipeline, "--port-forward", *context, "--poll-seconds", 0.05, "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["kfp"].startswith("https://kubeflow.example.org/#/runs/details/")
    assert len(kfp.runs) == 1
    (line,) = asked.read_text(encoding="utf-8").splitlines()
    port = line.rpartition(" ")[2].partition(":")[0]
    said = "--context kind-test port-forward --namespace pipelines --address 127.0.0.1 svc/ml-pipeline-ui"
    assert line == f"{said} {port}:80"
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.laddr.port == int(port)]
    assert listening == [], "kubectl has gone with the command"


def test_the_page_is_named_with_what_opens_the_way_to_it_once_the_tunnel_is_gone(asked: Path, avskrift: Command, pipeline: Path) -> None:
    ended = avskrift("submit", pipeline, "--port-forward", "--no-wait")
    opened_by = "kubectl port-forward --namespace kubeflow svc/ml-pipeline-ui 8080:80"
    assert re.search(rf"KFP     http://127\.0\.0\.1:8080/#/runs/details/\S+   while `{opened_by}` runs", ended.stdout), ended.stdout


def test_where_kfp_has_no_pages_its_api_is_forwarded(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL_SAYS", 'Error from server (NotFound): services "ml-pipeline-ui" not found')
    monkeypatch.setenv("KUBECTL_MISSES", "svc/ml-pipeline-ui")
    with PortForward():
        assert "svc/ml-pipeline " in asked.read_text(encoding="utf-8").splitlines()[-1]
    assert _kubectls() == []


def test_where_there_is_no_kfp_the_namespace_is_asked_for(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL_SAYS", 'Error from server (NotFound): services "ml-pipeline" not found')
    with pytest.raises(KubeflowError, match=r"no Kubeflow Pipelines in namespace kubeflow .*--kfp-namespace"), PortForward():
        pass


def test_what_kubectl_says_is_passed_on(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL_SAYS", 'error: context "kind-tset" does not exist')
    with pytest.raises(KubeflowError, match=r'ended \(error: context "kind-tset" does not exist\); check the kubeconfig'), PortForward():
        pass
    assert _kubectls() == []


def test_a_tunnel_that_ended_is_opened_again_at_the_same_address(asked: Path) -> None:
    with PortForward() as tunnel:
        host = tunnel.host
        tunnel.mend()
        assert len(asked.read_text(encoding="utf-8").splitlines()) == 1, "nothing is done to one that lives"
        (kubectl,) = _kubectls()
        kubectl.send_signal(signal.SIGKILL)
        kubectl.wait(timeout=10)
        tunnel.mend()
        assert (tunnel.host, len(_kubectls())) == (host, 1)
    assert _kubectls() == []


def test_without_kubectl_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="needs kubectl, which is not on the PATH; install it, or give KFP's address with --host"):
        PortForward().__enter__()


def test_one_way_to_the_server_is_enough_and_none_is_too_few(kfp: Replay, avskrift: Command, pipeline: Path) -> None:
    def said(*arguments: object) -> subprocess.CompletedProcess[str]:
        ended = avskrift("submit", pipeline, *arguments)
        assert ended.returncode == 2
        return ended

    assert "--port-forward makes its own address" in said("--host", kfp.url, "--port-forward").stderr
    assert "where is KFP? Give --host" in said().stderr
    kfp.multi_user = True
    assert "shared by several users" in said("--host", kfp.url).stderr
