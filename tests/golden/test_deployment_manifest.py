"""The InferenceService: as it was reviewed, and as KServe's own schema takes it.

``AVSKRIFT_REGENERATE_GOLDEN=1 pytest tests/golden/test_deployment_manifest.py`` writes the golden files anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from avskrift.deployment.render import Resources, Service, render, to_yaml

_GOLDEN = Path(__file__).parent / "deployment"
_SHARED = Path(__file__).parents[3] / "shared" / "crds"

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


def schema() -> dict[str, Any]:
    """v1beta1 of KServe's published CRD, which the project does not copy."""
    path = Path(os.environ.get("AVSKRIFT_CRDS") or _SHARED) / "serving.kserve.io_inferenceservices.yaml"
    if not path.is_file():
        pytest.skip(f"{path} is not here: set AVSKRIFT_CRDS to a folder with KServe's CRDs")
    crd = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = (entry for entry in crd["spec"]["versions"] if entry["name"] == "v1beta1")
    structural: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return structural


_TYPES: dict[str, type | tuple[type, ...]] = {"string": str, "boolean": bool, "number": (int, float), "array": list, "object": dict}


def faults(value: Any, schema: dict[str, Any], where: str) -> list[str]:
    """What an API server that is told to refuse unknown fields has against ``value``."""
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, (int, str)) else [f"{where} is neither integer nor string"]
    kind = schema.get("type", "object")
    if kind == "integer":
        return [] if isinstance(value, int) and not isinstance(value, bool) else [f"{where} is no integer"]
    if not isinstance(value, _TYPES[kind]):
        return [f"{where} is no {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where} is none of {schema['enum']}"]
    if kind == "array":
        return [fault for index, entry in enumerate(value) for fault in faults(entry, schema["items"], f"{where}[{index}]")]
    return _object_faults(value, schema, where) if kind == "object" else []


def _object_faults(value: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    found = [f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    named, others = schema.get("properties", {}), schema.get("additionalProperties")
    # The CRD leaves metadata open: the API server knows it by itself.
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or not (named or others)
    for name, entry in value.items():
        inner = named.get(name, others)
        if isinstance(inner, dict):
            found += faults(entry, inner, f"{where}.{name}")
        elif not open_ended:
            found.append(f"{where}.{name} is not in the schema")
    return found
