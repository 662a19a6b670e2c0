"""The InferenceService: as it was reviewed, and as KServe's own schema takes it.

``AVSKRIFT_REGENERATE_GOLDEN=1 pytest tests/golden/test_deployment_manifest.py`` writes the golden files anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from crd_schema import faults, schema

from avskrift.deployment.render import Resources, Service, render, to_yaml

_GOLDEN = Path(__file__).parent / "deployment"

SERVICES = {
    "inferenceservice-cpu": Service(
        name="avskrift",
        namespace="speech",
        storage_uri="s3://models/whisper-sv/1",
        image="registry.example/avskrift/serving@sha256:" + "1" * 64,
        model_name="whisper-sv",
        version="1",
        package_sha256="ab" * 32,
    ),
    "inferenceservice-gpu": Service(
        name="whisper-sv",
        namespace="speech",
        storage_uri="pvc://models/whisper-sv/12",
        image="registry.example/avskrift/serving@sha256:" + "2" * 64,
        model_name="whisper-sv",
        version="12",
        package_sha256="cd" * 32,
        resources=Resources(cpu="4", memory="16Gi", gpus=1),
        min_replicas=0,
        max_replicas=3,
        service_account="avskrift-predictor",
        autoscaler="external",
        grpc=True,
    ),
    "inferenceservice-knative": Service(
        name="avskrift",
        namespace="speech",
        storage_uri="s3://models/whisper-sv/1",
        image="registry.example/avskrift/serving@sha256:" + "1" * 64,
        model_name="whisper-sv",
        version="1",
        package_sha256="ab" * 32,
        mode="knative",
    ),
}


@pytest.mark.parametrize("name", SERVICES)
def test_the_manifest_is_the_reviewed_one(name: str) -> None:
    golden, text = _GOLDEN / f"{name}.yaml", to_yaml(render(SERVICES[name]))
    if os.environ.get("AVSKRIFT_REGENERATE_GOLDEN") == "1":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
    assert yaml.safe_load(text) == render(SERVICES[name])


@pytest.mark.parametrize("name", SERVICES)
def test_a_pod_that_is_to_go_serves_on_for_a_moment_and_still_has_the_time_of_grace(name: str) -> None:
    predictor = render(SERVICES[name])["spec"]["predictor"]
    (container,) = predictor["containers"]
    if "knative" in name:  # it does so by itself, and refuses the field
        assert "lifecycle" not in container
        return
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    grace = next(int(one["value"]) for one in container["env"] if one["name"] == "AVSKRIFT_GRACE_SECONDS")
    assert command == "sleep"
    assert int(seconds) + grace < predictor["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", SERVICES)
def test_kserves_schema_takes_the_manifest(name: str) -> None:
    assert list(faults(yaml.safe_load(to_yaml(render(SERVICES[name]))), schema(), "")) == []


def test_the_check_sees_an_unknown_field_a_wrong_type_and_a_missing_one() -> None:
    manifest = render(SERVICES["inferenceservice-cpu"])
    manifest["spec"]["predictor"]["minReplica"] = 1
    manifest["spec"]["predictor"]["maxReplicas"] = "three"
    del manifest["spec"]["predictor"]["containers"][0]["ports"][0]["containerPort"]
    assert sorted(faults(manifest, schema(), "")) == [
        ".spec.predictor.containers[0].ports[0].containerPort is missing",
        ".spec.predictor.maxReplicas is no integer",
        ".spec.predictor.minReplica is not in the schema",
    ]
