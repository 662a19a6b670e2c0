"""Training on several nodes of a cluster: a TrainJob is applied, followed to its end, and suspended where nobody waits for it any more.

Nothing is deleted. A job that is suspended has no pods, keeps its checkpoints, and goes on once it is applied again. One that has
failed stays as it is, for whoever looks into it; the next try is a job of its own.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from avskrift.deployment.cluster import Cluster, Resource
from avskrift.deployment.conditions import Pod, pods_path
from avskrift.deployment.trainjob import JOB_LABEL, TrainJob, render
from avskrift.deployment.trainjob_status import Failure, Verdict, first_cause, is_true, judge
from avskrift.errors import AvskriftError, ClusterError, ConflictError, InterruptedRunError, StepFailedError, TrainingError, UsageError
from avskrift.logs import Log

_MOST_TRIES = 10  # jobs of one pipeline run
_log = Log("nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: the longest wait, between two looks, between two log lines, and that a pod's trouble must last to count."""

    timeout_s: float = 7 * 24 * 3600.0
    look_s: float = 10.0
    say_s: float = 60.0
    settle_s: float = 30.0


def train(cluster: Cluster, job: TrainJob, pace: Pace) -> str:
    """Run ``job`` to its end; return the name of the TrainJob that did it.

    The job's name belongs to its pipeline run: one that is there already is waited for, and one that was suspended goes on. After
    one that has failed another is made, ``NAME-2`` and so on, which goes on from the checkpoints.

    Raises:
        UsageError: something that cannot be, or a cluster whose Trainer is too old.
        ClusterError: the Kubernetes API did not answer, refused, or knows no TrainJob.
        ConflictError: somebody else manages fields that it sets.
        InterruptedRunError: stopped; the TrainJob is suspended.
        TrainingError: it failed for want of something, or was not done in time; then it is suspended.
        AvskriftError: of the class that the first node to fail ended with.
    """
    manifest, live = _chosen(cluster, job)
    name = manifest["metadata"]["name"]
    try:
        _start(cluster, manifest, live)
        _follow(cluster, name, pace)
    except KeyboardInterrupt as error:
        outcome = _suspended(cluster, manifest)
        raise InterruptedRunError(f"stopped before TrainJob {name} was done; {outcome}") from error
    except _GivenUpError as error:
        raise type(error.reason)(f"{error.reason}; {_suspended(cluster, manifest)}") from error
    return str(name)


