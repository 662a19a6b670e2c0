"""How an InferenceService is, judged from its status and its pods: ready, on its way, or beyond hope. Nothing here asks a cluster.

Of pods those count that carry the revision which was applied: in Standard mode KServe calls a service ready as long as the pods
of the version before serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from avskrift.deployment.inference_service import SERVICE_LABEL, is_knative
from avskrift.deployment.render import REVISION_LABEL
from avskrift.logs import redact

State = Literal["ready", "waiting", "failed"]
Pod = dict[str, Any]

_FAILED_MODEL = ("BlockedByFailedLoad", "InvalidSpec")
_STORAGE_INITIALIZER = "storage-initializer"
# What the kubelet says once it has tried, and what no further try changes.
_HOPELESS = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"})
_CRASH_LOOP = "CrashLoopBackOff"
_LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` says what is waited for, or why there is nothing left to wait for; "" if ready."""

    state: State
    reason: str = ""


READY = Verdict("ready")


def judge(live: Mapping[str, Any], pods: Sequence[Pod], *, revision: str, since: str = "") -> Verdict:
    """Whether all that serves is ``revision``. ``since``: pods that were there before (RFC 3339) say nothing of it.

    The whole service: no canary is left. :func:`judge_canary` looks at a canary.
    """
    trouble = _failure(live, _ours(pods, revision, since), _model_status(live))
    if trouble:
        return Verdict("failed", trouble)
    behind = _not_observed(live)
    if behind:
        return Verdict("waiting", behind)
    if not is_ready(live):
        return Verdict("waiting", _unschedulable(pods) or _said(_condition(live, "Ready"), "Ready"))
    if is_knative(live):
        return _whole_traffic_of_knative(live)
    return _all_pods_are(_stable(live, pods), revision)


def judge_canary(live: Mapping[str, Any], pods: Sequence[Pod], *, name: str, percent: int, revision: str, since: str = "") -> Verdict:
    """Whether the canary ``name`` is ready and gets ``percent`` of the traffic; the same for Knative's newest revision."""
    entry: Mapping[str, Any] = next((entry for entry in _status(live).get("canaryStatuses") or () if entry.get("name") == name), {})
    trouble = _failure(live, _ours(pods, revision, since), _model_status(live) if is_knative(live) else entry.get("modelStatus") or {})
    if trouble:
        return Verdict("failed", trouble)
    behind = _not_observed(live)
    if behind:
        return Verdict("waiting", behind)
    if is_knative(live):
        now = _latest_traffic(live)
        return READY if now == percent else Verdict("waiting", f"the new revision gets {now} % of the traffic, not {percent} % yet")
    if not entry.get("ready"):
        return Verdict("waiting", _unschedulable(_ours(pods, revision, since)) or f"the canary {name} is not ready")
    if entry.get("trafficPercent") != percent:
        return Verdict("waiting", f"the canary {name} gets {entry.get('trafficPercent')} % of the traffic, not {percent} % yet")
    return READY


def is_ready(live: Mapping[str, Any]) -> bool:
    """What KServe says of it. In Standard mode that may be about pods of the version before."""
    return _condition(live, "Ready").get("status") == "True"


def pod_trouble(pods: Iterable[Pod]) -> str:
    """Why a pod cannot come up, with its last words, cleared of credentials; "" where none is in such trouble."""
    for pod in pods:
        status = pod.get("status") or {}
        name = pod["metadata"]["name"]
        for entry in status.get("initContainerStatuses") or ():
            said = _trouble_of(entry)
            if said:
                storage = "the package cannot be fetched: " if entry.get("name") == _STORAGE_INITIALIZER else ""
                return f"{storage}pod {name}, init container {entry.get('name')}: {said}"
        for entry in status.get("containerStatuses") or ():
            said = _trouble_of(entry)
            if said:
                return f"pod {name}, container {entry.get('name')}: {said}"
    return ""


