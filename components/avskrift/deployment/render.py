"""The InferenceService of a registered version, as a value: nothing here speaks to a cluster.

The predictor is our own container, so a cluster needs no ServingRuntime of ours. KServe's storage initializer finds the
package by the container's ``STORAGE_URI`` and puts it at ``/mnt/models``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml  # type: ignore[import-untyped]

from avskrift.errors import UsageError

MODEL_MOUNT = "/mnt/models"  # where KServe's storage initializer puts a package
MODEL_ANNOTATION = "avskrift/model"  # models:/NAME/VERSION
VERSION_LABEL = "avskrift/model-version"
REVISION_LABEL = "avskrift/revision"
DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
AUTOSCALER_CLASS = "serving.kserve.io/autoscalerClass"
MODES = {"standard": "Standard", "knative": "Knative"}
Mode = Literal["standard", "knative"]
_AUTOSCALER_CLASSES = ("", "hpa", "keda", "external", "none")
_USER = 65532  # whose the serving image is; a namespace may ask for a number, which Kubernetes can see is not root's
_HTTP_PORT = 8080
_GRPC_PORT = 8081
_REVISION_CHARACTERS = 12
# How many there are and how much of the traffic they get makes no other pods.
_NOT_OF_A_POD = ("labels", "minReplicas", "maxReplicas")
_TERMINATION_SECONDS = 60  # between SIGTERM and SIGKILL
_GRACE_SECONDS = 50  # of them, what requests in flight get; the rest is for the way there and out
_LINGER_SECONDS = 5  # a pod that is to go serves on, until whoever sends it requests has heard of it
_STORAGE_SCHEMES = ("s3", "gs", "hf", "oci", "pvc", "https")  # what KServe 0.21's storage initializer knows
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")  # Kubernetes' resource.Quantity
_NAMED_BY_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST_HOST_LABEL = 63  # NAME-predictor-NAMESPACE is one label of a host name
_LABEL_SHA256_CHARACTERS = 16  # a label's value holds 63 characters, one fewer than a sha256; the annotation has it whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the predictor is given, as requests and as limits: a pod with the two alike is the last to be evicted."""

    cpu: str = "2"
    memory: str = "4Gi"
    gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What to serve, as what, and with what. ``storage_uri`` names a model package; ``image`` our serving image.

    ``autoscaler`` is KServe's autoscaler class: external where the chart or somebody else scales, "" for KServe's default.
    ``grpc`` offers gRPC on port 8081 too, in Standard mode alone: Knative allows one port.
    """

    name: str
    namespace: str
    storage_uri: str
    image: str
    model_name: str
    version: str
    package_sha256: str
    resources: Resources = field(default_factory=Resources)
    min_replicas: int = 1
    max_replicas: int = 1
    service_account: str = ""
    mode: Mode | str = "standard"
    autoscaler: str = ""
    grpc: bool = False


def render(service: Service) -> dict[str, Any]:
    """The InferenceService (v1beta1) as plain values.

    Raises:
        UsageError: a name, quantity or image that Kubernetes refuses, a package where no cluster can read it, replicas that
            cannot be, an unknown mode or autoscaler, or gRPC with Knative.
    """
    _check(service)
    identity = _labels(service)
    predictor = _predictor(service)
    # KServe gives these to the pods, so that one can tell which version a pod is, and whether it is what was applied last.
    pod_labels = identity | {REVISION_LABEL: _revision(predictor)}
    autoscaler = {AUTOSCALER_CLASS: service.autoscaler} if service.autoscaler else {}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": service.name,
            "namespace": service.namespace,
            "labels": identity,
            "annotations": {
                DEPLOYMENT_MODE: MODES[service.mode],
                **autoscaler,
                MODEL_ANNOTATION: f"models:/{service.model_name}/{service.version}",
                "avskrift/package-sha256": service.package_sha256,
            },
        },
        "spec": {"predictor": {"labels": pod_labels, **predictor}},
    }


def to_yaml(manifest: dict[str, Any]) -> str:
    """The manifest as YAML, keys in the order that people write them in."""
    return str(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120))


def storage_uri(package_uri: str) -> str:
    """A package's URI as KServe's storage initializer knows it.

    Raises:
        UsageError: a place that the storage initializer cannot read.
    """
    scheme, separator, rest = package_uri.partition("://")
    if separator and scheme == "minio":  # KFP's own name for the S3 store that it ships with
        return f"s3://{rest}"
    if not separator or scheme not in _STORAGE_SCHEMES:
        known = ", ".join(f"{name}://" for name in _STORAGE_SCHEMES)
        raise UsageError(f"{package_uri}: KServe cannot read a package from there; put it where one of {known} reaches it")
    return package_uri


def _labels(service: Service) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "avskrift",
        "app.kubernetes.io/part-of": "avskrift",
        "app.kubernetes.io/component": "predictor",
        "app.kubernetes.io/managed-by": "avskrift",
        VERSION_LABEL: service.version,
        "avskrift/package-sha256": service.package_sha256[:_LABEL_SHA256_CHARACTERS],
    }


def _revision(predictor: Mapping[str, Any]) -> str:
    """A digest of what makes a predictor's pods what they are; the same for a canary and for what it becomes."""
    fields = {name: value for name, value in predictor.items() if name not in _NOT_OF_A_POD}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:_REVISION_CHARACTERS]


