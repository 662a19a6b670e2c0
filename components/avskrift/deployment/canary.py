"""What is applied at each stage of a canary, and how its stages are written. Nothing here speaks to a cluster.

In Standard mode the new version stands beside the one that serves, in ``spec.canary`` (KServe 0.20 or later; its traffic is split
by the Gateway API). With Knative the new version takes the place of the old one, and ``canaryTrafficPercent`` says how much it gets.
"""

from __future__ import annotations

import copy
import math

from avskrift.deployment.cluster import Resource
from avskrift.deployment.inference_service import autoscaler, identity, is_knative
from avskrift.errors import UsageError

NO_CANARY = "none"
# KServe refuses what has to do with autoscaling on a canary, which has a fixed number of replicas.
_NOT_OF_A_CANARY = ("maxReplicas",)
# Of these autoscaler classes KServe leaves the scaling to somebody else, who does not ask for its maxReplicas.
_SCALED_BY_OTHERS = ("external", "none")


def parse_stages(text: str) -> tuple[int, ...]:
    """``"10,50,100"`` as percents; ``"none"`` as no stages, which replaces the version at once.

    Raises:
        UsageError: not whole numbers from 1 to 100 that rise.
    """
    if text.strip().lower() == NO_CANARY:
        return ()
    try:
        stages = tuple(int(part) for part in text.split(","))
    except ValueError:
        stages = (0,)
    if not all(1 <= stage <= 100 for stage in stages) or list(stages) != sorted(set(stages)):
        raise UsageError(
            f"the canary's stages {text!r} cannot be; give rising percents of the traffic, as 10,50,100, or {NO_CANARY} for no canary"
        )
    return stages


def canary_name(manifest: Resource) -> str:
    """The canary's name in ``spec.canary``; it becomes a part of the Deployment's."""
    found = identity(manifest)
    return f"v{found.version}" if found else "canary"


def at_stage(serving: Resource, new: Resource, percent: int, *, replicas: int = 0) -> Resource:
    """The manifest that gives ``new`` so many percent of the traffic beside ``serving``, of which ``replicas`` pods serve now.

    In Standard mode nothing scales a canary, so it gets its share of those pods at once. With Knative it scales by itself.
    """
    if is_knative(new):
        staged = copy.deepcopy(new)
        staged["spec"]["predictor"]["canaryTrafficPercent"] = percent
        return staged
    return _beside(serving, new, percent, replicas)


def before_the_end(new: Resource, *, replicas: int = 0) -> Resource | None:
    """In Standard mode: the manifest in which ``new`` stands at both places, and the canary still has the traffic.

    Its pods take over under the service's own name, by which autoscalers, policies and clients inside the cluster know it, before
    the canary goes. None with Knative, which needs no such step.
    """
    return None if is_knative(new) else _beside(new, new, 100, replicas)


def halted(new: Resource) -> Resource | None:
    """With Knative: the manifest that takes the new version's traffic away at once. In Standard mode the way back does so by itself."""
    return at_stage(new, new, 0) if is_knative(new) else None


def _beside(serving: Resource, new: Resource, percent: int, replicas: int) -> Resource:
    staged = copy.deepcopy(serving)
    predictor = {name: value for name, value in copy.deepcopy(new["spec"]["predictor"]).items() if name not in _NOT_OF_A_CANARY}
    predictor["name"] = canary_name(new)
    predictor["minReplicas"] = max(1, math.ceil(_for_all(new, replicas) * percent / 100))
    staged["spec"]["canary"] = [{"trafficPercent": percent, "predictor": predictor}]
    return staged


def _for_all(new: Resource, replicas: int) -> int:
    """How many pods of ``new`` the whole traffic takes, where ``replicas`` serve it now."""
    predictor = new["spec"]["predictor"]
    wanted = max(replicas, int(predictor.get("minReplicas", 1)))
    if autoscaler(new) in _SCALED_BY_OTHERS or "maxReplicas" not in predictor:
        return wanted
    return min(wanted, int(predictor["maxReplicas"]))
