"""deploy: a registered version becomes an endpoint, and ``champion`` moves only after it answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from avskrift.deployment.canary import parse_stages
from avskrift.deployment.endpoint import Endpoint
from avskrift.deployment.local import Launch, predictor_launch, start
from avskrift.deployment.probing import Bounds
from avskrift.deployment.smoke import SmokeTest, smoke, tone
from avskrift.deployment.waiting import Pace
from avskrift.errors import UsageError
from avskrift.logs import Log
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import MlflowRegistry, open_registry
from avskrift.registry.model_uri import package_uri
from avskrift.registry.promotion import file_lock, promote
from avskrift.registry.protocol import CHAMPION, ModelVersion
from avskrift.steps.deploy import on_cluster
from avskrift.steps.deploy.config import TARGETS, Config, Result, Target
from avskrift.steps.deploy.on_cluster import MANIFEST_FILE, RolledBack
from avskrift.steps.deploy.stop_signals import StopSignals
from avskrift.storage.atomic import write_json
from avskrift.storage.door import fetch
from avskrift.storage.paths import home as state_home
from avskrift.whisper.package import open_package

__all__ = ["MANIFEST_FILE", "RESULT_FILE", "Config", "Launcher", "Result", "RolledBack", "Target", "rollback", "run"]

Launcher = Callable[..., Launch]

RESULT_FILE = "deployment.json"
_RECORDING_TYPES = ("wav", "flac", "mp3")
_log = Log("deploy")


def run(config: Config, *, launcher: Launcher = predictor_launch, pace: Pace | None = None, bounds: Bounds | None = None) -> Result:
    """Deploy a version to ``config.target``. ``launcher`` says how to start a predictor on this machine.

    On a cluster ``pace`` and ``bounds`` stand in for what ``config`` says of times.

    Raises:
        UsageError: an unknown target or version, or a package that is not the one registered; nothing was stopped.
        IntegrityError: a package that was changed after it was registered; nothing was stopped.
        PortTakenError: somebody else listens on the port; nothing was stopped.
        DriftError: somebody else made or changed the InferenceService; nothing was changed.
        ConflictError: another deploy is under way, or champion was moved in the meantime; what served before serves again.
        DeploymentError: the endpoint did not become ready, was worse than what served, or failed its smoke test; what served
            before serves again.
        ClusterError: the Kubernetes API did not answer or refused.
        RegistryError: MLflow did not answer or refused.
    """
    if config.target not in TARGETS:
        raise UsageError(f"the target {config.target!r} is unknown; use local, kserve or manifest")
    parse_stages(config.canary)  # one that is only written would be found out by nobody
    registry = open_registry(config.tracking_uri, home=_home(config))
    version = _registered(registry, config)
    if config.target == "local":
        result = _deploy_here(config, registry, version, launcher)
    elif config.target == "manifest":
        result = on_cluster.write_only(config, version)
    else:
        test = _smoke_test(config, _languages(version))
        result = on_cluster.deploy(config, registry, version, test, pace=pace, bounds=bounds)
    _write_result(config, result)
    return result


def rollback(config: Config, *, pace: Pace | None = None) -> RolledBack:
    """On a cluster, serve again what served before; ``config`` needs no version and no model's name.

    Raises:
        UsageError: no such InferenceService, or nothing on record to go back to.
        DriftError, ConflictError, DeploymentError, ClusterError, RegistryError: as :func:`run`.
    """
    test = _smoke_test(config, ())
    return on_cluster.rollback(config, lambda: open_registry(config.tracking_uri, home=_home(config)), test, pace=pace)


def _deploy_here(config: Config, registry: MlflowRegistry, version: ModelVersion, launcher: Launcher) -> Result:
    package = open_package(fetch(config.package_uri or package_uri(registry, version)))
    if package.description.sha256 != version.tags.get(tags.PACKAGE_SHA256):
        raise UsageError(f"{package.folder} is not the package that is registered as {version.uri}; deploy that one")
    package.verify()  # the server does so too, but by then what served before is stopped
    test = _smoke_test(config, package.description.languages)
    champion = registry.version_of_alias(config.model_name, CHAMPION)
    before = champion.version if champion else ""

    signals = StopSignals()

    def accept(endpoint: Endpoint) -> Result:
        transcript = smoke(test, url=endpoint.url, service=endpoint.service, version=endpoint.version)
        # Within accept: if the registry is away, the endpoint goes back too, and champion stays what serves.
        with signals.held_back():
            promote(registry, config.model_name, config.version, expected=before, lock=file_lock(_home(config)))
        return Result(target="local", version=config.version, url=endpoint.url, promoted=True, transcript=transcript)

    launch = launcher(package=package.folder, version=config.version, service=config.service_name, port=config.port)
    with signals:
        result = start(launch, home=_home(config), accept=accept, ready_timeout_s=config.timeout_s)
    _log.info("model.deployed", model=config.model_name, version=config.version, port=config.port)
    return result


def _registered(registry: MlflowRegistry, config: Config) -> ModelVersion:
    """The version to deploy; one without the identity of its package was not registered by us and is not deployed."""
    version = registry.version(config.model_name, config.version)
    if version is None:
        raise UsageError(f"models:/{config.model_name}/{config.version} is not in MLflow at {registry.uri}; register it first")
    if not version.tags.get(tags.PACKAGE_SHA256):
        raise UsageError(f"{version.uri} has no tag {tags.PACKAGE_SHA256}; deploy a version that `avskrift register` made")
    return version


def _languages(version: ModelVersion) -> tuple[str, ...]:
    language = version.tags.get(tags.LANGUAGE, "")
    return (language,) if language else ()


def _smoke_test(config: Config, languages: tuple[str, ...]) -> SmokeTest:
    language = languages[0] if languages else ""
    if config.smoke_audio:
        path = Path(config.smoke_audio)
        file_type = path.suffix.lstrip(".").lower()
        if file_type not in _RECORDING_TYPES or not path.is_file():
            raise UsageError(f"{path}: no recording to test the endpoint with; give a file that ends in {', '.join(_RECORDING_TYPES)}")
        return SmokeTest(audio=path.read_bytes(), file_type=file_type, speech=True, language=language)
    return SmokeTest(audio=tone(), file_type="wav", speech=False, language=language)


def _write_result(config: Config, result: Result) -> None:
    fields = {"target": result.target, "version": result.version, "url": result.url, "promoted": result.promoted}
    manifest = {"manifest": result.manifest.name} if result.manifest else {"transcript": result.transcript}
    write_json(Path(config.out) / RESULT_FILE, fields | manifest)


def _home(config: Config) -> Path:
    return Path(config.home).absolute() if config.home else state_home()
