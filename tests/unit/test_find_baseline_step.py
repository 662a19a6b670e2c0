"""Which model a candidate must beat, asked of a real MLflow on SQLite."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from avskrift.errors import ModelUnavailableError, RegistryError, StorageError, UsageError
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import MlflowRegistry, open_registry
from avskrift.registry.protocol import CHALLENGER, CHAMPION, RunKey
from avskrift.steps.find_baseline.component import find_baseline
from avskrift.steps.find_baseline.step import POD_VARIABLE, Config, Result, run
from avskrift.storage import objects
from avskrift.storage.door import fetch

BASE, NAME, SHA256 = "package:whisper-base", "whisper-sv", "c1" * 32
BASE_MODEL = Result(uri=BASE, kind="base model")


@pytest.fixture
def registry(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowRegistry:
    """The state folder's own registry, which holds nothing yet."""
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", POD_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    database = tmp_path / "avskrift-home" / "mlflow" / "mlflow.db"
    database.parent.mkdir(parents=True)
    shutil.copy(empty_database, database)
    return open_registry()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "pack age å"
    folder.mkdir()
    (folder / "model.json").write_text("{}", encoding="utf-8")
    return folder


def register(registry: MlflowRegistry, source: str, *, alias: str = "", sha256: str = SHA256, dataset: str = "") -> str:
    """A version with its package at ``source``, as register makes one; without its digest where ``sha256`` is empty."""
    run_name = f"run of {source}"
    labels = {tags.PIPELINE_RUN_ID: run_name} | ({tags.PACKAGE_SHA256: sha256} if sha256 else {})
    labels |= {tags.DATASET_FINGERPRINT: dataset} if dataset else {}
    run_id = registry.open_run(RunKey(pipeline_run_id=run_name, experiment="swedish"))
    version = registry.register(NAME, source, run_id, labels).version
    if alias:
        registry.set_alias(NAME, alias, version)
    return version


def config(**changes: str) -> Config:
    return Config(**({"base_model": BASE, "model_name": NAME} | changes))


def test_without_such_a_model_the_base_model_is_the_baseline(registry: MlflowRegistry) -> None:
    assert run(config()) == BASE_MODEL


def test_a_model_without_champion_leaves_the_base_model(registry: MlflowRegistry, package: Path) -> None:
    register(registry, str(package), alias=CHALLENGER)
    assert run(config()) == BASE_MODEL


def test_the_champion_is_the_baseline_and_can_be_fetched_without_mlflow(registry: MlflowRegistry, package: Path) -> None:
    register(registry, str(package), alias=CHAMPION)
    register(registry, "s3://bucket/newer", alias=CHALLENGER)
    found = run(config())
    assert (found.kind, found.version, found.package_sha256) == ("champion", "1", SHA256)
    assert fetch(found.uri) == package
    assert not found.uri.startswith("models:")


def test_another_models_champion_is_not_taken(registry: MlflowRegistry, package: Path) -> None:
    register(registry, str(package), alias=CHAMPION)
    assert run(config(model_name="whisper-en")) == BASE_MODEL


def test_the_champion_is_asked_for_anew_each_time(registry: MlflowRegistry, package: Path, tmp_path: Path) -> None:
    register(registry, str(package), alias=CHAMPION)
    assert run(config()).version == "1"
    newer = shutil.copytree(package, tmp_path / "newer")
    register(registry, str(newer), alias=CHAMPION, sha256="d2" * 32)
    found = run(config())
    assert (found.version, found.package_sha256, fetch(found.uri)) == ("2", "d2" * 32, newer)


def test_a_champion_without_the_digest_of_its_package_is_refused(registry: MlflowRegistry, package: Path) -> None:
    register(registry, str(package), alias=CHAMPION, sha256="")
    with pytest.raises(
        UsageError, match=r"models:/whisper-sv/1 is the champion and has no tag avskrift\.package_sha256.*--baseline.*move the alias"
    ):
        run(config())


@pytest.mark.parametrize("what", ["folder", "description"])
def test_a_champion_whose_package_is_gone_is_refused_with_what_to_do(registry: MlflowRegistry, package: Path, what: str) -> None:
    register(registry, str(package), alias=CHAMPION)
    (package / "model.json").unlink()
    if what == "folder":
        package.rmdir()
    with pytest.raises(
        ModelUnavailableError, match=r"models:/whisper-sv/1: its package is not at file:///.*--baseline.*move the alias champion"
    ):
        run(config())
    assert run(config(baseline=BASE)) == Result(uri=BASE, kind="given")


@pytest.mark.parametrize("source", ["gs://bucket/package", "https://host/package", "oci://host/package"])
def test_a_champion_where_evaluate_cannot_read_is_refused(registry: MlflowRegistry, source: str) -> None:
    register(registry, source, alias=CHAMPION)
    with pytest.raises(ModelUnavailableError, match=source):
        run(config())


@pytest.mark.parametrize("source", ["pvc://claim/package", "hf://org/name"])
def test_what_only_evaluates_pod_can_see_is_left_to_it(registry: MlflowRegistry, source: str) -> None:
    register(registry, source, alias=CHAMPION)
    assert run(config()).uri == source


@pytest.mark.parametrize("uri", [BASE, "openai/whisper-small", "s3://bucket/model", "/a/folder", "nonsense"])
def test_a_baseline_that_was_given_is_handed_on_without_asking_mlflow(uri: str) -> None:
    assert run(config(baseline=uri, tracking_uri="bogus://nowhere")) == Result(uri=uri, kind="given")


