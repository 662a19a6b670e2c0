"""Back to the version before, and how the services of a cluster are."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from cluster_world import BOUNDS, IMAGE, PACE, World
from typer.testing import CliRunner

from avskrift.deployment.cluster_status import ServiceStatus, as_lines, cluster_status
from avskrift.errors import ConflictError, DeploymentError, DriftError, UsageError
from avskrift.registry import tags
from avskrift.steps.deploy import on_cluster
from avskrift_pipelines.command.app import app

MODES = ("standard", "knative")


@pytest.mark.parametrize("mode", MODES)
def test_a_rollback_serves_the_version_before_and_moves_champion_there(world: World, mode: str) -> None:
    world.deploy("1", mode=mode)
    world.deploy("2", mode=mode, canary="none")
    back = world.roll_back()
    assert (back.model_name, back.version, back.replaced, back.transcript) == ("whisper-sv", "1", "2", "version 1")
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("1", {"1": 100}, "1")


def test_a_second_rollback_goes_forward_again(world: World) -> None:
    world.deploy("1")
    world.deploy("2", canary="none")
    assert [world.roll_back().version, world.roll_back().version] == ["1", "2"]
    assert world.champion() == "2"


def test_a_rollback_that_fails_leaves_what_serves(world: World) -> None:
    world.deploy("1")
    world.deploy("2", canary="none")
    world.kserve.outcomes["1"] = "image"
    with pytest.raises(DeploymentError, match=r"version 1 failed: .*ImagePullBackOff.*; version 2, which served before, is applied again"):
        world.roll_back()
    assert (world.champion(), world.traffic()) == ("2", {"2": 100})


def test_what_was_edited_is_not_rolled_back_silently(world: World) -> None:
    world.deploy("1")
    world.deploy("2", canary="none")
    world.server.edit("kubectl-edit", lambda live: live["spec"]["predictor"].update(minReplicas=3))
    with pytest.raises(DriftError, match=r"spec\.predictor\.minReplicas: 1 -> 3 by kubectl-edit"):
        world.roll_back()
    assert world.champion() == "2"
    assert world.roll_back(force=True).version == "1"


def test_without_a_service_or_a_version_before_there_is_nothing_to_go_back_to(world: World) -> None:
    with pytest.raises(UsageError, match="there is no InferenceService tal in speech"):
        world.roll_back()
    world.deploy("1")
    with pytest.raises(UsageError, match="tal has no version before this one on record"):
        world.roll_back()


def test_champion_that_somebody_moved_meanwhile_stays_and_so_does_what_serves(world: World) -> None:
    world.deploy("1")
    world.deploy("2", canary="none")
    world.gateway.on_transcription = lambda _: world.registry.set_alias("whisper-sv", "champion", "3")
    with pytest.raises(ConflictError, match="version 2, which served before, is applied again"):
        world.roll_back()
    assert (world.champion(), world.traffic()) == ("3", {"2": 100})


def test_mlflow_says_where_a_version_serves_and_in_whose_place(world: World) -> None:
    world.deploy("1")
    world.deploy("2", canary="none")
    version = world.registry.version("whisper-sv", "2")
    assert version is not None
    noted = world.registry._client.get_run(version.run_id).data.tags  # type: ignore[attr-defined]
    assert (noted[tags.DEPLOYED_AS], noted[tags.REPLACED_VERSION]) == ("speech/tal", "1")


def one(world: World, name: str = "") -> ServiceStatus:
    (found,) = cluster_status(world.cluster(), name)
    return found


def test_status_says_what_serves_where_and_what_stood_there_before(world: World) -> None:
    world.deploy("1")
    world.deploy("2", canary="none")
    found = one(world)
    assert (found.name, found.namespace, found.mode, found.ready, found.url) == ("tal", "speech", "Standard", True, world.gateway.url)
    assert (found.model_name, found.version, found.before, found.package_sha256) == ("whisper-sv", "2", "1", "2" * 64)
    assert (found.traffic, found.replicas, found.drift, found.trouble) == ({"2": 100}, {"2": (1, 1)}, (), "")
    assert one(world, "tal") == found
    with pytest.raises(UsageError, match="there is no InferenceService moon"):
        cluster_status(world.cluster(), "moon")


@pytest.mark.parametrize("mode", MODES)
def test_status_in_the_middle_of_a_canary_shows_both_versions(world: World, mode: str) -> None:
    world.deploy("1", mode=mode)
    seen: list[ServiceStatus] = []
    world.gateway.on_transcription = lambda gateway: seen.append(one(world)) if gateway.split.get("2") == 50 and not seen else None
    world.deploy("2", mode=mode, bounds=BOUNDS)
    assert seen[0].traffic == {"1": 50, "2": 50}
    assert set(seen[0].replicas) >= {"2"}


def test_status_shows_trouble_and_drift(world: World) -> None:
    world.kserve.outcomes["1"] = "image"
    with pytest.raises(DeploymentError):
        world.deploy("1")
    world.server.edit("kubectl-edit", lambda live: live["spec"]["predictor"].update(minReplicas=3))
    found = one(world)
    assert not found.ready
    assert "ImagePullBackOff" in found.trouble
    assert found.drift == ("spec.predictor.minReplicas: 1 -> 3 by kubectl-edit",)
    lines = as_lines(found, "none")
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("drift")] == list(found.drift)


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command prints, in this process: MLflow takes seconds to import."""
    monkeypatch.setattr(on_cluster, "Pace", lambda ready_timeout_s: PACE)

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--kubeconfig", str(world.kubeconfig)])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return run


def test_the_commands_show_a_table_or_json_and_go_back(world: World, command: Callable[..., str]) -> None:
    world.deploy("1")
    world.deploy("2", canary="none")
    table = dict(line.strip().split("  ", 1) for line in command("status", "--cluster").splitlines())
    shown = {label: text.strip() for label, text in table.items()}
    assert shown["service"] == "tal in speech, Standard mode, ready"
    assert (shown["champion"], shown["traffic"], shown["rollback to"]) == ("version 2", "version 2 100 %", "version 1")
    assert (shown["replicas"], shown["drift"], shown["Ready"]) == ("version 2: 1 of 1 ready", "none", "True")
    (value,) = json.loads(command("status", "--cluster", "--json"))
    assert (value["version"], value["champion"], value["before"], value["url"]) == ("2", "version 2", "1", world.gateway.url)
    back = json.loads(command("rollback", "--cluster", "--service-name", "tal", "--json"))
    assert back == {"url": world.gateway.url, "model": "whisper-sv", "version": "1", "replaced": "2"}
    assert world.champion() == "1"


def test_the_command_deploys(world: World, command: Callable[..., str]) -> None:
    assert command("status", "--cluster").startswith("deploy made no service in speech at http://127.0.0.1:")
    words = ["deploy", "--target", "kserve", "--version", "1", "--model-name", "whisper-sv", "--service-name", "tal"]
    said = command(*words, "--out", str(world.out), "--serving-image", IMAGE)
    assert said == f"version 1 answers at {world.gateway.url} and is champion\n"
    assert world.champion() == "1"


def test_a_registry_that_is_away_does_not_hide_the_services(
    world: World, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deploy("1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shown = command("status", "--cluster", "--tracking-uri", "http://127.0.0.1:1")
    assert "champion" in shown
    assert "not known (MLflow at http://127.0.0.1:1" in shown


def test_a_rollback_here_says_what_to_do(command: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match="deploy the version that you want"):
        command("rollback")