def _trouble_of(entry: Mapping[str, Any]) -> str:
    """A container that cannot be made, or that ended and is started again and again."""
    waiting = (entry.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason") or ""
    if reason in _HOPELESS:
        return _sentence(reason, waiting.get("message"))
    ended = (entry.get("state") or {}).get("terminated") or (entry.get("lastState") or {}).get("terminated") or {}
    again = int(entry.get("restartCount") or 0)
    if ended.get("exitCode") and (reason == _CRASH_LOOP or again >= 2):
        return _sentence(f"{ended.get('reason') or 'Error'}, exit code {ended['exitCode']}, {again} restarts", ended.get("message"))
    return ""


def _failure(live: Mapping[str, Any], pods: Sequence[Pod], model: Mapping[str, Any]) -> str:
    """Pods first: what they say is nearer to the cause."""
    trouble = pod_trouble(pods)
    if trouble:
        return trouble
    transition = model.get("transitionStatus")
    if transition in _FAILED_MODEL and not _not_observed(live):
        info = model.get("lastFailureInfo") or {}
        return _sentence(f"KServe says {transition}" + (f", {info['reason']}" if info.get("reason") else ""), info.get("message"))
    return ""


def _not_observed(live: Mapping[str, Any]) -> str:
    """A status that is older than the specification says nothing of it."""
    generation, observed = live["metadata"].get("generation", 0), _status(live).get("observedGeneration", 0)
    return "" if observed >= generation else f"KServe has not looked at generation {generation} yet"


def _all_pods_are(pods: Sequence[Pod], revision: str) -> Verdict:
    """The roll-over is done: every pod that is not going is of the revision and ready, and there is one."""
    ours = [pod for pod in pods if _revision(pod) == revision]
    others = len(pods) - len(ours)
    unready = [pod for pod in ours if not pod_is_ready(pod)]
    if not ours or unready:
        return Verdict("waiting", _unschedulable(unready) or f"{len(ours) - len(unready)} of {max(1, len(ours))} new pods are ready")
    return Verdict("waiting", f"{others} pods of the version before are still there") if others else READY


def _whole_traffic_of_knative(live: Mapping[str, Any]) -> Verdict:
    component = (_status(live).get("components") or {}).get("predictor") or {}
    created, ready = component.get("latestCreatedRevision"), component.get("latestReadyRevision")
    if created != ready:
        return Verdict("waiting", f"revision {created} is not ready")
    now = _latest_traffic(live)
    return READY if now == 100 else Verdict("waiting", f"the new revision gets {now} % of the traffic, not 100 % yet")


def _latest_traffic(live: Mapping[str, Any]) -> int:
    targets = ((_status(live).get("components") or {}).get("predictor") or {}).get("traffic") or ()
    return sum(int(target.get("percent") or 0) for target in targets if target.get("latestRevision"))


def pod_is_ready(pod: Pod) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions)


def ready_stable(live: Mapping[str, Any], pods: Sequence[Pod]) -> int:
    """How many pods serve behind the service itself, however many an autoscaler made of them; not a canary's."""
    return sum(pod_is_ready(pod) for pod in _stable(live, pods))


def _stable(live: Mapping[str, Any], pods: Sequence[Pod]) -> list[Pod]:
    """The pods behind the service itself, not a canary's, without those that are going."""
    app = f"isvc.{live['metadata']['name']}-predictor"
    return [pod for pod in pods if _labels(pod).get("app") == app and not pod["metadata"].get("deletionTimestamp")]


def _ours(pods: Iterable[Pod], revision: str, since: str) -> list[Pod]:
    """RFC 3339 in UTC sorts as text."""
    return [pod for pod in pods if _revision(pod) == revision and pod["metadata"].get("creationTimestamp", "") >= since]


def _unschedulable(pods: Iterable[Pod]) -> str:
    """No failure: a cluster may get another node. But it is what people have to know when the time is up."""
    for pod in pods:
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return f"pod {pod['metadata']['name']}: {_sentence(condition.get('reason') or 'Unschedulable', condition.get('message'))}"
    return ""


def _condition(live: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((condition for condition in _status(live).get("conditions") or () if condition.get("type") == kind), {})


def _said(condition: Mapping[str, Any], kind: str) -> str:
    return _sentence(f"{kind} is {condition.get('status', 'not known')}", condition.get("message") or condition.get("reason"))


def _sentence(what: str, message: object) -> str:
    """The last line of a message: of a log that is where the error stands."""
    lines = [line.strip() for line in redact(str(message or "")).splitlines() if line.strip()]
    return f"{what}: {lines[-1][:_LONGEST_MESSAGE]}" if lines else what


def _status(live: Mapping[str, Any]) -> Mapping[str, Any]:
    return live.get("status") or {}


def _model_status(live: Mapping[str, Any]) -> Mapping[str, Any]:
    return _status(live).get("modelStatus") or {}


def _labels(pod: Pod) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def _revision(pod: Pod) -> str:
    return _labels(pod).get(REVISION_LABEL, "")


def pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def pods_selector(name: str) -> str:
    return f"{SERVICE_LABEL}={name}"