@pytest.mark.parametrize("uri", ["models:/whisper-sv/1", "models:/whisper-sv@challenger"])
def test_a_version_that_was_given_is_resolved(registry: MlflowRegistry, package: Path, uri: str) -> None:
    register(registry, str(package), alias=CHALLENGER)
    found = run(config(baseline=uri))
    assert (found.kind, found.version, found.package_sha256, fetch(found.uri)) == ("given", "1", SHA256, package)


def test_a_version_is_looked_up_in_the_mlflow_that_was_named(registry: MlflowRegistry, package: Path, empty_database: Path) -> None:
    register(registry, str(package), alias=CHAMPION)
    with pytest.raises(ModelUnavailableError, match="no model is registered there yet"):
        run(config(baseline="models:/whisper-sv@champion", tracking_uri=f"sqlite:///{empty_database}"))


def test_a_version_that_was_given_may_lack_a_digest_but_not_its_folder(registry: MlflowRegistry, package: Path) -> None:
    register(registry, str(package), sha256="")
    (package / "model.json").unlink()  # a folder of transformers' has none
    assert run(config(baseline="models:/whisper-sv/1")).package_sha256 == ""
    package.rmdir()
    with pytest.raises(ModelUnavailableError, match=r"give another baseline \(--baseline\)$"):
        run(config(baseline="models:/whisper-sv/1"))


def test_a_base_model_of_the_registry_is_resolved_too(registry: MlflowRegistry, package: Path) -> None:
    register(registry, str(package))
    found = run(config(model_name="whisper-en", base_model="models:/whisper-sv/1"))
    assert (found.kind, found.version, fetch(found.uri)) == ("base model", "1", package)


@pytest.mark.parametrize(
    ("changes", "reason"), [({"model_name": " "}, "no model was named"), ({"base_model": ""}, "whisper-sv has no champion")]
)
def test_what_was_not_named_is_asked_for(registry: MlflowRegistry, changes: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        run(config(**changes))


@pytest.mark.parametrize("baseline", ["", "models:/whisper-sv@champion"])
def test_an_mlflow_that_is_away_is_an_error_and_never_the_base_model(baseline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(RegistryError, match=r"MLflow at http://127\.0\.0\.1:\d+ did not answer"):
            run(config(baseline=baseline, tracking_uri=f"http://127.0.0.1:{closed.getsockname()[1]}"))


def test_a_pod_that_does_not_know_where_mlflow_is_does_not_ask_a_database_of_its_own(
    registry: MlflowRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POD_VARIABLE, "avskrift-fine-tune-1")
    for baseline in ("", "models:/whisper-sv/1"):
        with pytest.raises(UsageError, match="set the parameter tracking_uri, or MLFLOW_TRACKING_URI"):
            run(config(baseline=baseline))
    assert run(config(tracking_uri=registry.uri)) == BASE_MODEL
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    assert run(config()) == BASE_MODEL


def test_a_package_that_mlflow_keeps_is_no_baseline_for_another_pod(registry: MlflowRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    register(registry, "mlflow-artifacts:/1/abc/artifacts/package", alias=CHAMPION)
    monkeypatch.setenv(POD_VARIABLE, "avskrift-fine-tune-1")
    with pytest.raises(ModelUnavailableError, match=r"MLflow itself keeps the package.*move the alias"):
        run(config(tracking_uri=registry.uri))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The keys in a store that answers S3's listings; it refuses while there are none."""
    keys: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            prefix = parse_qs(urlsplit(self.path).query)["prefix"][0]
            listed = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys if key.startswith(prefix))
            body = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{listed}</ListBucketResult>'.encode()
            self.send_response(200 if keys else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    monkeypatch.setattr(objects, "ATTEMPTS", 1)
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield keys
        server.shutdown()


@pytest.mark.parametrize("scheme", ["s3", "minio"])
def test_a_champion_in_a_store_is_looked_for_there_and_named_as_s3(registry: MlflowRegistry, bucket: set[str], scheme: str) -> None:
    register(registry, f"{scheme}://mlpipeline/v2/package", alias=CHAMPION)
    bucket.update({"v2/package/model.json", "v2/package/ct2/model.bin"})
    assert run(config()).uri == "s3://mlpipeline/v2/package"
    bucket.remove("v2/package/model.json")
    with pytest.raises(ModelUnavailableError, match="its package is not at s3://mlpipeline/v2/package"):
        run(config())


def test_a_store_that_refuses_is_not_taken_for_an_empty_one(registry: MlflowRegistry, bucket: set[str]) -> None:
    register(registry, "s3://bucket/package", alias=CHAMPION)
    with pytest.raises(StorageError, match="the store did not list it"):
        run(config())


def test_what_the_champion_was_trained_on_is_told(registry: MlflowRegistry, package: Path) -> None:
    register(registry, str(package), alias=CHAMPION, dataset="f" * 64)
    assert run(config()).dataset_fingerprint == "f" * 64


@pytest.mark.usefixtures("kfp_root")
def test_kfp_hands_on_where_the_baseline_lies_and_its_digest(registry: MlflowRegistry, package: Path) -> None:
    register(registry, str(package), alias=CHAMPION)
    task = find_baseline(base_model=BASE, model_name=NAME)
    assert task.outputs == {"uri": package.as_uri(), "package_sha256": SHA256, "dataset_fingerprint": ""}
