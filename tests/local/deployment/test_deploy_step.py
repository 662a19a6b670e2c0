"""deploy: champion moves only after the endpoint answered."""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from deployment_material import free_port, make_material, make_package, stand_in

from avskrift.audio.decode import encode_flac
from avskrift.deployment import local
from avskrift.deployment.smoke import tone
from avskrift.errors import DeploymentError, IntegrityError, ModelUnavailableError, PortTakenError, RegistryError, UsageError
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import MlflowRegistry, open_registry
from avskrift.registry.protocol import CHAMPION, RunKey
from avskrift.steps.deploy.step import Config, Result, run
from avskrift.steps.register.step import Config as RegisterConfig
from avskrift.steps.register.step import run as register
from avskrift.whisper.package import ModelPackage

_SCRIPTED_SERVER = Path(__file__).parents[2] / "serving" / "scripted_server.py"


@pytest.fixture
def package(home: Path, tmp_path: Path) -> ModelPackage:
    """Registered as whisper-sv version 1."""
    return registered(tmp_path, "run-1")


def registered(tmp_path: Path, run_id: str) -> ModelPackage:
    material = make_material(tmp_path / run_id, weights=run_id.encode())
    register(
        RegisterConfig(
            package_uri=str(material.package.folder),
            evaluation=material.evaluation,
            gate=material.decision,
            training=material.training,
            model_name="whisper-sv",
            experiment="swedish",
            pipeline_run_id=run_id,
        )
    )
    return material.package


def deploy(tmp_path: Path, mode: str = "good", *extra: str, **changes: Any) -> Result:
    options: dict[str, Any] = {"model_name": "whisper-sv", "version": "1", "out": tmp_path / "deployment", "port": free_port()}
    return run(Config(**{**options, **changes}), launcher=stand_in(mode, *extra))


def champion() -> str | None:
    version = open_registry().version_of_alias("whisper-sv", CHAMPION)
    return version.version if version else None


def test_a_version_that_answers_becomes_champion(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    result = deploy(tmp_path)
    assert result.promoted
    assert result.transcript == "version 1"
    assert champion() == "1"
    status = local.status(home)
    assert status is not None
    assert (status.state, status.accepted, status.url, status.package) == ("ready", True, result.url, str(package.folder))
    assert json.loads((tmp_path / "deployment" / "deployment.json").read_text())["url"] == result.url


def test_kserves_model_server_is_started_asked_and_promoted(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    """The real server, routes and options; only the engine behind them is scripted."""

    def launch(*, package: Path, version: str, service: str, port: int) -> local.Launch:
        ours = local.predictor_launch(package=package, version=version, service=service, port=port)
        assert ours.command[1:3] == ("-m", "avskrift.serving")
        return replace(ours, command=(ours.command[0], str(_SCRIPTED_SERVER), *ours.command[3:]))

    result = run(
        Config(model_name="whisper-sv", version="1", out=tmp_path / "deployment", port=free_port(), service_name="tal"), launcher=launch
    )
    assert result.transcript.startswith("Kanariefågeln")
    assert champion() == "1"
    assert local.stop(home)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("dies", "before it was ready: the weights are no weights"),
        ("error", "failed its smoke test: http://.* answered a transcription with 500"),
        ("refuses", "failed its smoke test: http://.* answered a transcription with 413 .*: at most 30 minutes are taken"),
        ("no-text", "failed its smoke test: .* without a text"),
    ],
)
def test_a_version_that_fails_is_not_champion_and_nothing_runs(
    package: ModelPackage, home: Path, tmp_path: Path, mode: str, reason: str
) -> None:
    with pytest.raises(DeploymentError, match=reason):
        deploy(tmp_path, mode)
    assert champion() is None
    assert local.status(home) is None
    assert not (tmp_path / "deployment").exists()