def _predictor(service: Service) -> dict[str, Any]:
    account = {"serviceAccountName": service.service_account} if service.service_account else {}
    return {
        "minReplicas": service.min_replicas,
        "maxReplicas": service.max_replicas,
        **account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": _TERMINATION_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(service)],
        # The root file system is read-only; multipart uploads and Python need somewhere to spool to.
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
    }


def _container(service: Service) -> dict[str, Any]:
    return {
        "name": "kserve-container",
        "image": service.image,
        "command": ["python", "-m", "avskrift.serving"],
        "args": [
            f"--package={MODEL_MOUNT}",
            f"--package-sha256={service.package_sha256}",
            f"--port={_HTTP_PORT}",
            *([f"--grpc-port={_GRPC_PORT}"] if service.grpc else []),
            "--host=0.0.0.0",
            f"--name={service.name}",
            f"--model-version={service.version}",
        ],
        "env": [
            {"name": "STORAGE_URI", "value": storage_uri(service.storage_uri)},
            {"name": "AVSKRIFT_HOME", "value": "/tmp/avskrift"},
            {"name": "AVSKRIFT_LOG_FORMAT", "value": "json"},
            {"name": "AVSKRIFT_GRACE_SECONDS", "value": str(_GRACE_SECONDS)},
        ],
        "ports": [_port("http1", _HTTP_PORT), *([_port("grpc", _GRPC_PORT)] if service.grpc else [])],
        "resources": _resources(service.resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # Why it ended stands in the pod's status then, for those who may not read logs.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # Loading checks every file's sha256 first, so a large package takes minutes: the startup probe waits for ten.
        "startupProbe": _probe("/v2/health/ready", period=5, failures=120),
        "readinessProbe": _probe("/v2/health/ready", period=5, failures=3),
        "livenessProbe": _probe("/v2/health/live", period=10, failures=6),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        **_lifecycle(service),
    }


def _lifecycle(service: Service) -> dict[str, Any]:
    """Knative has its own way to let a pod go, and refuses the field."""
    return {} if service.mode == "knative" else {"lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_LINGER_SECONDS)]}}}}


def _resources(resources: Resources) -> dict[str, dict[str, str]]:
    amounts = {"cpu": resources.cpu, "memory": resources.memory}
    if resources.gpus:
        amounts["nvidia.com/gpu"] = str(resources.gpus)
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _port(name: str, number: int) -> dict[str, Any]:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": _HTTP_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _check(service: Service) -> None:
    for what, name in (("service name", service.name), ("namespace", service.namespace)):
        if not _DNS_LABEL.fullmatch(name):
            raise UsageError(f"the {what} {name!r} is not one that Kubernetes takes; use lower-case letters, digits and -, a letter first")
    host = f"{service.name}-predictor-{service.namespace}"
    if len(host) > _LONGEST_HOST_LABEL:
        raise UsageError(f"the host name {host} would be longer than {_LONGEST_HOST_LABEL} characters; choose a shorter service name")
    if not 0 <= service.min_replicas <= service.max_replicas or service.max_replicas < 1:
        raise UsageError(
            f"{service.min_replicas} to {service.max_replicas} replicas cannot be; use 0 <= minimum <= maximum, maximum at least 1"
        )
    _check_pod(service.image, service.resources)
    if service.mode not in MODES:
        raise UsageError(f"the mode {service.mode!r} is unknown; use standard or knative")
    if service.autoscaler not in _AUTOSCALER_CLASSES:
        raise UsageError(f"the autoscaler {service.autoscaler!r} is unknown; use hpa, keda, external or none, or leave it to KServe")
    if service.grpc and service.mode == "knative":
        raise UsageError("Knative allows one port, so gRPC cannot be offered beside HTTP; use the mode standard, or leave gRPC out")


def _check_pod(image: str, resources: Resources) -> None:
    for what, quantity in (("cpu", resources.cpu), ("memory", resources.memory)):
        if not _QUANTITY.fullmatch(quantity):
            raise UsageError(f"{what} {quantity!r} is no quantity that Kubernetes takes; write it as 2, 500m or 4Gi")
    if resources.gpus < 0:
        raise UsageError(f"{resources.gpus} GPUs cannot be; use 0 or more")
    if not image or ("@" in image and not _NAMED_BY_DIGEST.fullmatch(image)):
        raise UsageError(f"the serving image {image!r} is none; name it as REGISTRY/NAME@sha256: and 64 hexadecimal digits")