class _GivenUpError(Exception):
    """There is nothing to wait for, and the job would not end by itself."""

    def __init__(self, reason: AvskriftError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _chosen(cluster: Cluster, job: TrainJob) -> tuple[Resource, Resource | None]:
    """The manifest of the run's job, and what is on the cluster of it: the first one that has not failed."""
    for number in range(1, _MOST_TRIES + 1):
        manifest = render(job if number == 1 else replace(job, name=f"{job.name}-{number}"))
        live = _read(cluster, manifest["metadata"]["name"])
        if live is None:
            return manifest, None
        if not is_true(live, "Failed"):
            # Trainer lets nothing of it be changed, and MLflow may have been away when it was made, or be so now.
            trainer = manifest["spec"]["trainer"]
            trainer["env"] = (live["spec"].get("trainer") or trainer)["env"]
            return manifest, live
        _log.info("trainjob.failed_before", job=manifest["metadata"]["name"])
    raise TrainingError(f"{_MOST_TRIES} TrainJobs of this run failed, {job.name} and those after it; mend the cause and start a new run")


def _start(cluster: Cluster, manifest: Resource, live: Resource | None) -> None:
    """What was suspended goes on as soon as the manifest, which says nothing of that, is applied again."""
    event = "adopted"
    if live is None or (live.get("spec") or {}).get("suspend"):
        _apply(cluster, manifest, force=False)
        event = "resumed" if live else "applied"
    trainer = manifest["spec"]["trainer"]
    _log.info(f"trainjob.{event}", job=manifest["metadata"]["name"], nodes=trainer["numNodes"], processes=trainer["numProcPerNode"])


def _follow(cluster: Cluster, name: str, pace: Pace) -> None:
    """Until it is complete. An API server that does not answer for a while is waited for too."""
    started = said = time.monotonic()
    hopeless_since: float | None = None
    last: Failure | None = None  # pods may be gone when Trainer gives the job up
    told = ""
    while True:
        verdict, last = _look(cluster, name, last)
        now = time.monotonic()
        if verdict.state == "complete":
            _log.info("trainjob.complete", job=name, seconds=now - started)
            return
        if verdict.state == "failed":
            raise verdict.error(name)
        hopeless_since = None if verdict.state != "hopeless" else hopeless_since or now
        if hopeless_since is not None and now - hopeless_since >= pace.settle_s:
            raise _GivenUpError(verdict.error(name))
        if now - started > pace.timeout_s:
            raise _GivenUpError(TrainingError(f"TrainJob {name} was not done within {pace.timeout_s:g} s: {verdict.reason}"))
        if verdict.reason != told or now - said >= pace.say_s:
            _log.info("trainjob.waiting", job=name, reason=verdict.reason, seconds=now - started)
            told, said = verdict.reason, now
        time.sleep(pace.look_s)


def _look(cluster: Cluster, name: str, last: Failure | None) -> tuple[Verdict, Failure | None]:
    try:
        live = _read(cluster, name)
        pods: list[Pod] = cluster.find(pods_path(cluster.namespace), selector=f"{JOB_LABEL}={name}") if live else []
    except ClusterError as error:
        return Verdict("waiting", str(error)), last
    if live is None:
        raise StepFailedError(f"TrainJob {name} in {cluster.namespace} is gone: somebody deleted it; run the step again to go on")
    verdict, last = judge(live, pods), first_cause(pods) or last
    return (replace(verdict, failure=verdict.failure or last) if verdict.state == "failed" else verdict), last


def _suspended(cluster: Cluster, manifest: Mapping[str, Any]) -> str:
    """What became of the attempt to suspend it, as the end of a sentence."""
    name = manifest["metadata"]["name"]
    try:
        try:
            _suspend(cluster, manifest)
        except KeyboardInterrupt:  # a terminal and a runner both send the signal; the second must not keep GPUs from being given back
            _suspend(cluster, manifest)
    except AvskriftError as error:
        return f"it could not be suspended and may still run ({error}); `kubectl delete trainjob {name}` ends it"
    _log.info("trainjob.suspended", job=name)
    return "it is suspended, and the same step started again goes on with it"


def _suspend(cluster: Cluster, manifest: Mapping[str, Any]) -> None:
    told = copy.deepcopy(dict(manifest))
    told["spec"]["suspend"] = True
    _apply(cluster, told, force=True)


def _read(cluster: Cluster, name: str) -> Resource | None:
    try:
        return cluster.get(_path(cluster, name))
    except ClusterError as error:
        raise _explained(error) from error


def _apply(cluster: Cluster, manifest: Resource, *, force: bool) -> None:
    name = manifest["metadata"]["name"]
    try:
        cluster.apply(_path(cluster, name), manifest, force=force)
    except ConflictError as error:
        raise ConflictError(f"TrainJob {name} in {cluster.namespace}: others manage fields that this step sets ({error})") from error
    except ClusterError as error:
        raise _explained(error) from error


def _explained(error: ClusterError) -> AvskriftError:
    said = str(error)
    if "does not know trainer.kubeflow.org" in said:
        return ClusterError(f"{said.partition('; ')[0]}; is Kubeflow Trainer 2 installed there?")
    if "runtimePatches" in said or "activeDeadlineSeconds" in said:
        return UsageError(f"this cluster's Kubeflow Trainer is too old for spec.runtimePatches and the like; update it ({said})")
    return error


def _path(cluster: Cluster, name: str) -> str:
    return f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{cluster.namespace}/trainjobs/{name}"
