"""A new version takes the traffic in stages, and goes back by itself."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

import pytest
import yaml
from api_server import Object, status
from cluster_world import BOUNDS, PACE, World

from avskrift.deployment import inference_service
from avskrift.deployment.canary import at_stage, before_the_end, parse_stages
from avskrift.deployment.cluster_status import cluster_status
from avskrift.deployment.probing import Bounds, Probes, degradation
from avskrift.errors import DeploymentError, InterruptedRunError, UsageError
from avskrift.registry import tags

MODES = ("standard", "knative")


def shares_of_2(world: World) -> list[int]:
    """What version 2 got of the traffic, change by change."""
    return [split.get("2", 0) for split in world.kserve.traffic_log if split]


@pytest.mark.parametrize("mode", MODES)
def test_the_traffic_moves_stage_by_stage_and_champion_after_the_last(world: World, mode: str) -> None:
    world.deploy("1", mode=mode)
    seen: set[tuple[int, str]] = set()
    world.gateway.on_transcription = lambda gateway: seen.add((gateway.split.get("2", 0), world.champion()))
    assert world.deploy("2", mode=mode).promoted
    shares = shares_of_2(world)
    assert shares == sorted(shares)
    assert {0, 10, 50, 100} <= set(shares)
    assert {champion for _, champion in seen} == {"1"}, "champion moved while requests were still on their way"
    assert {share for share, _ in seen} == {0, 10, 50, 100}
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("2", {"2": 100}, "2")


def test_in_standard_mode_the_new_version_takes_over_under_the_services_own_name(world: World) -> None:
    """Autoscalers, policies and clients inside the cluster know NAME-predictor; a canary's Deployment has another name."""
    world.deploy("1")
    world.deploy("2")
    steps = [(body["spec"]["predictor"]["labels"]["avskrift/model-version"], canary_of(body)) for body in world.server.applied]
    assert steps == [("1", None), ("1", ("v2", 10)), ("1", ("v2", 50)), ("1", ("v2", 100)), ("2", ("v2", 100)), ("2", None)]
    assert all("name" not in body["spec"]["predictor"] for body in world.server.applied)
    assert "canary" not in world.spec()


def canary_of(body: Object) -> tuple[str, int] | None:
    (entry,) = body["spec"].get("canary") or [None]
    return (entry["predictor"]["name"], entry["trafficPercent"]) if entry else None


def test_a_canary_has_a_fixed_number_of_replicas(world: World) -> None:
    world.deploy("1", min_replicas=4, max_replicas=8)
    world.deploy("2", min_replicas=4, max_replicas=8)
    assert replicas_of_canaries(world) == [1, 2, 4, 4]
    assert all("maxReplicas" not in body["spec"]["canary"][0]["predictor"] for body in world.server.applied if "canary" in body["spec"])


def replicas_of_canaries(world: World) -> list[int]:
    return [body["spec"]["canary"][0]["predictor"]["minReplicas"] for body in world.server.applied if "canary" in body["spec"]]


@pytest.mark.parametrize(
    ("changes", "replicas"),
    [
        ({"max_replicas": 8}, [1, 4, 8, 8]),
        ({"max_replicas": 6}, [1, 3, 6, 6]),
        ({"min_replicas": 12, "max_replicas": 12}, [2, 6, 12, 12]),
        ({"autoscaler": "external"}, [1, 4, 8, 8]),  # whose own maximum is elsewhere
    ],
    ids=["as many", "at most", "at least", "external"],
)
def test_a_canary_gets_its_share_of_the_pods_that_an_autoscaler_made(world: World, changes: dict[str, Any], replicas: list[int]) -> None:
    world.deploy("1", max_replicas=8)
    world.kserve.scaled = 8
    assert world.deploy("2", **changes).promoted
    assert replicas_of_canaries(world) == replicas


def test_a_canary_with_the_whole_traffic_keeps_its_pods_while_those_beside_it_are_scaled_down(world: World) -> None:
    world.deploy("1", max_replicas=8)
    world.kserve.scaled = 8

    def scale_down(gateway: Any) -> None:
        if gateway.split.get("2", 0) >= 50:
            world.kserve.scaled = 1

    world.gateway.on_transcription = scale_down
    assert world.deploy("2", max_replicas=8).promoted
    assert replicas_of_canaries(world) == [1, 4, 8, 8]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("errors", r"of \d+ probes failed, at most 2\.0% may: .*answered a transcription with 500"),
        ("slow", r"95 % of the probes took up to \d\.\d+ s, \d\.\d+ s is allowed"),
    ],
)
def test_a_canary_that_degrades_goes_back_before_it_has_the_whole_traffic(world: World, mode: str, how: str, reason: str) -> None:
    world.deploy("1", mode=mode)
    world.gateway.answers["2"] = how
    with pytest.raises(DeploymentError, match=rf"version 2 at 10 % of the traffic is worse than what served: .*{reason}") as failure:
        world.deploy("2", mode=mode, bounds=replace(BOUNDS, stage_s=20.0, quick_enough_s=0.5))
    assert "version 1, which served before, is applied again and ready" in str(failure.value)
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("1", {"1": 100}, "1")
    assert max(shares_of_2(world)) == 10


