"""InferenceServices on a cluster: read, applied, and what deploy wrote on them about itself.

Deploy leaves two annotations: what it applied last, by which drift is seen, and what served before that, by which
:mod:`avskrift.deployment.rollout` and ``avskrift rollback`` go back.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avskrift.deployment.cluster import FIELD_MANAGER, Cluster, Resource
from avskrift.deployment.render import AUTOSCALER_CLASS, DEPLOYMENT_MODE, MODEL_ANNOTATION, MODES, REVISION_LABEL
from avskrift.errors import ClusterError, ConflictError, DriftError, UsageError

APPLIED = "avskrift/applied"
PREVIOUS = "avskrift/previous"
REJECTED = "avskrift/rejected"  # "true": the first version of a service, which failed, with nothing to go back to
SERVICE_LABEL = "serving.kserve.io/inferenceservice"  # KServe's own, on every pod of an InferenceService
_BOOKKEEPING = (APPLIED, PREVIOUS)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which registered version an InferenceService was rendered from."""

    model_name: str
    version: str


def path(cluster: Cluster, name: str) -> str:
    return f"/apis/serving.kserve.io/v1beta1/namespaces/{cluster.namespace}/inferenceservices/{name}"


def read(cluster: Cluster, name: str) -> Resource | None:
    """The InferenceService as it is; None where there is none.

    Raises:
        ClusterError: the API did not answer or refused, or KServe is not installed.
    """
    return cluster.get(path(cluster, name))


def apply(cluster: Cluster, manifest: Resource, *, previous: Resource | None, force: bool = False) -> Resource:
    """Apply a rendered manifest; it carries itself and ``previous``, what served before, as annotations.

    Raises:
        DriftError: somebody else manages fields that it sets, and ``force`` is not given; names them. Nothing was changed.
        UsageError: this KServe has no canaries in Standard mode.
        ClusterError: the API did not answer or refused.
    """
    carried = copy.deepcopy(manifest)
    notes = {APPLIED: _as_text(manifest)} | ({PREVIOUS: _as_text(previous)} if previous else {})
    carried["metadata"]["annotations"] = {**carried["metadata"].get("annotations", {}), **notes}
    name = manifest["metadata"]["name"]
    try:
        return cluster.apply(path(cluster, name), carried, force=force)
    except ConflictError as error:
        raise DriftError(
            f"InferenceService {name} in {cluster.namespace}: others manage fields that deploy sets ({error}); nothing was changed. "
            "Give the fields back, or take them over with --force"
        ) from error
    except ClusterError as error:
        if "spec.canary" in str(error):
            raise UsageError(
                "this cluster's KServe has no spec.canary, which came with 0.20; update it, use --mode knative, or give --canary none"
            ) from error
        raise


def applied(live: Mapping[str, Any]) -> Resource | None:
    """What deploy applied last; None where it was not deploy."""
    return _note(live, APPLIED)


def previous(live: Mapping[str, Any]) -> Resource | None:
    """What served before what deploy applied last; None where nothing did."""
    return _note(live, PREVIOUS)


def serving_before(live: Mapping[str, Any]) -> Resource | None:
    """What is to come back if a roll-out that begins now fails: what was applied last, without a canary that a roll-out left behind.

    Of an InferenceService that deploy did not make it is all that stands there. None where nothing was ever accepted.
    """
    manifest = applied(live)
    if manifest is None:
        return _as_found(live)
    if manifest["metadata"].get("annotations", {}).get(REJECTED):
        return previous(live)
    if _stands_where_the_old_one_stood(manifest):
        return previous(live)
    stable = copy.deepcopy(manifest)
    stable["spec"].pop("canary", None)
    return stable


def to_go_back_to(live: Mapping[str, Any]) -> Resource | None:
    """What a rollback applies: what served before, or in the middle of a roll-out what stands beside the canary. None: no record."""
    manifest = applied(live)
    cut_short = manifest is not None and bool(manifest["spec"].get("canary"))
    return serving_before(live) if cut_short else previous(live)


def rejected(manifest: Resource) -> Resource:
    """The manifest with the note that it was never accepted."""
    marked = copy.deepcopy(manifest)
    marked["metadata"]["annotations"] = {**marked["metadata"].get("annotations", {}), REJECTED: "true"}
    return marked


def identity(manifest: Mapping[str, Any]) -> Identity | None:
    """The registered version that a manifest or a live InferenceService names; None where it names none."""
    uri = manifest["metadata"].get("annotations", {}).get(MODEL_ANNOTATION, "")
    model_name, _, version = uri.removeprefix("models:/").rpartition("/")
    return Identity(model_name, version) if model_name and version else None


def is_knative(manifest: Mapping[str, Any]) -> bool:
    return bool(manifest["metadata"].get("annotations", {}).get(DEPLOYMENT_MODE) == MODES["knative"])


def autoscaler(manifest: Mapping[str, Any]) -> str:
    """KServe's autoscaler class; "" for its default."""
    return str(manifest["metadata"].get("annotations", {}).get(AUTOSCALER_CLASS, ""))


def revision(manifest: Mapping[str, Any]) -> str:
    """The revision that its pods carry as a label; "" where deploy did not render it."""
    return str((manifest["spec"]["predictor"].get("labels") or {}).get(REVISION_LABEL, ""))


def our_last_apply(live: Mapping[str, Any]) -> str:
    """When deploy last changed it, by the API server's clock, as RFC 3339; "" where that is not known."""
    entries = live["metadata"].get("managedFields") or ()
    return max((entry.get("time") or "" for entry in entries if entry.get("manager") == FIELD_MANAGER), default="")


def _stands_where_the_old_one_stood(manifest: Mapping[str, Any]) -> bool:
    """A new version in the middle of its roll-out, not accepted yet: with Knative at each stage, in Standard mode at the last one."""
    spec = manifest["spec"]
    return "canaryTrafficPercent" in spec["predictor"] or any(
        revision({"spec": canary}) == revision(manifest) for canary in spec.get("canary") or ()
    )


def _as_found(live: Mapping[str, Any]) -> Resource:
    """What people wrote of an InferenceService, without what the API server and kubectl keep there."""
    metadata = {part: dict(live["metadata"].get(part) or {}) for part in ("labels", "annotations")}
    metadata["annotations"].pop("kubectl.kubernetes.io/last-applied-configuration", None)
    named = {"name": live["metadata"]["name"], "namespace": live["metadata"].get("namespace", "")}
    return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": named | metadata, "spec": copy.deepcopy(live["spec"])}


def _note(live: Mapping[str, Any], name: str) -> Resource | None:
    try:
        found = json.loads(live["metadata"].get("annotations", {}).get(name, ""))
        return found if found["metadata"]["name"] and found["spec"]["predictor"] else None
    except (ValueError, TypeError, KeyError):
        return None


def _as_text(manifest: Resource) -> str:
    plain = copy.deepcopy(manifest)
    for name in _BOOKKEEPING:
        plain["metadata"].get("annotations", {}).pop(name, None)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))
