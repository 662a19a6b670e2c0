"""Waiting for a cluster: until a verdict is ready, with progress on the way, and not longer than there is hope."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from avskrift.deployment import inference_service
from avskrift.deployment.cluster import Cluster, Resource
from avskrift.deployment.conditions import Pod, Verdict, pods_path, pods_selector
from avskrift.errors import ClusterError, DeploymentError
from avskrift.logs import Log
from avskrift.progress import progress

_log = Log("rollout")
Look = Callable[[Resource, list[Pod]], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: the longest wait for one change, between two looks, between two log lines, and that a failure must last to count.

    ``answer_timeout_s`` is how long a service that Kubernetes calls ready may take until its URL answers with the new version.
    """

    ready_timeout_s: float = 900.0
    look_s: float = 2.0
    say_s: float = 15.0
    settle_s: float = 6.0  # KServe's status of a failed load outlives the failure by a moment
    answer_timeout_s: float = 120.0


def observe(cluster: Cluster, name: str) -> tuple[Resource, list[Pod]]:
    """The InferenceService and its pods as they are.

    Raises:
        ClusterError: the API did not answer or refused.
        DeploymentError: somebody deleted it.
    """
    live = inference_service.read(cluster, name)
    if live is None:
        raise DeploymentError(f"InferenceService {name} in {cluster.namespace} is gone: somebody deleted it")
    return live, cluster.find(pods_path(cluster.namespace), selector=pods_selector(name))


def wait(cluster: Cluster, name: str, look: Look, *, what: str, pace: Pace, fail_fast: bool = True) -> Resource:
    """The InferenceService once ``look`` finds it ready. ``what`` names what is waited for, in log lines and errors.

    An API server that does not answer for a while is waited for too. With ``fail_fast`` a verdict of failure ends the wait.

    Raises:
        DeploymentError: failure, or it was not ready in time; says for what it waited in vain.
    """
    started = said = time.monotonic()
    failing_since: float | None = None
    reason = told = ""
    on_terminal = sys.stderr.isatty()
    with progress(what, total=round(pace.ready_timeout_s), unit="s", shown=on_terminal) as bar:
        shown = 0
        while True:
            verdict, live = _look(cluster, name, look)
            now = time.monotonic()
            if verdict.state == "ready":
                _log.info("rollout.ready", what=what, seconds=now - started)
                return live
            reason = verdict.reason
            failing_since = None if verdict.state != "failed" else failing_since or now
            if fail_fast and failing_since is not None and now - failing_since >= pace.settle_s:
                raise DeploymentError(f"{what} failed: {reason}")
            if now - started > pace.ready_timeout_s:
                raise DeploymentError(f"{what} was not ready within {pace.ready_timeout_s:g} s: {reason}")
            if reason != told or (not on_terminal and now - said >= pace.say_s):
                _log.info("rollout.waiting", what=what, reason=reason, seconds=now - started)
                told, said = reason, now
            bar.advance(round(now - started) - shown)
            shown = round(now - started)
            time.sleep(pace.look_s)


def _look(cluster: Cluster, name: str, look: Look) -> tuple[Verdict, Resource]:
    try:
        live, pods = observe(cluster, name)
    except ClusterError as error:
        return Verdict("waiting", str(error)), {}
    return look(live, pods), live
