"""deploy on a cluster, without a canary: what serves, what does not, and where traffic and champion are then."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import HANG, SERVICES, Refuses, wait_until
from cluster_world import PACE, TOKEN, World
from crd_schema import schema

from avskrift.deployment import inference_service
from avskrift.deployment.lease import LeaseLock
from avskrift.deployment.smoke import tone
from avskrift.errors import (
    AvskriftError,
    ClusterError,
    ConflictError,
    DeploymentError,
    DiskFullError,
    InterruptedRunError,
    RegistryError,
    UsageError,
)
from avskrift.registry import promotion
from avskrift.registry.mlflow_registry import MlflowRegistry
from avskrift.registry.protocol import CHAMPION, ModelVersion
from avskrift.steps.boundary import interrupt
from avskrift.steps.deploy import on_cluster

AT_ONCE = {"canary": "none"}


def test_the_first_version_is_applied_waited_for_asked_and_promoted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    result = world.deploy("1")
    assert result.promoted
    assert result.transcript == "version 1"
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})
    assert json.loads((world.out / "deployment.json").read_text())["url"] == world.gateway.url
    assert yaml.safe_load((world.out / "inferenceservice.yaml").read_text())["metadata"]["namespace"] == "speech"
    query = next(query for method, path, query in world.server.asked if method == "PATCH")
    assert query == {"fieldManager": "avskrift", "fieldValidation": "Strict", "force": "false"}
    version = world.registry.version("whisper-sv", "1")
    assert version is not None


def test_the_endpoint_is_told_which_bytes_the_registry_holds(world: World) -> None:
    world.deploy("1")
    (container,) = world.spec()["predictor"]["containers"]
    assert f"--package-sha256={'1' * 64}" in container["args"]


def test_a_version_replaces_the_one_before_and_is_champion_after_that(world: World) -> None:
    world.deploy("1")
    seen: list[str] = []
    world.gateway.on_transcription = lambda _: seen.append(world.champion())
    world.deploy("2", **AT_ONCE)
    assert set(seen) == {"1"}, "champion moved before the smoke test"
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("2", {"2": 100}, "2")


def test_ready_is_not_believed_while_the_pods_of_the_version_before_serve(world: World) -> None:
    """In Standard mode KServe calls a service ready as long as any of its pods serve."""
    world.deploy("1")
    world.kserve.outcomes["2"] = "never"
    with pytest.raises(DeploymentError, match=r"version 2 was not ready within 0\.2 s"):
        world.deploy("2", pace=replace(PACE, ready_timeout_s=0.2), **AT_ONCE)
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


FAILURES = {
    "never": (r"was not ready within 0\.3 s: pod tal-predictor-\w+: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu\."),
    "image": r"pod tal-predictor-\w+, container kserve-container: ImagePullBackOff: Back-off pulling image \"registry\.example",
    "storage": r"the package cannot be fetched: pod tal-predictor-\w+, init container storage-initializer: Error, exit code 1, 3 restarts",
    "crash": r"exit code 21, 4 restarts: avskrift\.serving: /mnt/models holds the package with sha256 ab, not cd",
    "blocked": r"KServe says BlockedByFailedLoad, ModelLoadFailed: no weights",
}


@pytest.mark.parametrize("fate", FAILURES)
def test_a_first_version_that_does_not_come_up_is_named_with_its_reason_and_is_not_champion(world: World, fate: str) -> None:
    world.kserve.outcomes["1"] = fate
    with pytest.raises(DeploymentError, match=FAILURES[fate]) as failure:
        world.deploy("1", pace=replace(PACE, ready_timeout_s=0.3))
    assert "nothing served before it" in str(failure.value)
    assert world.champion() == ""
    assert not world.out.joinpath("deployment.json").exists()


@pytest.mark.parametrize("fate", FAILURES)
def test_a_next_version_that_does_not_come_up_leaves_traffic_and_champion_where_they_were(world: World, fate: str) -> None:
    world.deploy("1")
    world.kserve.outcomes["2"] = fate
    with pytest.raises(DeploymentError, match=FAILURES[fate]) as failure:
        world.deploy("2", pace=replace(PACE, ready_timeout_s=0.3), **AT_ONCE)
    assert "version 1, which served before, is applied again and ready" in str(failure.value)
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("1", {"1": 100}, "1")


def test_failures_end_the_wait_at_once(world: World) -> None:
    world.kserve.outcomes["1"] = "image"
    with pytest.raises(DeploymentError, match="ImagePullBackOff"):
        world.deploy("1", pace=replace(PACE, ready_timeout_s=600))


def test_no_credential_of_a_pods_last_words_or_of_the_kubeconfig_is_told(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.kserve.outcomes["1"] = "storage"
    with pytest.raises(DeploymentError, match=r"403 for https://store\.example/model") as failure:
        world.deploy("1")
    told = str(failure.value) + "".join(capfd.readouterr())
    assert not [secret for secret in ("abcdef", "AKIA", TOKEN) if secret in told]


@pytest.mark.parametrize(("how", "reason"), [("errors", "answered a transcription with 500"), ("hears-nothing", "it heard nothing")])
def test_a_version_that_fails_its_smoke_test_goes_back(world: World, tmp_path: Path, how: str, reason: str) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(tone())
    world.deploy("1", smoke_audio=clip)
    world.gateway.answers["2"] = how
    with pytest.raises(DeploymentError, match=f"version 2 failed its smoke test: .*{reason}.*; version 1, which served before, is"):
        world.deploy("2", smoke_audio=clip, **AT_ONCE)
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


def test_after_a_first_version_that_failed_the_next_one_does_not_go_back_to_it(world: World) -> None:
    world.gateway.answers["1"] = "errors"
    with pytest.raises(DeploymentError, match="nothing served before it"):
        world.deploy("1")
    world.gateway.answers["2"] = "errors"
    with pytest.raises(DeploymentError, match="nothing served before it"):
        world.deploy("2")
    assert world.champion() == ""
    assert world.deploy("3").promoted
    with pytest.raises(UsageError, match="has no version before this one on record"):
        world.roll_back()


def test_a_url_that_answers_with_another_version_is_not_taken_for_the_new_one(world: World) -> None:
    world.deploy("1")
    world.gateway.splits = False
    world.kserve.gateway = type(world.gateway)(url=world.gateway.url)  # the ingress does not follow
    with pytest.raises(DeploymentError, match=r"version 2 is ready, but http://.* within 1 s \(version 1 answers there\)"):
        world.deploy("2", **AT_ONCE)
    assert world.champion() == "1"


def test_a_given_url_is_asked_in_place_of_kserves(world: World) -> None:
    url, world.gateway.url = world.gateway.url, "http://tal.speech.example.invalid"
    assert world.deploy("1", service_url=f"{url}/").url == url


@pytest.mark.parametrize("status", [500, 503, 429])
def test_an_api_server_that_stumbles_is_asked_again(world: World, status: int) -> None:
    world.server.refuses = [Refuses(status, times=2, method="GET"), Refuses(status, times=2, method="PATCH"), Refuses(HANG, method="PATCH")]
    assert world.deploy("1").promoted
    assert world.champion() == "1"


def test_an_api_server_that_is_away_while_a_version_comes_up_is_waited_for(world: World) -> None:
    world.deploy("1")

    def go_away(path: str) -> None:
        world.server.refuses = [Refuses(503, times=12, where="inferenceservices/")]
        world.server.after_write = usual
        usual(path)

    usual = world.server.after_write
    world.server.after_write = lambda path: go_away(path) if path.startswith(SERVICES) else usual(path)
    assert world.deploy("2", **AT_ONCE).promoted
    assert (world.champion(), world.traffic()) == ("2", {"2": 100})


@pytest.mark.parametrize("status", [500, HANG])
def test_an_api_server_that_stays_away_is_told_and_nothing_moves(world: World, status: int) -> None:
    world.deploy("1")
    world.server.refuses = [Refuses(status, times=1000, method="GET")]
    with pytest.raises(ClusterError, match=r"the Kubernetes API at http://127\.0\.0\.1:\d+ did not answer 4 times"):
        world.deploy("2")
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


def test_an_apply_that_is_refused_leaves_what_serves(world: World) -> None:
    world.deploy("1")
    world.server.refuses = [Refuses(403, method="PATCH")]
    with pytest.raises(ClusterError, match=r"refused .*needs the Role.*version 1, which served before, is applied again and ready"):
        world.deploy("2", **AT_ONCE)
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("1", {"1": 100}, "1")


def test_a_cluster_that_cannot_be_told_to_go_back_is_named_in_the_message(world: World) -> None:
    world.deploy("1")
    world.gateway.answers["2"] = "errors"

    def refuse(_: object) -> None:
        world.server.refuses = [Refuses(500, times=10_000, method="PATCH")]

    world.gateway.on_transcription = refuse
    with pytest.raises(DeploymentError, match=r"version 1, which served before, could not be brought back ready \(the Kubernetes API"):
        world.deploy("2", pace=replace(PACE, ready_timeout_s=0.5), **AT_ONCE)
    assert world.champion() == "1"


def test_a_cluster_without_kserve_is_told(world: World) -> None:
    world.server.unknown_kinds = {"inferenceservices"}
    with pytest.raises(ClusterError, match="is KServe installed there"):
        world.deploy("1")


def test_ctrl_c_brings_the_version_before_back(world: World) -> None:
    world.deploy("1")

    world.kserve.outcomes["2"] = "never"
    stopped: list[BaseException] = []

    def press() -> None:
        wait_until(lambda: world.version_on_record() == "2")
        _interrupt_main()

    presser = threading.Thread(target=press)
    presser.start()
    try:
        world.deploy("2", **AT_ONCE)
    except InterruptedRunError as error:
        stopped.append(error)
    presser.join()
    assert "stopped before version 2 was accepted; version 1, which served before, is applied again and ready" in str(stopped[0])
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


def _interrupt_main() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_when_champion_cannot_be_moved_the_version_before_serves_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.deploy("1")

    def fails(*_: object, **__: object) -> None:
        raise RegistryError("MLflow did not answer")

    monkeypatch.setattr(on_cluster, "promote", fails)
    with pytest.raises(RegistryError, match="MLflow did not answer; version 1, which served before, is applied again and ready"):
        world.deploy("2", **AT_ONCE)
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


@pytest.fixture
def lost_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """MLflow moves champion to version 2, and nobody hears of it. Has the errors that are due when champion is looked at after that."""
    move, look, unseen = MlflowRegistry.set_alias, MlflowRegistry.version_of_alias, list[str]()
    moved: list[str] = []

    def moves(registry: MlflowRegistry, name: str, alias: str, version: str) -> None:
        move(registry, name, alias, version)
        moved.append(version)
        if moved == ["2"]:
            raise RegistryError("MLflow did not answer")

    def looks(registry: MlflowRegistry, name: str, alias: str) -> ModelVersion | None:
        if moved and unseen:
            raise RegistryError(unseen[0])
        return look(registry, name, alias)

    monkeypatch.setattr(promotion, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(promotion, "_PAUSE_SECONDS", 0.01)
    world.deploy("1")
    monkeypatch.setattr(MlflowRegistry, "set_alias", moves)
    monkeypatch.setattr(MlflowRegistry, "version_of_alias", looks)
    return unseen


def test_champion_and_traffic_stay_together_where_mlflows_answer_is_lost(world: World, lost_answer: list[str]) -> None:
    assert world.deploy("2", **AT_ONCE).promoted
    assert (world.champion(), world.traffic()) == ("2", {"2": 100})


def test_champion_and_traffic_go_back_together_where_mlflow_says_nothing_more(world: World, lost_answer: list[str]) -> None:
    lost_answer.append("MLflow is away")
    reason = "had moved could not be seen, and it was put back to version 1; version 1, which served before, is applied again and ready"
    with pytest.raises(RegistryError, match=reason):
        world.deploy("2", **AT_ONCE)
    lost_answer.clear()
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


def stop_when(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, number: signal.Signals) -> list[str]:
    """Send this process the signal once that method has done its work; has its calls."""
    usual, calls = getattr(kind, name), list[str]()

    def interrupted(*given: Any, **named: Any) -> Any:
        said = usual(*given, **named)
        calls.append(name)
        os.kill(os.getpid(), number)
        return said

    monkeypatch.setattr(kind, name, interrupted)
    return calls


# The alias has moved, and is looked at; the locks are given back; the version's run is told.
LATE = [(MlflowRegistry, "set_alias"), (LeaseLock, "_give_back"), (MlflowRegistry, "set_tags")]


@pytest.fixture
def _signals_stop_the_work() -> Iterator[None]:
    """As :func:`avskrift.steps.boundary.boundary` has it."""
    earlier = signal.signal(signal.SIGTERM, interrupt)
    yield
    assert signal.getsignal(signal.SIGTERM) is interrupt
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGTERM, earlier)


@pytest.mark.usefixtures("_signals_stop_the_work")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("kind", "name"), LATE, ids=[name for _, name in LATE])
def test_who_is_stopped_after_champion_moved_finishes_the_deployment(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type, name: str, number: signal.Signals
) -> None:
    world.deploy("1")
    calls = stop_when(monkeypatch, kind, name, number)
    assert world.deploy("2", **AT_ONCE).promoted
    assert calls
    assert "deploy.stopped_too_late" in caplog.text
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("2", {"2": 100}, "2")


@pytest.mark.usefixtures("_signals_stop_the_work")
def test_who_is_stopped_after_champion_moved_back_finishes_the_rollback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.deploy("1")
    world.deploy("2", **AT_ONCE)
    stop_when(monkeypatch, MlflowRegistry, "set_alias", signal.SIGTERM)
    assert world.roll_back().version == "1"
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


@pytest.mark.usefixtures("_signals_stop_the_work")
def test_who_is_stopped_while_champion_cannot_be_moved_goes_back_and_hears_signals_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deploy("1")

    def refuses(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise ConflictError("somebody else was faster")

    monkeypatch.setattr(on_cluster, "promote", refuses)
    with pytest.raises(ConflictError, match="somebody else was faster; version 1, which served before, is applied again and ready"):
        world.deploy("2", **AT_ONCE)
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


@pytest.mark.parametrize("error", [RegistryError, DiskFullError])
def test_a_note_that_cannot_be_written_is_a_warning(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[AvskriftError]
) -> None:
    world.deploy("1")

    def fails(*_: object) -> None:
        raise error("no room for notes")

    monkeypatch.setattr(MlflowRegistry, "set_tags", fails)
    assert world.deploy("2", **AT_ONCE).promoted
    assert "model.not_noted" in caplog.text
    assert (world.champion(), world.traffic()) == ("2", {"2": 100})


def test_when_somebody_else_moves_champion_meanwhile_theirs_stands(world: World) -> None:
    world.deploy("1")

    def somebody(_: object) -> None:
        world.registry.set_alias("whisper-sv", CHAMPION, "3")

    world.gateway.on_transcription = somebody
    with pytest.raises(ConflictError, match=r"champion of whisper-sv is version 3, not version 1.*; version 1, which served before"):
        world.deploy("2", **AT_ONCE)
    assert (world.champion(), world.traffic()) == ("3", {"1": 100})


def test_the_target_manifest_speaks_to_no_cluster(world: World) -> None:
    result = world.deploy("1", target="manifest", namespace="tal", kubeconfig="/nowhere")
    assert not result.promoted
    assert world.server.asked == []
    assert yaml.safe_load((world.out / "inferenceservice.yaml").read_text())["metadata"]["namespace"] == "tal"


def test_the_same_version_again_changes_nothing_and_keeps_the_version_before(world: World) -> None:
    world.deploy("1")
    world.deploy("2", **AT_ONCE)
    generation = world.server.service()["metadata"]["generation"]
    assert world.deploy("2").promoted
    assert world.server.service()["metadata"]["generation"] == generation
    assert world.roll_back().version == "1"


def test_what_is_applied_is_held_against_kserves_schema(world: World) -> None:
    """The guard of all tests here: were the schema not looked at, they would pass with any manifest."""
    schema()
    written = world.deploy("1", target="manifest", namespace="speech").manifest
    assert written is not None
    manifest = yaml.safe_load(written.read_text())
    manifest["spec"]["predictor"]["minReplica"] = 1
    with pytest.raises(ClusterError, match=r"refused with 422 \(\.spec\.predictor\.minReplica is not in the schema\)"):
        inference_service.apply(world.cluster(), manifest, previous=None)