def test_what_other_people_met_counts_too(world: World) -> None:
    """Our own probes are answered well; the endpoint's figures say that others' requests failed."""
    world.deploy("1")
    world.gateway.others["2"] = 40
    with pytest.raises(DeploymentError, match=r"its own figures say that \d+\.\d% of \d+ requests failed, at most 2\.0% may"):
        world.deploy("2")
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("fate", "reason"), [("image", "ImagePullBackOff"), ("storage", "the package cannot be fetched"), ("crash", "exit code 21")]
)
def test_a_canary_that_does_not_come_up_gets_no_traffic_and_goes(world: World, mode: str, fate: str, reason: str) -> None:
    world.deploy("1", mode=mode)
    world.kserve.outcomes["2"] = fate
    with pytest.raises(DeploymentError, match=f"version 2 at 10 % failed: .*{reason}.*; version 1, which served before, is applied"):
        world.deploy("2", mode=mode)
    assert set(shares_of_2(world)) == {0}
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


def test_a_canary_that_never_gets_ready_goes(world: World) -> None:
    world.deploy("1")
    world.kserve.outcomes["2"] = "never"
    with pytest.raises(DeploymentError, match=r"version 2 at 10 % was not ready within 0\.3 s: pod .*Insufficient cpu.*; version 1"):
        world.deploy("2", pace=replace(PACE, ready_timeout_s=0.3))
    assert "canary" not in world.spec()
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


def test_the_same_version_with_another_image_goes_through_a_canary_too(world: World) -> None:
    """What its older process met before is not held against the new one."""
    world.deploy("1", image="registry.example/avskrift/serving@sha256:" + "1" * 64)
    world.gateway.started["1"], world.gateway.others["1"] = 1.7e9, 40
    assert world.deploy("1", image="registry.example/avskrift/serving@sha256:" + "2" * 64).promoted
    assert [canary_of(body) for body in world.server.applied[1:]] == [("v1", 10), ("v1", 50), ("v1", 100), ("v1", 100), None]
    assert world.spec()["predictor"]["containers"][0]["image"].endswith("@sha256:" + "2" * 64)
    assert world.roll_back().version == "1"
    assert world.spec()["predictor"]["containers"][0]["image"].endswith("@sha256:" + "1" * 64)


def test_an_ingress_that_splits_nothing_is_found_out(world: World) -> None:
    world.deploy("1")
    world.gateway.splits = False
    with pytest.raises(DeploymentError, match=r"gave none of \d+: nothing splits the traffic there\. In Standard mode the Gateway"):
        world.deploy("2", bounds=replace(BOUNDS, stage_s=0.6))
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


@pytest.mark.parametrize(
    "answer",
    [
        status(400, 'strict decoding error: unknown field "spec.canary"'),
        status(500, "failed to create typed patch object (speech/tal): .spec.canary: field not declared in schema"),
    ],
    ids=["strict", "typed"],
)
def test_a_kserve_before_0_20_is_told_from_its_refusal_and_nothing_is_changed(
    world: World, monkeypatch: Any, answer: tuple[int, Object]
) -> None:
    world.deploy("1")
    apply = world.server._apply
    monkeypatch.setattr(world.server, "_apply", lambda path, body, query: answer if "canary" in body["spec"] else apply(path, body, query))
    generation = world.server.service()["metadata"]["generation"]
    with pytest.raises(UsageError, match=r"has no spec\.canary, which came with 0\.20.*--canary none"):
        world.deploy("2")
    assert world.server.service()["metadata"]["generation"] == generation
    assert world.deploy("2", canary="none").promoted


@pytest.mark.parametrize("mode", MODES)
def test_a_rollout_that_died_in_the_middle_is_no_version_to_go_back_to(world: World, mode: str) -> None:
    """What it left behind, 10 % of the traffic, goes when the next one fails."""
    world.deploy("1", mode=mode)
    left_behind(world, "2", mode, percent=10)
    assert world.traffic() == {"1": 90, "2": 10}
    world.gateway.answers["3"] = "errors"
    with pytest.raises(DeploymentError, match="version 1, which served before, is applied again and ready"):
        world.deploy("3", mode=mode)
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("1", {"1": 100}, "1")
    assert "canary" not in world.spec()
    assert "canaryTrafficPercent" not in world.spec()["predictor"]


