"""deploy and rollback on a cluster: the registered version, the InferenceService, and then the alias."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avskrift.deployment import inference_service
from avskrift.deployment.canary import parse_stages
from avskrift.deployment.cluster import Cluster, connect
from avskrift.deployment.lease import Held, LeaseLock
from avskrift.deployment.probing import Bounds
from avskrift.deployment.render import Resources, Service, render, storage_uri, to_yaml
from avskrift.deployment.rollout import Plan, Served, roll_back, roll_out, target_of_rollback
from avskrift.deployment.smoke import SmokeTest
from avskrift.deployment.waiting import Pace
from avskrift.errors import AvskriftError, UsageError
from avskrift.logs import Log
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import MlflowRegistry
from avskrift.registry.promotion import promote
from avskrift.registry.protocol import CHAMPION, ModelVersion
from avskrift.steps.deploy.config import Config, Result
from avskrift.steps.deploy.stop_signals import StopSignals
from avskrift.storage.atomic import atomic_file

MANIFEST_FILE = "inferenceservice.yaml"
Manifest = dict[str, Any]
_log = Log("deploy")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """What serves again, and what it was put in the place of; both as the registry numbers them."""

    url: str
    model_name: str
    version: str
    replaced: str
    transcript: str


def rendered(config: Config, version: ModelVersion, *, namespace: str) -> Manifest:
    """The InferenceService of a registered version.

    Raises:
        UsageError: something that cannot be.
    """
    if not config.image:
        raise UsageError(f"the target {config.target} needs the serving image: give it with --serving-image")
    service = Service(
        name=config.service_name,
        namespace=namespace or "default",
        storage_uri=storage_uri(config.package_uri or version.source_uri),
        image=config.image,
        model_name=config.model_name,
        version=config.version,
        package_sha256=version.tags[tags.PACKAGE_SHA256],
        resources=Resources(cpu=config.cpu, memory=config.memory, gpus=config.gpus),
        min_replicas=config.min_replicas,
        max_replicas=config.max_replicas,
        service_account=config.service_account,
        mode=config.mode,
        autoscaler=config.autoscaler,
        grpc=config.grpc,
    )
    return render(service)


def _written(config: Config, manifest: Manifest) -> Path:
    path = Path(config.out) / MANIFEST_FILE
    with atomic_file(path) as temporary:
        temporary.write_text(to_yaml(manifest), encoding="utf-8")
    return path


def write_only(config: Config, version: ModelVersion) -> Result:
    """Write the manifest for somebody else to apply."""
    path = _written(config, rendered(config, version, namespace=config.namespace))
    _log.info("manifest.written", applied=False, promoted=False, note="whoever applies it moves champion")
    return Result(target=config.target, version=config.version, url="", promoted=False, manifest=path)


def deploy(
    config: Config,
    registry: MlflowRegistry,
    version: ModelVersion,
    test: SmokeTest,
    *,
    pace: Pace | None = None,
    bounds: Bounds | None = None,
) -> Result:
    """Apply the version's InferenceService; ``champion`` moves once it has the whole traffic and transcribed a recording.

    Raises:
        ConflictError: another deploy of this service is under way, or champion was moved in the meantime.
        UsageError, DriftError, ClusterError, DeploymentError, InterruptedRunError: as :func:`roll_out`.
    """
    plan = _plan(config, test, pace, bounds)
    rendered(config, version, namespace=config.namespace)  # what cannot be is told before a cluster is sought
    cluster = connect(context=config.context, namespace=config.namespace, kubeconfig=config.kubeconfig)
    manifest = rendered(config, version, namespace=cluster.namespace)
    path = _written(config, manifest)
    with StopSignals() as signals, _alone(cluster, config.service_name) as (held, lock):
        before = _champion(registry, config.model_name)
        live = inference_service.read(cluster, config.service_name)
        serving = inference_service.serving_before(live) if live else None
        replaced = inference_service.identity(serving) if serving else None

        def accept(served: Served) -> Result:
            # Within: if the registry is away or somebody else moved champion, the version before comes back.
            held.check()
            with signals.held_back():
                promote(registry, config.model_name, config.version, expected=before, lock=lock)
            return Result(
                target=config.target, version=config.version, url=served.url, promoted=True, transcript=served.transcript, manifest=path
            )

        result = roll_out(cluster, manifest, plan, accept=accept)
        # After: champion has moved, and nothing that fails here may bring the version before back.
        _note(registry, version, cluster, config.service_name, replaced=replaced.version if replaced else "")
    _log.info("model.deployed", model=config.model_name, version=config.version, service=config.service_name)
    return result


def rollback(config: Config, open_registry: Callable[[], MlflowRegistry], test: SmokeTest, *, pace: Pace | None = None) -> RolledBack:
    """Serve again what served before what serves now, and move ``champion`` there.

    Raises:
        UsageError: no such InferenceService, or nothing on record to go back to.
        ConflictError, DriftError, ClusterError, DeploymentError, InterruptedRunError: as :func:`deploy`.
    """
    plan = _plan(config, test, pace, None)
    cluster = connect(context=config.context, namespace=config.namespace, kubeconfig=config.kubeconfig)
    with StopSignals() as signals, _alone(cluster, config.service_name) as (held, lock):
        live = inference_service.read(cluster, config.service_name)
        if live is None:
            raise UsageError(f"there is no InferenceService {config.service_name} in {cluster.namespace}; see `avskrift status --cluster`")
        found, replaced = inference_service.identity(target_of_rollback(live)), inference_service.identity(live)
        if found is None:
            raise UsageError(f"what served before as {config.service_name} names no registered version; deploy the version that you want")
        registry = open_registry()
        before = _champion(registry, found.model_name)

        def accept(served: Served) -> RolledBack:
            held.check()
            with signals.held_back():
                promote(registry, found.model_name, found.version, expected=before, lock=lock)
            return RolledBack(
                url=served.url,
                model_name=found.model_name,
                version=found.version,
                replaced=replaced.version if replaced else "",
                transcript=served.transcript,
            )

        result = roll_back(cluster, config.service_name, plan, accept=accept)
    _log.info("model.rolled_back", model=result.model_name, version=result.version, replaced=result.replaced)
    return result


def _plan(config: Config, test: SmokeTest, pace: Pace | None, bounds: Bounds | None) -> Plan:
    watched = bounds or Bounds(stage_s=config.watch_s, max_error_rate=config.max_error_rate, max_latency_ratio=config.max_latency_ratio)
    return Plan(
        test=test,
        stages=parse_stages(config.canary),
        bounds=watched,
        pace=pace or Pace(ready_timeout_s=config.timeout_s),
        url=config.service_url,
        force=config.force,
    )


@contextmanager
def _alone(cluster: Cluster, service: str) -> Iterator[tuple[Held, LeaseLock]]:
    """One roll-out of a service at a time, whoever starts it."""
    lock = LeaseLock(cluster)
    with lock.hold(f"deploy/{service}") as held:  # no model's name has a slash, so that no promotion means this lock
        yield held, lock


def _champion(registry: MlflowRegistry, model_name: str) -> str:
    found = registry.version_of_alias(model_name, CHAMPION)
    return found.version if found else ""


def _note(registry: MlflowRegistry, version: ModelVersion, cluster: Cluster, service: str, *, replaced: str) -> None:
    """Say on the version's run where it serves and in whose place; the InferenceService has the same, and is what a rollback reads."""
    try:
        if version.run_id:
            noted = {tags.DEPLOYED_AS: f"{cluster.namespace}/{service}", tags.REPLACED_VERSION: replaced or "none"}
            registry.set_tags(version.run_id, noted)
    except AvskriftError as error:
        _log.warning("model.not_noted", version=version.version, reason=str(error))  # it serves and is champion all the same
