"""Values: each documented and described by the schema; wrong ones are refused by name.

``AVSKRIFT_REGENERATE_GOLDEN=1 pytest tests/chart/test_chart_values.py`` writes the table of the chart's README and the schema's
descriptions anew from the comments of ``values.yaml``.
"""

from __future__ import annotations

import json
import os
from typing import Any

import helm_python
import jsonschema
import pytest
import yaml
from rendering import CASES, CHART, texts
from values_table import END, START, comments, described, leaves, table

from avskrift.deployment.render import _STORAGE_SCHEMES

_VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")
_SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
_REGENERATE = os.environ.get("AVSKRIFT_REGENERATE_GOLDEN") == "1"

# What a person would do, and words of the answer that lead to the mistake.
WRONG: dict[str, tuple[Any, ...]] = {
    "a name that is misspelt": ({"servng": {"gpus": 1}}, "servng"),
    "a name inside that is misspelt": ({"serving": {"gpu": 1}}, "/serving", "'gpu'"),
    "a number as text": ({"serving": {"gpus": "one"}}, "/serving/gpus", "want integer"),
    "fewer than none": ({"serving": {"gpus": -1}}, "/serving/gpus", "minimum"),
    "an amount without a unit": ({"serving": {"memory": "lots"}}, "/serving/memory", "Gi"),
    "a digest that is none": ({"images": {"ops": {"digest": "sha256:12"}}}, "/images/ops/digest", "sha256"),
    "a tag inside a repository": ({"images": {"ops": {"repository": "avskrift/ops:1"}}}, "/images/ops/repository"),
    "a registry with a scheme": ({"imageRegistry": "https://registry.example"}, "/imageRegistry"),
    "a pull policy that is none": ({"imagePullPolicy": "Sometimes"}, "/imagePullPolicy", "'IfNotPresent', 'Always', 'Never'"),
    "a mode that is none": ({"autoscaling": {"mode": "vpa"}}, "/autoscaling/mode", "'none', 'hpa', 'keda'"),
    "no replicas for an autoscaler": ({"autoscaling": {"minReplicas": 0}}, "/autoscaling/minReplicas", "minimum"),
    "a name that Kubernetes refuses": ({"endpoint": {"name": "Svenska modellen"}}, "/endpoint/name"),
    "a package where KServe cannot read": (
        {"endpoint": {"inferenceService": {"storageUri": "/home/model"}}},
        "/endpoint/inferenceService/storageUri",
        "s3|gs|hf|oci|pvc|https",
    ),
    "a secret in its plain text": ({"secrets": {"objectStore": {"accessKey": "AKIA"}}}, "/secrets/objectStore", "want string"),
    "a port that is none": ({"networkPolicy": {"mlflow": {"ports": [70000]}}}, "/networkPolicy/mlflow/ports/0", "65,535"),
    "a peer of everyone": ({"networkPolicy": {"clients": {"peers": [{}]}}}, "/networkPolicy/clients/peers/0", "minProperties"),
    "an address that is no range": (
        {"networkPolicy": {"clients": {"peers": [{"ipBlock": {"cidr": "10.0.0.1"}}]}}},
        "/networkPolicy/clients/peers/0/ipBlock/cidr",
    ),
    "a gateway of everyone": ({"networkPolicy": {"gateway": {"peers": [{}]}}}, "/networkPolicy/gateway/peers/0", "minProperties"),
    "a gateway without a port": ({"networkPolicy": {"gateway": {"ports": []}}}, "/networkPolicy/gateway/ports", "minItems"),
    "a port of a gateway by its name": (
        {"networkPolicy": {"gateway": {"ports": ["http"]}}},
        "/networkPolicy/gateway/ports/0",
        "want integer",
    ),
    "ports of clients": ({"networkPolicy": {"clients": {"ports": [80]}}}, "/networkPolicy/clients", "'ports'"),
    "ports of Knative, which are fixed": ({"networkPolicy": {"knative": {"ports": [8012]}}}, "/networkPolicy/knative", "'ports'"),
    "a scope that is none": ({"networkPolicy": {"scope": "cluster"}}, "/networkPolicy/scope", "'namespace', 'ours'"),
    "a share above all": ({"podDisruptionBudget": {"maxUnavailable": "120%"}}, "/podDisruptionBudget/maxUnavailable"),
    "a label that Kubernetes refuses": ({"podLabels": {"team": "tal & text"}}, "/podLabels/team"),
    "a variable with two sources": (
        {"serving": {"env": [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]}},
        "/serving/env/0",
        "maxProperties",
    ),
}