def test_when_the_next_version_fails_the_champion_goes_on_serving(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    registered(tmp_path, "run-2")
    port = free_port()
    deploy(tmp_path, port=port)
    with pytest.raises(DeploymentError, match=r"version 2 failed its smoke test.*; version 1, which served before, answers again"):
        deploy(tmp_path, "error", version="2", port=port)
    assert champion() == "1"
    status = local.status(home)
    assert status is not None
    assert (status.state, status.version) == ("ready", "1")
    assert deploy(tmp_path, version="2", port=port).transcript == "version 2"
    assert champion() == "2"


def test_when_champion_cannot_be_moved_the_version_before_goes_on_serving(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    registered(tmp_path, "run-2")
    deploy(tmp_path)
    database = home / "mlflow" / "mlflow.db"
    intact = database.read_bytes()
    with pytest.raises(RegistryError, match=r"MLflow at .* did not answer or refused.*; version 1, which served before, answers again"):
        deploy(tmp_path, "good", "--breaks", str(database), version="2")
    database.write_bytes(intact)
    assert champion() == "1"
    status = local.status(home)
    assert status is not None
    assert (status.state, status.version) == ("ready", "1")


@pytest.mark.parametrize("stopped", [False, True], ids=["lost answer", "Ctrl-C"])
def test_once_champion_has_moved_the_new_version_serves(
    package: ModelPackage, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    registered(tmp_path, "run-2")
    deploy(tmp_path)
    move = MlflowRegistry.set_alias

    def moves(registry: MlflowRegistry, name: str, alias: str, version: str) -> None:
        move(registry, name, alias, version)
        if not stopped:
            raise RegistryError("MLflow did not answer")
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(MlflowRegistry, "set_alias", moves)
    assert deploy(tmp_path, version="2").promoted
    status = local.status(home)
    assert status is not None
    assert (champion(), status.version, status.accepted) == ("2", "2", True)


def test_the_registry_that_is_named_is_asked_for_everything(
    package: ModelPackage, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert deploy(tmp_path, tracking_uri=f"sqlite:///{home}/mlflow/mlflow.db").promoted


def test_speech_in_which_nothing_is_heard_fails(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    (tmp_path / "tal.wav").write_bytes(tone())
    with pytest.raises(DeploymentError, match="it heard nothing in a recording of speech"):
        deploy(tmp_path, "hears-nothing", smoke_audio=str(tmp_path / "tal.wav"))
    assert champion() is None


def test_a_generated_tone_needs_no_words(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    assert deploy(tmp_path, "hears-nothing").promoted


def test_the_pipelines_sample_clip_must_give_words(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.flac"
    clip.write_bytes(encode_flac(np.zeros(1600, dtype=np.float32)))
    assert deploy(tmp_path, smoke_audio=str(clip)).transcript == "version 1"
    with pytest.raises(DeploymentError, match="it heard nothing"):
        deploy(tmp_path, "hears-nothing", smoke_audio=str(clip))


@pytest.mark.parametrize("name", ["tal.txt", "missing.wav"])
def test_a_smoke_recording_that_cannot_be_is_refused(package: ModelPackage, home: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "tal.txt").write_text("hej", encoding="utf-8")
    with pytest.raises(UsageError, match="no recording to test the endpoint with"):
        deploy(tmp_path, smoke_audio=str(tmp_path / name))


def test_a_version_that_is_not_registered_is_refused(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="models:/whisper-sv/7 is not in MLflow"):
        deploy(tmp_path, version="7")


def test_a_version_that_we_did_not_register_is_refused(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    registry = open_registry()
    run_id = registry.open_run(RunKey(pipeline_run_id="run-9", experiment="swedish"))
    registry.register("whisper-sv", str(package.folder), run_id, {tags.PIPELINE_RUN_ID: "run-9"})
    with pytest.raises(UsageError, match=r"has no tag avskrift\.package_sha256"):
        deploy(tmp_path, version="2")


def test_a_package_that_is_not_the_registered_one_is_refused(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    other = make_package(tmp_path / "other", b"other weights")
    with pytest.raises(UsageError, match="is not the package that is registered as models:/whisper-sv/1"):
        deploy(tmp_path, package_uri=str(other.folder))
    assert local.status(home) is None


def test_a_package_that_was_changed_is_refused_before_anything_is_stopped(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    (package.folder / "ct2" / "model.bin").write_bytes(b"WEIGHTS")
    with pytest.raises(IntegrityError, match=r"ct2/model\.bin has"):
        deploy(tmp_path)
    assert local.status(home) is None


def test_a_package_that_was_removed_is_named(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    package.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelUnavailableError, match="no such folder"):
        deploy(tmp_path)


def test_somebody_elses_port_is_refused(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        with pytest.raises(PortTakenError):
            deploy(tmp_path, port=somebody.getsockname()[1])
    assert champion() is None


def test_an_unknown_target_is_refused(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="use local, kserve or manifest"):
        deploy(tmp_path, target="moon")


def test_the_target_manifest_writes_a_manifest_and_promotes_nobody(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    result = deploy(
        tmp_path, target="manifest", package_uri="s3://models/whisper-sv/1", image="registry.example/serving@sha256:" + "1" * 64, gpus=1
    )
    assert not result.promoted
    assert result.manifest is not None
    manifest = yaml.safe_load(result.manifest.read_text(encoding="utf-8"))
    assert manifest["metadata"]["annotations"]["avskrift/package-sha256"] == package.description.sha256
    assert manifest["spec"]["predictor"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert champion() is None
    assert json.loads((tmp_path / "deployment" / "deployment.json").read_text())["manifest"] == "inferenceservice.yaml"


def test_a_cluster_cannot_serve_a_folder_of_this_machine(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="KServe cannot read a package from there"):
        deploy(tmp_path, target="manifest", image="registry.example/serving@sha256:" + "1" * 64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpu": "lots"}, "cpu 'lots' is no quantity"),
        ({"memory": "4 GB"}, "memory '4 GB' is no quantity"),
        ({"canary": "50,10"}, "rising percents"),
        ({"canary": "10,foo"}, "rising percents"),
        ({"image": "registry.example/serving@sha256:abc"}, "64 hexadecimal digits"),
    ],
)
def test_a_manifest_that_nobody_could_apply_is_not_written(
    package: ModelPackage, home: Path, tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    image = "registry.example/serving@sha256:" + "1" * 64
    with pytest.raises(UsageError, match=words):
        deploy(tmp_path, **({"target": "manifest", "package_uri": "s3://models/whisper-sv/1", "image": image} | changes))
    assert not (tmp_path / "deployment" / "inferenceservice.yaml").exists()


def test_the_target_manifest_needs_an_image(package: ModelPackage, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the serving image"):
        deploy(tmp_path, target="manifest", package_uri="s3://models/whisper-sv/1")
