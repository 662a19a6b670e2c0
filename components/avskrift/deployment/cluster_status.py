"""How the services of a cluster are, for a person or a program: which version, whose traffic, what is wrong, what was changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avskrift.deployment import drift, inference_service
from avskrift.deployment.cluster import Cluster, Resource
from avskrift.deployment.conditions import Pod, is_ready, pod_is_ready, pod_trouble, pods_path, pods_selector
from avskrift.deployment.inference_service import Identity, identity, is_knative
from avskrift.deployment.render import MODES, VERSION_LABEL
from avskrift.errors import UsageError

_OURS = "app.kubernetes.io/managed-by=avskrift"
_UNKNOWN = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One of KServe's own sentences."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One InferenceService. Versions are the registry's numbers; "" where none is known.

    ``traffic`` is percent by version, ``replicas`` pods by version: those that are ready, and all. ``before`` is the version
    that a rollback goes back to. ``trouble`` is why a pod does not come up.
    """

    name: str
    namespace: str
    mode: str
    ready: bool
    url: str
    model_name: str
    version: str
    package_sha256: str
    before: str
    traffic: dict[str, int]
    replicas: dict[str, tuple[int, int]]
    conditions: tuple[Condition, ...]
    trouble: str
    ours: bool  # deploy made it
    drift: tuple[str, ...]


def cluster_status(cluster: Cluster, name: str = "") -> list[ServiceStatus]:
    """The service ``name``, or all that deploy made in the namespace.

    Raises:
        UsageError: there is no service of that name.
        ClusterError: the API did not answer or refused.
    """
    if name:
        found = inference_service.read(cluster, name)
        if found is None:
            raise UsageError(f"there is no InferenceService {name} in {cluster.namespace}; without a name those of deploy are shown")
        services = [found]
    else:
        services = cluster.find(inference_service.path(cluster, "").rstrip("/"), selector=_OURS)
    return [_status(cluster, live) for live in services]


def as_lines(status: ServiceStatus, champion: str) -> list[str]:
    """A table of two columns. ``champion`` is what the registry says, as a sentence."""
    model = f"models:/{status.model_name}/{status.version}" if status.version else "not known: deploy did not make it"
    replicas = (f"version {version}: {ready} of {total} ready" for version, (ready, total) in status.replicas.items())
    lines = [
        ("service", f"{status.name} in {status.namespace}, {status.mode} mode, {'ready' if status.ready else 'not ready'}"),
        ("url", status.url or "none"),
        ("model", model),
        ("sha256", status.package_sha256 or _UNKNOWN),
        ("champion", champion),
        ("traffic", ", ".join(f"version {version} {percent} %" for version, percent in status.traffic.items()) or "not known"),
        ("replicas", ", ".join(replicas) or "none"),
        ("rollback to", f"version {status.before}" if status.before else "nothing on record"),
        ("drift", "; ".join(status.drift) or ("none" if status.ours else "not made by deploy")),
    ]
    lines += [("trouble", status.trouble)] if status.trouble else []
    lines += [(f"  {entry.type}", " ".join(filter(None, (entry.status, entry.reason, entry.message)))) for entry in status.conditions]
    width = max(len(label) for label, _ in lines)
    return [f"{label:<{width}}  {text}" for label, text in lines]


def _status(cluster: Cluster, live: Resource) -> ServiceStatus:
    name, annotations = live["metadata"]["name"], live["metadata"].get("annotations") or {}
    pods = cluster.find(pods_path(cluster.namespace), selector=pods_selector(name))
    pods = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    found = identity(live) or Identity("", "")
    before = inference_service.to_go_back_to(live)
    return ServiceStatus(
        name=name,
        namespace=cluster.namespace,
        mode=MODES["knative"] if is_knative(live) else MODES["standard"],
        ready=is_ready(live),
        url=(live.get("status") or {}).get("url") or "",
        model_name=found.model_name,
        version=found.version,
        package_sha256=annotations.get("avskrift/package-sha256", ""),
        before=(identity(before) or Identity("", "")).version if before else "",
        traffic=_traffic(live),
        replicas=_replicas(pods),
        conditions=_conditions(live),
        trouble=pod_trouble(pods),
        ours=inference_service.applied(live) is not None,
        drift=tuple(map(str, drift.drift(live))),
    )


def _traffic(live: Mapping[str, Any]) -> dict[str, int]:
    now = (identity(live) or Identity("", _UNKNOWN)).version
    if is_knative(live):
        targets = ((live.get("status") or {}).get("components") or {}).get("predictor", {}).get("traffic") or ()
        before = inference_service.previous(live)
        older = (identity(before) or Identity("", _UNKNOWN)).version if before else _UNKNOWN
        shares = Counter[str]()
        for target in targets:
            shares[now if target.get("latestRevision") else older] += int(target.get("percent") or 0)
        return {version: percent for version, percent in shares.items() if percent}
    ready = {entry["name"] for entry in (live.get("status") or {}).get("canaryStatuses") or () if entry.get("ready")}
    canaries = [entry for entry in live["spec"].get("canary") or () if entry["predictor"].get("name") in ready]
    shares = Counter({_version_of(entry["predictor"]): int(entry["trafficPercent"]) for entry in canaries})
    shares[now] += 100 - shares.total()
    return dict(sorted(shares.items())) if is_ready(live) else {}


def _version_of(predictor: Mapping[str, Any]) -> str:
    return str((predictor.get("labels") or {}).get(VERSION_LABEL) or predictor.get("name") or _UNKNOWN)


def _replicas(pods: Sequence[Pod]) -> dict[str, tuple[int, int]]:
    versions = [str((pod["metadata"].get("labels") or {}).get(VERSION_LABEL) or _UNKNOWN) for pod in pods]
    total = Counter(versions)
    ready = Counter(version for version, pod in zip(versions, pods, strict=True) if pod_is_ready(pod))
    return {version: (ready[version], total[version]) for version in sorted(total)}


def _conditions(live: Mapping[str, Any]) -> tuple[Condition, ...]:
    entries = (live.get("status") or {}).get("conditions") or ()
    return tuple(
        Condition(
            type=str(entry.get("type")),
            status=str(entry.get("status")),
            reason=str(entry.get("reason") or ""),
            message=str(entry.get("message") or ""),
        )
        for entry in entries
    )
