"""Which cluster is meant, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from api_server import ApiServer, Refuses, api_server
from cluster_world import PATIENCE, TOKEN, write_kubeconfig

from avskrift.deployment import cluster as clusters
from avskrift.deployment import inference_service
from avskrift.deployment.cluster import connect
from avskrift.errors import ClusterError, UsageError


@pytest.fixture(autouse=True)
def _no_cluster_of_the_person_who_runs_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(variable, raising=False)


def test_the_kubeconfig_is_found_by_option_by_variable_and_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".kube" / "config"
    file.parent.mkdir()
    write_kubeconfig(file, "http://127.0.0.1:9")
    for found in (connect(), connect(kubeconfig=str(file)), connect(context="test")):
        assert (found.namespace, found.server) == ("speech", "http://127.0.0.1:9")
    write_kubeconfig(tmp_path / "second", "http://127.0.0.1:10", namespace="tal")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'second'}:{file}")
    assert (connect().namespace, connect().server) == ("tal", "http://127.0.0.1:10")


def test_a_context_brings_its_namespace_and_an_option_wins(tmp_path: Path) -> None:
    write_kubeconfig(tmp_path / "config", "http://127.0.0.1:9")
    given = {"kubeconfig": str(tmp_path / "config"), "context": "other"}
    assert connect(**given).namespace == "elsewhere"
    assert connect(**given, namespace="mine").namespace == "mine"


def test_inside_a_pod_the_pods_own_account_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes.config import incluster_config

    for name, value in {"token": "t", "namespace": "pods-own\n", "ca.crt": "-----BEGIN CERTIFICATE-----"}.items():
        (tmp_path / name).write_text(value)
    monkeypatch.setattr(clusters, "_ACCOUNT", tmp_path)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr("kubernetes.client.rest.RESTClientObject.__init__", lambda *_, **__: None)
    found = connect()
    assert (found.namespace, found.server) == ("pods-own", "https://10.0.0.1:443")


def test_without_a_kubeconfig_it_is_said_where_one_was_sought(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"no cluster is known: {tmp_path}/\.kube/config is not there; give a kubeconfig"):
        connect()
    with pytest.raises(UsageError, match="no cluster is known: /nowhere is not there"):
        connect(kubeconfig="/nowhere")


@pytest.mark.parametrize(
    "text", ["", "no: [kubeconfig", "- 1\n- 2\n", "apiVersion: v1\nkind: Config\n", "current-context: moon\ncontexts: []\n"]
)
def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(UsageError, match=r"the kubeconfig .*config cannot be used \(.+\); `kubectl config view`"):
        connect(kubeconfig=str(tmp_path / "config"))


def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_kubeconfig(tmp_path / "config", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="moon"):
        connect(kubeconfig=str(tmp_path / "config"), context="moon")


def test_an_api_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_kubeconfig(tmp_path / "config", "http://127.0.0.1:9")
    found = connect(kubeconfig=str(tmp_path / "config"), patience=PATIENCE)
    with pytest.raises(ClusterError, match=r"the Kubernetes API at http://127\.0\.0\.1:9 did not answer 4 times \(.*refused.*\); check"):
        inference_service.read(found, "tal")


@pytest.mark.parametrize(("status", "said"), [(401, "needs the Role"), (403, "needs the Role"), (418, "refused with 418")])
def test_refusals_are_told_without_the_token(tmp_path: Path, status: int, said: str) -> None:
    with api_server() as server:
        assert isinstance(server, ApiServer)
        write_kubeconfig(tmp_path / "config", server.url)
        server.refuses = [Refuses(status)]
        with pytest.raises(ClusterError, match=said) as failure:
            inference_service.read(connect(kubeconfig=str(tmp_path / "config"), patience=PATIENCE), "tal")
    assert TOKEN not in str(failure.value)
