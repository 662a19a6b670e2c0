"""A new version takes the place of what serves on a cluster, by stages, or what served comes back.

Nothing is called done before the whole traffic is at the new version and it transcribed a recording; ``accept``, which moves the
registry's alias, comes after that. Any failure before its end applies the previous specification again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from avskrift.deployment import canary, drift, inference_service
from avskrift.deployment.cluster import Cluster, Resource, wait_out
from avskrift.deployment.conditions import is_ready, judge, judge_canary, ready_stable
from avskrift.deployment.inference_service import identity, is_knative, revision
from avskrift.deployment.probing import Bounds, Probes, answering_version, degradation, probe
from avskrift.deployment.smoke import SmokeTest, smoke
from avskrift.deployment.waiting import Pace, observe, wait
from avskrift.errors import AvskriftError, DeploymentError, DriftError, InterruptedRunError, UsageError
from avskrift.logs import Log
from avskrift.progress import progress

T = TypeVar("T")
_BASELINE_PROBES = 10
_SETTLED_ANSWERS = 5  # in a row from the new version, before all of the traffic is called its own
_ENOUGH_TO_BE_SEEN = 5  # answers that the new version should have given, before none is a reason
_log = Log("rollout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to roll out. ``stages``: rising percents of the traffic, empty for no canary. ``url`` in place of the service's own."""

    test: SmokeTest
    stages: tuple[int, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    pace: Pace = field(default_factory=Pace)
    url: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A version that has the whole traffic and passed its smoke test."""

    url: str
    version: str
    transcript: str


def roll_out(cluster: Cluster, new: Resource, plan: Plan, *, accept: Callable[[Served], T]) -> T:
    """Serve the rendered manifest ``new`` and return what ``accept`` said of it.

    Raises:
        DriftError: somebody else made or changed the InferenceService; nothing was changed.
        UsageError, ClusterError: the cluster refuses the manifest, or did not answer.
        DeploymentError: it did not become ready, was worse than what served, or failed its smoke test. Says whether what served
            before serves again. So does whatever ``accept`` raised.
        InterruptedRunError: stopped; as DeploymentError.
    """
    return _Rollout(cluster, new, plan).run(accept)


class _Rollout:
    """One roll-out. ``before`` is what comes back if it fails; ``older`` what stood on record as previous to that."""

    def __init__(self, cluster: Cluster, new: Resource, plan: Plan) -> None:
        self.cluster, self.new, self.plan = cluster, new, plan
        self.name = new["metadata"]["name"]
        found = identity(new)
        self.version = found.version if found else ""
        self.revision = revision(new)
        self.before: Resource | None = None
        self.older: Resource | None = None
        self.since = ""
        self.changed = False
        self.began = time.time()

    def run(self, accept: Callable[[Served], T]) -> T:
        live = inference_service.read(self.cluster, self.name)
        if live is not None:
            drift.check(live, force=self.plan.force)
            self.before = inference_service.serving_before(live)
            self.older = self._before_that(inference_service.previous(live))
        try:
            if live is not None and self.before is not None and self._deserves_a_canary(live, self.before):
                self._stages(self.before, self._url(live))
            self._apply(self.new, previous=self._previous())
            live = self._wait_for_all()
            said = accept(self._smoke(self._url(live)))
        except BaseException as error:
            self._fail(error)
            raise
        _log.info("rollout.accepted", service=self.name, version=self.version)
        return said

    def _before_that(self, recorded: Resource | None) -> Resource | None:
        """After a roll-out that was cut short the record may be of ``before`` itself; what was there earlier is not known then."""
        same = recorded is not None and self.before is not None and revision(recorded) == revision(self.before)
        return None if same else recorded

    def _deserves_a_canary(self, live: Resource, before: Resource) -> bool:
        """There must be something good beside it, and it must be something else."""
        return bool(self.plan.stages) and is_ready(live) and revision(before) != self.revision

    def _previous(self) -> Resource | None:
        """What a rollback from the new version goes back to; applying the same version again does not change it."""
        same = self.before is not None and revision(self.before) == self.revision
        return self.older if same else self.before

    def _stages(self, before: Resource, url: str) -> None:
        baseline = self._baseline(url)
        replicas = 0
        for percent in self.plan.stages:
            # The most that were seen: while the canary takes the traffic, an autoscaler may take pods from what serves beside it.
            replicas = max(replicas, self._ready_pods())
            staged = canary.at_stage(before, self.new, percent, replicas=replicas)
            # The record stays the one of the version whose manifest it is.
            self._apply(staged, previous=before if is_knative(staged) else self.older)
            name = canary.canary_name(self.new)
            wait(
                self.cluster,
                self.name,
                partial(judge_canary, name=name, percent=percent, revision=self.revision, since=self.since),
                what=f"version {self.version} at {percent} %",
                pace=self.plan.pace,
            )
            self._watch(url, percent, baseline)
        last = canary.before_the_end(self.new, replicas=replicas)
        if last is not None:
            self._apply(last, previous=before)
            self._wait_for_all()

    def _ready_pods(self) -> int:
        return ready_stable(*observe(self.cluster, self.name))

    def _baseline(self, url: str) -> Probes:
        probes = Probes()
        for _ in range(_BASELINE_PROBES):
            probe(url, self.plan.test, service=self.name, probes=probes, version=self.version)
        if len(probes.failures) == probes.asked:
            raise DeploymentError(
                f"what serves now does not answer at {url} ({probes.failures[-1]}), so a canary could not be compared with it; "
                "give the address that this machine reaches with --service-url, or replace it at once with --canary none"
            )
        return probes

    def _watch(self, url: str, percent: int, baseline: Probes) -> None:
        """Probe for the stage's time; the first bound that is broken ends it."""
        bounds, probes = self.plan.bounds, Probes(since=self.began)
        what = f"watching version {self.version} at {percent} %"
        until = time.monotonic() + bounds.stage_s
        with progress(what, total=max(1, round(bounds.stage_s / bounds.interval_s)), unit="probes") as bar:
            while True:
                probe(url, self.plan.test, service=self.name, probes=probes, version=self.version)
                bar.advance(1, {"error_rate": probes.error_rate, "p95_s": probes.p95_s})
                trouble = degradation(probes, baseline, bounds)
                if trouble:
                    raise DeploymentError(f"version {self.version} at {percent} % of the traffic is worse than what served: {trouble}")
                if time.monotonic() >= until:
                    break
                time.sleep(bounds.interval_s)
        self._was_seen(probes, percent, url)

    def _was_seen(self, probes: Probes, percent: int, url: str) -> None:
        """Probes that only ever met the version before say nothing of the new one."""
        known = [version for version in probes.versions if version]
        seen = known.count(self.version)
        _log.info("rollout.watched", percent=percent, probes=probes.asked, seen=seen, error_rate=probes.error_rate, p95_s=probes.p95_s)
        if not seen and len(known) * percent / 100 >= _ENOUGH_TO_BE_SEEN:
            raise DeploymentError(
                f"version {self.version} should have given {percent} % of the answers at {url} and gave none of {len(known)}: "
                "nothing splits the traffic there. In Standard mode the Gateway API does; without it give --canary none"
            )

    def _apply(self, manifest: Resource, *, previous: Resource | None) -> None:
        self.changed = True  # even an apply that was not answered may have come through
        try:
            live = inference_service.apply(self.cluster, manifest, previous=previous, force=self.plan.force)
        except (DriftError, UsageError):
            self.changed = bool(self.since)
            raise
        self.since = self.since or inference_service.our_last_apply(live)
        _log.info("rollout.applied", service=self.name, version=self.version, generation=live["metadata"].get("generation"))

    def _wait_for_all(self) -> Resource:
        return wait(
            self.cluster,
            self.name,
            partial(judge, revision=self.revision, since=self.since),
            what=f"version {self.version}",
            pace=self.plan.pace,
        )

    def _smoke(self, url: str) -> Served:
        _wait_for_answers(url, self.name, self.version, self.plan.pace)
        return Served(url=url, version=self.version, transcript=smoke(self.plan.test, url=url, service=self.name, version=self.version))

    def _url(self, live: Resource) -> str:
        return service_url(live, self.plan.url)

    def _fail(self, error: BaseException) -> None:
        """Bring back what served and say how that went, in an error of the same kind."""
        if not self.changed:
            return
        outcome = self._go_back()
        _log.warning("rollout.failed", service=self.name, version=self.version, outcome=outcome)
        if isinstance(error, AvskriftError):
            raise type(error)(f"{error}; {outcome}") from error
        if isinstance(error, KeyboardInterrupt):
            raise InterruptedRunError(f"stopped before version {self.version} was accepted; {outcome}") from error

    def _go_back(self) -> str:
        if self.before is None:
            _reject(self.cluster, self.new)
            return f"nothing served before it: InferenceService {self.name} stays as it is"
        found = identity(self.before)
        what = f"version {found.version}" if found else "what served"
        try:
            halted = canary.halted(self.new)
            if halted is not None:  # the old pods take the traffic at once, while new ones of the old version come up
                self._insist(halted, previous=self.before)
            self._insist(self.before, previous=self.older)
            wait(
                self.cluster,
                self.name,
                partial(judge, revision=revision(self.before)),
                what=f"going back to {what}",
                pace=self.plan.pace,
                fail_fast=False,
            )
        except AvskriftError as error:
            return f"{what}, which served before, could not be brought back ready ({error}); see `avskrift status --cluster`"
        return f"{what}, which served before, is applied again and ready"

    def _insist(self, manifest: Resource, *, previous: Resource | None) -> None:
        until = time.monotonic() + self.plan.pace.ready_timeout_s
        wait_out(
            lambda: inference_service.apply(self.cluster, manifest, previous=previous, force=True),
            until=until,
            pause_s=self.plan.pace.look_s,
        )


def roll_back(cluster: Cluster, name: str, plan: Plan, *, accept: Callable[[Served], T]) -> T:
    """Serve again what served before the version that serves now, at once and without a canary.

    Raises:
        UsageError: there is no such InferenceService, or nothing on record to go back to.
        DriftError, ClusterError, DeploymentError, InterruptedRunError: as :func:`roll_out`.
    """
    live = inference_service.read(cluster, name)
    if live is None:
        raise UsageError(f"there is no InferenceService {name} in {cluster.namespace}; see `avskrift status --cluster`")
    target = target_of_rollback(live)
    return roll_out(cluster, target, plan, accept=accept)


def target_of_rollback(live: Resource) -> Resource:
    """The manifest that a rollback applies.

    Raises:
        UsageError: nothing is on record.
    """
    name = live["metadata"]["name"]
    target = inference_service.to_go_back_to(live)
    if target is None:
        raise UsageError(f"InferenceService {name} has no version before this one on record; deploy the version that you want")
    return target


def service_url(live: Resource, given: str = "") -> str:
    """Where the service answers: ``given``, else what KServe says.

    Raises:
        DeploymentError: KServe gives it no URL.
    """
    url = given or (live.get("status") or {}).get("url") or ""
    if not url:
        name = live["metadata"]["name"]
        raise DeploymentError(f"InferenceService {name} has no URL; is there an ingress for KServe? --service-url gives one")
    return str(url).rstrip("/")


def _wait_for_answers(url: str, name: str, version: str, pace: Pace) -> None:
    """Return once answers at ``url`` come from ``version`` alone: what routes to the pods is slower than the pods.

    Raises:
        DeploymentError: they did not in time.
    """
    until, in_a_row, last = time.monotonic() + pace.answer_timeout_s, 0, ""
    while in_a_row < _SETTLED_ANSWERS:
        last = answering_version(url, name)
        in_a_row = in_a_row + 1 if last == version else 0
        if in_a_row == 0:
            if time.monotonic() > until:
                found = f"version {last} answers there" if last else "nothing there tells its version"
                raise DeploymentError(
                    f"version {version} is ready, but {url} did not answer with it within {pace.answer_timeout_s:g} s ({found}); "
                    "does this machine reach that address? --service-url gives another"
                )
            time.sleep(pace.look_s)


def _reject(cluster: Cluster, new: Resource) -> None:
    """Put on record that this was never accepted, so that no later roll-out comes back to it."""
    try:
        inference_service.apply(cluster, inference_service.rejected(new), previous=None)
    except AvskriftError as error:
        _log.warning("rollout.not_marked", reason=str(error))