@pytest.mark.parametrize("mode", MODES)
def test_a_rollout_that_died_in_the_middle_can_be_rolled_back_and_begun_anew(world: World, mode: str) -> None:
    world.deploy("1", mode=mode)
    left_behind(world, "2", mode, percent=50)
    assert world.roll_back().version == "1"
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})
    left_behind(world, "2", mode, percent=50)
    assert world.deploy("2", mode=mode).promoted
    assert (world.champion(), world.traffic()) == ("2", {"2": 100})
    assert world.roll_back().version == "1"


def test_a_version_that_stood_at_both_places_when_its_deploy_was_killed_is_no_version_to_go_back_to(world: World) -> None:
    """In Standard mode it stands there under the service's own name, before it was accepted."""
    world.deploy("1")
    left_at_both_places(world, "2")
    assert world.traffic() == {"2": 100}
    (status,) = cluster_status(world.cluster())
    assert status.before == "1"
    assert world.roll_back().version == "1"
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("1", {"1": 100}, "1")
    with pytest.raises(UsageError, match="has no version before this one on record"):
        world.roll_back()


def test_after_a_deploy_that_was_killed_at_its_end_the_next_that_fails_goes_back_to_what_was_accepted(world: World) -> None:
    world.deploy("1")
    left_at_both_places(world, "2")
    world.gateway.answers["3"] = "errors"
    with pytest.raises(DeploymentError, match="version 1, which served before, is applied again and ready"):
        world.deploy("3")
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("1", {"1": 100}, "1")


def test_a_deploy_that_was_killed_at_its_end_can_be_begun_anew(world: World) -> None:
    world.deploy("1")
    left_at_both_places(world, "2")
    assert world.deploy("2").promoted
    assert (world.champion(), world.traffic()) == ("2", {"2": 100})
    version = world.registry.version("whisper-sv", "2")
    assert version is not None
    assert world.registry.run_tags(version.run_id)[tags.REPLACED_VERSION] == "1"
    assert world.roll_back().version == "1"


def left_behind(world: World, version: str, mode: str, *, percent: int) -> None:
    """As a deploy whose pod was killed while it watched this stage."""
    before, new = before_and_new(world, version, mode)
    put(world, at_stage(before, new, percent), previous=before if mode == "knative" else None)


def left_at_both_places(world: World, version: str) -> None:
    """As a deploy whose pod was killed after its last stage."""
    before, new = before_and_new(world, version, "standard")
    staged = before_the_end(new)
    assert staged is not None
    put(world, staged, previous=before)


def before_and_new(world: World, version: str, mode: str) -> tuple[Object, Object]:
    written = world.deploy(version, mode=mode, target="manifest", namespace="speech").manifest
    before = inference_service.serving_before(world.server.service())
    assert written is not None
    assert before is not None
    return before, yaml.safe_load(written.read_text(encoding="utf-8"))


def put(world: World, staged: Object, *, previous: Object | None) -> None:
    cluster = world.cluster()
    inference_service.apply(cluster, staged, previous=previous)
    for _ in range(4):
        inference_service.read(cluster, "tal")


@pytest.mark.parametrize(("text", "stages"), [("10,50,100", (10, 50, 100)), (" 5 , 25", (5, 25)), ("None", ()), ("100", (100,))])
def test_stages_are_read(text: str, stages: tuple[int, ...]) -> None:
    assert parse_stages(text) == stages


@pytest.mark.parametrize("text", ["", "0,10", "50,10", "10,10", "101", "ten", "10;50"])
def test_stages_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give rising percents of the traffic, as 10,50,100, or none"):
        parse_stages(text)


def test_bounds_that_cannot_be_are_refused(world: World) -> None:
    for wrong in ({"interval_s": 0}, {"max_error_rate": 1.5}, {"max_latency_ratio": 0.5}, {"stage_s": float("nan")}, {"stage_s": -1}):
        with pytest.raises(UsageError, match="a canary cannot be watched"):
            Bounds(**wrong)  # type: ignore[arg-type]


def test_a_few_probes_are_no_rate() -> None:
    assert degradation(Probes(seconds=[0.1], failures=["no"]), Probes(seconds=[0.1] * 10), Bounds()) == ""
    assert degradation(Probes(seconds=[0.1] * 5, failures=["no"]), Probes(seconds=[0.1] * 10), Bounds())


def test_what_serves_badly_itself_is_nothing_to_compare_with(world: World) -> None:
    world.deploy("1")
    world.gateway.answers["1"] = "errors"
    with pytest.raises(DeploymentError, match=r"what serves now does not answer .*--canary none"):
        world.deploy("2")
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})
    assert world.deploy("2", canary="none").promoted


def test_ctrl_c_while_a_canary_is_watched_brings_the_traffic_back(world: World) -> None:
    world.deploy("1")
    pressed: list[bool] = []

    def press(gateway: Any) -> None:
        if gateway.split.get("2") and not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    world.gateway.on_transcription = press
    with pytest.raises(InterruptedRunError, match="stopped before version 2 was accepted; version 1, which served before, is applied"):
        world.deploy("2", bounds=replace(BOUNDS, stage_s=20))
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})
