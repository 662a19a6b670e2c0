"""The optional MLflow: its store, run with the chart's own arguments, lets its keys in and nobody else; its server knows its names."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from mlflow.server.security_utils import is_allowed_host_header
from rendering import of_kind, values

_WEED = Path(sys.executable).with_name("weed")
_KEYS = {"AWS_ACCESS_KEY_ID": "avskrift", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
_PATIENCE_SECONDS = 60.0
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")


def _spec(case: str, kind: str, component: str) -> dict[str, Any]:
    (found,) = (each for each in of_kind(case, kind) if each["metadata"]["labels"]["app.kubernetes.io/component"] == component)
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SeaweedFS as the chart starts it, but for the folder and the ports, which others here may hold."""
    folder = tmp_path_factory.mktemp("store")
    (container,) = _spec("kind", "StatefulSet", "object-store")["containers"]
    assert {variable["name"] for variable in container["env"]} == set(_KEYS)
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    line = [str(_WEED), *container["args"], f"-dir={folder}", *(f"-{name}={port}" for name, port in ports.items())]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(line, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=os.environ | _KEYS)
    try:
        url = f"http://127.0.0.1:{ports['s3.port']}"
        _wait(f"{url}{container['readinessProbe']['httpGet']['path']}")
        yield url
    finally:
        process.kill()
        process.wait()
        for port in ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()


def test_the_bucket_is_made_by_the_init_container_and_a_second_time_nothing_happens(store: str) -> None:
    (container,) = _spec("kind", "Deployment", "mlflow")["initContainers"]
    bucket = values("kind")["mlflow"]["bucket"]
    for _ in range(2):
        environment = os.environ | _KEYS | {"AWS_ENDPOINT_URL_S3": store, "AWS_DEFAULT_REGION": "us-east-1", "BUCKET": bucket}
        subprocess.run([sys.executable, "-c", *container["args"]], env=environment, check=True, timeout=60)
    client = _client(store, **_KEYS)
    client.put_object(Bucket=bucket, Key="model.json", Body=b"{}")
    assert client.get_object(Bucket=bucket, Key="model.json")["Body"].read() == b"{}"


@pytest.mark.parametrize(
    "keys",
    [{"AWS_ACCESS_KEY_ID": "avskrift", "AWS_SECRET_ACCESS_KEY": "wrong"}, {"AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "wrong"}],
)
def test_the_store_refuses_other_keys(store: str, keys: dict[str, str]) -> None:
    with pytest.raises(ClientError):
        _client(store, **keys).list_buckets()


def test_the_store_refuses_who_has_no_keys(store: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(store, timeout=10)


@pytest.mark.parametrize(("case", "namespace"), [("kind", "kubeflow"), ("air-gapped", "speech")])
def test_mlflow_answers_to_its_services_names_and_to_no_others(case: str, namespace: str) -> None:
    (container,) = _spec(case, "Deployment", "mlflow")["containers"]
    environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    allowed = environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    service = f"avskrift-mlflow.{namespace}"
    for host in (
        "avskrift-mlflow:5000",
        f"{service}:5000",
        f"{service}.svc:5000",
        f"{service}.svc.cluster.local:5000",
        "localhost:5000",
        *values(case)["mlflow"]["extraHosts"],
    ):
        assert is_allowed_host_header(allowed, host), host
    for host in ("attacker.example", "attacker.example:5000", "avskrift-mlflow.attacker.example:5000"):
        assert not is_allowed_host_header(allowed, host), host


def test_no_password_is_part_of_an_address() -> None:
    (container,) = _spec("kind", "Deployment", "mlflow")["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    assert environment["MLFLOW_BACKEND_STORE_URI"]["value"] == "postgresql://mlflow@avskrift-postgresql:5432/mlflow"
    assert environment["PGPASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "avskrift-postgresql", "key": "POSTGRES_PASSWORD"}


def _client(store: str, *, AWS_ACCESS_KEY_ID: str, AWS_SECRET_ACCESS_KEY: str) -> Any:  # noqa: N803 - the variables' names
    return boto3.client(
        "s3",
        endpoint_url=store,
        aws_access_key_id=AWS_ACCESS_KEY_ID,
        aws_secret_access_key=AWS_SECRET_ACCESS_KEY,
        region_name="us-east-1",
        config=Config(signature_version="s3v4", retries={"max_attempts": 0}),
    )


def _wait(url: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.1)
    raise AssertionError(f"{url} did not answer")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
