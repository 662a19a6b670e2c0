"""The chart as Helm renders it: its defaults and each of ``ci/values-*.yaml``."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "charts" / "avskrift"
RELEASE = "avskrift"
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    **{path.stem.removeprefix("values-"): yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CHART.glob("ci/*.yaml"))},
}
_NAMESPACES = {"kind": "kubeflow"}  # where Kubeflow Pipelines standalone lives, and its runs with it
_PREDICTORS_OWN = {"component": "predictor"}
DRIVER = {"pipelines.kubeflow.org/v2_component": "true"}  # Kubeflow gives every pod of a run this, and what runs before a step no role

Manifest = dict[str, Any]


def namespace(case: str) -> str:
    return _NAMESPACES.get(case, "speech")


def texts(values: dict[str, Any], namespace: str = "speech") -> dict[str, str]:
    """Rendered text by template; what renders to nothing is left out."""
    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(values, name=RELEASE, namespace=namespace)
    return {Path(name).relative_to("avskrift/templates").as_posix(): text for name, text in sorted(rendered.items()) if text.strip()}


def manifests(values: dict[str, Any], namespace: str = "speech") -> list[Manifest]:
    found = texts(values, namespace)
    return [entry for name, text in found.items() if name.endswith(".yaml") for entry in yaml.safe_load_all(text) if entry]


@functools.cache
def case_manifests(case: str) -> tuple[Manifest, ...]:
    """What a case renders to. Shared: not to be changed."""
    return tuple(manifests(CASES[case], namespace(case)))


def of_kind(case: str, *kinds: str) -> list[Manifest]:
    return [manifest for manifest in case_manifests(case) if manifest["kind"] in kinds]


def values(case: str) -> dict[str, Any]:
    """The values of a case, defaults and all."""
    with helm_python.Chart.load(CHART) as chart:
        return chart.merge_values(CASES[case])


def own_pods(case: str) -> Iterator[tuple[str, dict[str, str], Manifest]]:
    """The pods that the chart itself starts: name, labels, spec."""
    for manifest in of_kind(case, "Pod"):
        yield manifest["metadata"]["name"], manifest["metadata"]["labels"], manifest["spec"]
    for manifest in of_kind(case, "Deployment", "StatefulSet"):
        template = manifest["spec"]["template"]
        yield manifest["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def known_pods(case: str) -> dict[str, dict[str, str]]:
    """Labels of all pods that the chart is about, by a short name: its own, the steps that Kubeflow starts, KServe's predictors."""
    own = {labels["app.kubernetes.io/component"]: labels for _, labels, _ in own_pods(case)}
    steps = {role: {**DRIVER, "avskrift/role": role} for role in ("data", "train", "serving", "ops")}
    predictor = predictor_labels(values(case)["endpoint"]["name"])
    knative = {**predictor, "serving.knative.dev/revision": f"{values(case)['endpoint']['name']}-predictor-00001"}
    return {**own, **steps, "predictor": predictor, "knative-predictor": knative}


def predictor_labels(service: str) -> dict[str, str]:
    """As KServe 0.21 gives them in Standard mode (``createRawDefaultDeployment``), to its Service too."""
    return {"serving.kserve.io/inferenceservice": service, "app": f"isvc.{service}-predictor", **_PREDICTORS_OWN}