# What concerns two values at once is refused by the templates.
CONTRADICTIONS: dict[str, tuple[Any, ...]] = {
    "grace": ({"serving": {"graceSeconds": 60}}, "serving.graceSeconds is 60", "let the first be fewer"),
    "a database without a password": ({"mlflow": {"enabled": True}}, "mlflow.postgresql.existingSecret", "POSTGRES_PASSWORD"),
    "a store without keys": (
        {"mlflow": {"enabled": True, "postgresql": {"existingSecret": "a"}}},
        "secrets.objectStore",
        "AWS_SECRET_ACCESS_KEY",
    ),
    "a service of nothing": ({"endpoint": {"inferenceService": {"create": True}}}, "endpoint.inferenceService.storageUri", "s3://"),
    "a service without a runtime": (
        {"serving": {"enabled": False}, "endpoint": {"inferenceService": {"create": True, "storageUri": "s3://a/b"}}},
        "needs serving.enabled",
    ),
    "two ports for Knative": (
        {"endpoint": {"inferenceService": {"create": True, "storageUri": "s3://a/b", "deploymentMode": "Knative"}}},
        "set serving.grpc to false",
    ),
    "two autoscalers": (
        {
            "serving": {"grpc": False},
            "autoscaling": {"mode": "hpa"},
            "endpoint": {"inferenceService": {"create": True, "storageUri": "s3://a/b", "deploymentMode": "Knative"}},
        },
        "set autoscaling.mode to none",
    ),
    "more at least than at most": (
        {"autoscaling": {"mode": "hpa", "minReplicas": 5}},
        "autoscaling.minReplicas is more than autoscaling.maxReplicas",
    ),
    "more replicas at least than at most": (
        {"endpoint": {"inferenceService": {"create": True, "storageUri": "s3://a/b", "minReplicas": 2}}},
        "endpoint.inferenceService.minReplicas is more than maxReplicas",
    ),
    "a figure from nowhere": ({"autoscaling": {"mode": "keda"}}, "autoscaling.keda.prometheusUrl"),
    "secrets from nowhere": ({"externalSecrets": {"enabled": True}}, "externalSecrets.store.name"),
    "a secret in plain text": (
        {"serving": {"env": [{"name": "HF_TOKEN", "value": "hf_x"}]}},
        "HF_TOKEN stands there in plain text",
        "secretKeyRef",
    ),
    "a host name that is too long": ({"endpoint": {"name": "a" * 50}}, "would be longer than 63 characters"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_schema_refuses(case: str) -> None:
    values, *words = WRONG[case]
    with pytest.raises(helm_python.HelmError) as refusal:
        texts(values)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_the_templates_refuse(case: str) -> None:
    values, *words = CONTRADICTIONS[case]
    with pytest.raises(helm_python.HelmError) as refusal:
        texts(values)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("case", CASES)
def test_the_schema_takes(case: str) -> None:
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(CASES[case])
        jsonschema.Draft202012Validator(_SCHEMA).validate(chart.merge_values(CASES[case]))


def test_every_value_has_a_comment_and_the_schema_names_the_same_values() -> None:
    documented = comments(_VALUES)
    assert [".".join(path) for path in leaves(yaml.safe_load(_VALUES), documented) if path not in documented] == []
    assert _same(_SCHEMA, yaml.safe_load(_VALUES), "") == []


def test_no_object_of_the_schema_takes_names_that_it_does_not_know() -> None:
    jsonschema.Draft202012Validator.check_schema(_SCHEMA)
    assert _open(_SCHEMA, "") == [".properties.global"]


def test_the_runtime_reads_packages_from_where_deploy_lets_them_lie() -> None:
    pattern = _SCHEMA["properties"]["endpoint"]["properties"]["inferenceService"]["properties"]["storageUri"]["pattern"]
    assert f"({'|'.join(_STORAGE_SCHEMES)})://" in pattern


def test_the_schemas_descriptions_are_the_comments() -> None:
    path = CHART / "values.schema.json"
    wanted = json.dumps(described(_VALUES, _SCHEMA), indent=2, ensure_ascii=False) + "\n"
    if _REGENERATE:
        path.write_text(wanted, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == wanted


def test_the_readme_has_the_table_of_all_values() -> None:
    path = CHART / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    wanted = f"{before}{START}\n\n{table(_VALUES, _SCHEMA)}\n\n{END}{after}"
    if _REGENERATE:
        path.write_text(wanted, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == wanted


def _same(part: dict[str, Any], value: Any, where: str) -> list[str]:
    """Where defaults and schema differ in the values that they name."""
    if "$ref" in part:
        part = _SCHEMA["$defs"][part["$ref"].rpartition("/")[2]]
    if not isinstance(value, dict) or "properties" not in part or part.get("title") == "requests and limits":
        return []
    named = set(part["properties"]) - {"global"}
    differ = [f"{where}.{name}" for name in named ^ set(value)]
    return differ + [fault for name in named & set(value) for fault in _same(part["properties"][name], value[name], f"{where}.{name}")]


def _open(part: Any, where: str) -> list[str]:
    """Objects of the schema that take any name with any value."""
    if isinstance(part, list):
        return [found for entry in part for found in _open(entry, where)]
    if not isinstance(part, dict):
        return []
    others = part.get("additionalProperties")
    own = [where] if part.get("type") == "object" and (others is None or others is True) else []
    return own + [found for name, entry in part.items() for found in _open(entry, f"{where}.{name}")]
