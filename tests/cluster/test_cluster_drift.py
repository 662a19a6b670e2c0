"""What somebody else did to an InferenceService is shown, and overwritten only where that is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from api_server import SERVICES, Object
from cluster_world import IMAGE, MODEL, World

from avskrift.deployment.drift import drift
from avskrift.errors import DriftError

AT_ONCE = {"canary": "none"}


def scale(live: Object) -> None:
    live["spec"]["predictor"]["minReplicas"] = 3


def patch_image(live: Object) -> None:
    (container,) = live["spec"]["predictor"]["containers"]
    container["image"] = "elsewhere/patched:latest"
    container["env"].append({"name": "DEBUG", "value": "1"})


def relabel(live: Object) -> None:
    del live["metadata"]["labels"]["app.kubernetes.io/name"]


EDITS = {
    "a value": (scale, ["spec.predictor.minReplicas: 1 -> 3 by kubectl-edit"]),
    "inside a list": (
        patch_image,
        [
            f"spec.predictor.containers[kserve-container].image: {IMAGE[:77]}... -> elsewhere/patched:latest",
            'spec.predictor.containers[kserve-container].env[DEBUG]: nothing -> {"name": "DEBUG", "value": "1"} by kubectl-edit',
        ],
    ),
    "a label": (relabel, ["metadata.labels.app.kubernetes.io/name: avskrift -> nothing"]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_shown_field_by_field_and_not_overwritten(world: World, edit: str) -> None:
    world.deploy("1")
    change, lines = EDITS[edit]
    world.server.edit("kubectl-edit", change)
    applied = len(world.server.applied)
    with pytest.raises(DriftError, match="InferenceService tal in speech was changed after deploy applied it") as failure:
        world.deploy("2", **AT_ONCE)
    assert not [line for line in lines if line not in str(failure.value)], str(failure.value)
    assert "overwrite it with --force; nothing was changed" in str(failure.value)
    assert len(world.server.applied) == applied
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("1", {"1": 100}, "1")


@pytest.mark.parametrize("edit", EDITS)
def test_force_overwrites_it(world: World, edit: str) -> None:
    world.deploy("1")
    world.server.edit("kubectl-edit", EDITS[edit][0])
    assert world.deploy("2", force=True, **AT_ONCE).promoted
    assert drift(world.server.service()) == []
    assert world.deploy("3").promoted
    assert world.champion() == "3"


def test_fields_that_deploy_does_not_set_are_others_to_set(world: World) -> None:
    world.deploy("1")

    def others(live: Object) -> None:
        live["spec"]["predictor"]["timeout"] = 60
        live["metadata"]["annotations"]["owner"] = "speech-team"

    world.server.edit("kubectl-annotate", others)
    assert world.deploy("2").promoted
    assert world.spec()["predictor"]["timeout"] == 60
    assert world.server.service()["metadata"]["annotations"]["owner"] == "speech-team"


def test_what_kserves_admission_makes_of_an_apply_is_no_drift(world: World) -> None:
    """The value stands under deploy's own name: nobody else set it."""
    world.deploy("1")
    (container,) = world.spec()["predictor"]["containers"]
    container["resources"]["limits"]["memory"] = "4096Mi"
    assert drift(world.server.service()) == []


def test_a_field_that_another_manager_set_as_well_is_shown(world: World) -> None:
    world.deploy("1")
    world.server.owners[f"{SERVICES}/tal"]["argocd-controller"] = {"spec|predictor|maxReplicas"}
    world.server._count(f"{SERVICES}/tal", spec_changed=False)
    with pytest.raises(DriftError, match=r"spec\.predictor\.maxReplicas also set by argocd-controller"):
        world.deploy("2")
    assert world.champion() == "1"


def test_a_conflict_that_only_the_api_server_sees_is_told_with_its_manager(world: World, monkeypatch: Any) -> None:
    """Somebody edits between our look and our apply: 409."""
    from avskrift.deployment import drift as looking

    world.deploy("1")
    world.server.edit("kubectl-edit", scale)
    monkeypatch.setattr(looking, "drift", lambda _: [])
    with pytest.raises(DriftError, match=r'others manage .* \(spec\.predictor\.minReplicas conflict with "kubectl-edit"\)'):
        world.deploy("2", **AT_ONCE)
    assert (world.champion(), world.traffic(), world.version_on_record()) == ("1", {"1": 100}, "1")
    assert world.spec()["predictor"]["minReplicas"] == 3


def test_a_service_that_deploy_did_not_make_is_not_taken_over_silently(world: World) -> None:
    made_by_helm(world)
    with pytest.raises(DriftError, match=r"was not made by deploy \(it is managed by helm\); nothing was changed"):
        world.deploy("1")
    assert world.champion() == ""


def test_what_was_taken_over_by_force_comes_back_if_the_version_fails(world: World) -> None:
    made_by_helm(world)
    world.gateway.answers["2"] = "errors"
    before = world.spec()["predictor"]["containers"][0]["image"]
    with pytest.raises(Exception, match="which served before, is applied again and ready"):
        world.deploy("2", force=True, **AT_ONCE)
    assert world.spec()["predictor"]["containers"][0]["image"] == before
    assert world.traffic() == {"1": 100}


def made_by_helm(world: World) -> None:
    """Version 1 as it would be if helm had installed it."""
    world.deploy("1")
    live, path = world.server.service(), f"{SERVICES}/tal"
    for name in ("avskrift/applied", "avskrift/previous"):
        live["metadata"]["annotations"].pop(name, None)
    world.server.owners[path] = {"helm": world.server.owners[path]["avskrift"] - {"metadata|annotations|avskrift/applied"}}
    world.server._count(path, spec_changed=False)
    world.registry._client.delete_registered_model_alias(MODEL, "champion")  # type: ignore[attr-defined]
