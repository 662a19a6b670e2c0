"""How a TrainJob is, judged from its status and its pods: complete, failed, beyond hope, or on its way. Nothing here asks a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from avskrift.deployment.conditions import Pod, pod_trouble
from avskrift.errors import AvskriftError, InterruptedRunError, StepFailedError, TrainingError, error_of, every_error
from avskrift.logs import redact

State = Literal["complete", "failed", "hopeless", "waiting"]
_OUT_OF_MEMORY = "OOMKilled"
_LONGEST_MESSAGE = 600
# What the failure of another process does to one: by itself it says nothing of the cause, and a new try may mend it.
_CONSEQUENCES = (AvskriftError.exit_code, StepFailedError.exit_code, InterruptedRunError.exit_code)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a container ended: the exit code, and what is to be said of it."""

    exit_code: int
    reason: str
    out_of_memory: bool = False

    def error(self) -> AvskriftError:
        """The error that the container ended with; a failed step where it said none, or was only dragged down."""
        if self.out_of_memory:
            return TrainingError(self.reason)
        return StepFailedError(self.reason) if self.exit_code in _CONSEQUENCES else error_of(self.exit_code, self.reason)

    @property
    def final(self) -> bool:
        """Whether the same container, started again, would end alike."""
        if self.out_of_memory:
            return True
        classes = {cls.exit_code: cls for cls in every_error() if cls.exit_code not in _CONSEQUENCES}
        return self.exit_code in classes and not classes[self.exit_code].retryable


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` says what is waited for, or why it failed; ``failure`` the container that did. Hopeless: it has not failed yet."""

    state: State
    reason: str = ""
    failure: Failure | None = None

    def error(self, name: str) -> AvskriftError:
        """What a failed or hopeless one is told as."""
        if self.failure is not None:
            found = self.failure.error()
            return type(found)(f"TrainJob {name} failed: {found}")
        return TrainingError(f"TrainJob {name} failed: {self.reason}")


def judge(live: Mapping[str, Any], pods: Sequence[Pod]) -> Verdict:
    """How the job is. Complete and failed are Trainer's words; hopeless is what its pods say, long before Trainer gives up."""
    if is_true(live, "Complete"):
        return Verdict("complete")
    failure = first_cause(pods)
    if is_true(live, "Failed"):
        return Verdict("failed", _said(live, "Failed"), failure)
    if failure is not None and failure.final:
        return Verdict("hopeless", failure.reason, failure)
    trouble = pod_trouble(pods)
    if trouble:
        return Verdict("hopeless", trouble)
    if is_true(live, "Suspended"):
        return Verdict("waiting", f"it is suspended ({_said(live, 'Suspended')}); a queue admits it, or whoever suspended it resumes it")
    return Verdict("waiting", _unschedulable(pods) or _progress(live, pods))


def is_true(live: Mapping[str, Any], kind: str) -> bool:
    """Whether the job has this condition."""
    return _condition(live, kind).get("status") == "True"


def first_cause(pods: Iterable[Pod]) -> Failure | None:
    """Of the containers that ended badly the one that did not only lose the others; None where none did."""
    found = [failure for pod in pods if (failure := _failure_of(pod)) is not None]
    return min(found, key=lambda failure: failure.exit_code in _CONSEQUENCES, default=None)


def _failure_of(pod: Pod) -> Failure | None:
    for entry in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (entry.get("state") or {}).get("terminated") or (entry.get("lastState") or {}).get("terminated") or {}
        code = int(ended.get("exitCode") or 0)
        if not code:
            continue
        name = pod["metadata"]["name"]
        if ended.get("reason") == _OUT_OF_MEMORY:
            return Failure(code, f"pod {name} was killed for memory ({_OUT_OF_MEMORY}); give the nodes more, or set workers lower", True)
        said = _last_line(ended.get("message")) or f"it ended with exit code {code} ({ended.get('reason') or 'Error'}) and said nothing"
        return Failure(code, f"pod {name}: {said}")
    return None


def _progress(live: Mapping[str, Any], pods: Sequence[Pod]) -> str:
    nodes = int(((live.get("spec") or {}).get("trainer") or {}).get("numNodes") or 1)
    running = sum((pod.get("status") or {}).get("phase") == "Running" for pod in pods)
    return f"{running} of {nodes} nodes run"


def _unschedulable(pods: Iterable[Pod]) -> str:
    """No failure: a cluster may get another node. But it is what people have to know while they wait."""
    for pod in pods:
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                said = _last_line(condition.get("message")) or condition.get("reason")
                return f"pod {pod['metadata']['name']} has no node: {said}"
    return ""


def _condition(live: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = (live.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def _said(live: Mapping[str, Any], kind: str) -> str:
    condition = _condition(live, kind)
    return ": ".join(filter(None, (condition.get("reason"), _last_line(condition.get("message")))))


def _last_line(message: object) -> str:
    lines = [line.strip() for line in redact(str(message or "")).splitlines() if line.strip()]
    return lines[-1][:_LONGEST_MESSAGE] if lines else ""
