"""deploy: a registered version becomes an endpoint, and ``champion`` moves only after it answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avskrift.deployment.endpoint import Endpoint
from avskrift.deployment.local import READY_TIMEOUT_SECONDS, Launch, predictor_launch, start
from avskrift.deployment.render import Resources, Service, render, storage_uri, to_yaml
from avskrift.deployment.smoke import SmokeTest, smoke, tone
from avskrift.errors import UsageError
from avskrift.logs import Log
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import MlflowRegistry, open_registry
from avskrift.registry.model_uri import package_uri
from avskrift.registry.protocol import CHAMPION, ModelVersion
from avskrift.storage.atomic import atomic_file, write_json
from avskrift.storage.door import fetch
from avskrift.storage.paths import home as state_home
from avskrift.whisper.package import open_package

Target = Literal["local", "kserve"]
Launcher = Callable[..., Launch]

RESULT_FILE = "deployment.json"
MANIFEST_FILE = "inferenceservice.yaml"
_RECORDING_TYPES = ("wav", "flac", "mp3")
_log = Log("deploy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What deploy takes. An empty ``package_uri`` means where the registry says that the version lies.

    For ``local``: the port, and a recording for the smoke test: ``smoke_audio``, else a generated tone, of
    which only an answer is expected. For ``kserve``: the serving image and what it is given.
    ``out`` is the folder for ``deployment.json`` and, for ``kserve``, ``inferenceservice.yaml``.
    """

    model_name: str
    version: str
    out: str | Path
    package_uri: str = ""
    target: Target | str = "local"
    service_name: str = "avskrift"
    tracking_uri: str = ""
    home: str | Path | None = None
    port: int = 8085
    smoke_audio: str | Path | None = None
    ready_timeout_s: float = READY_TIMEOUT_SECONDS
    namespace: str = "default"
    image: str = ""
    cpu: str = "2"
    memory: str = "4Gi"
    gpus: int = 0
    min_replicas: int = 1
    max_replicas: int = 1
    service_account: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``url`` of the endpoint, "" where only a manifest was written. ``promoted``: ``champion`` is this version now."""

    target: str
    version: str
    url: str
    promoted: bool
    transcript: str = ""
    manifest: Path | None = None


def run(config: Config, *, launcher: Launcher = predictor_launch) -> Result:
    """Deploy a version to ``config.target``. ``launcher`` says how to start a predictor on this machine.

    Raises:
        UsageError: an unknown target or version, or a package that is not the one registered; nothing was stopped.
        IntegrityError: a package that was changed after it was registered; nothing was stopped.
        PortTakenError: somebody else listens on the port; nothing was stopped.
        DeploymentError: the endpoint did not become ready or failed its smoke test; what served before serves again.
        RegistryError: MLflow did not answer or refused.
    """
    if config.target not in ("local", "kserve"):
        raise UsageError(f"the target {config.target!r} is unknown; use local or kserve")
    registry = open_registry(config.tracking_uri, home=_home(config))
    version = _registered(registry, config)
    result = _deploy_here(config, registry, version, launcher) if config.target == "local" else _render(config, version)
    _write_result(config, result)
    return result


def _deploy_here(config: Config, registry: MlflowRegistry, version: ModelVersion, launcher: Launcher) -> Result:
    package = open_package(fetch(config.package_uri or package_uri(registry, version)))
    if package.description.sha256 != version.tags.get(tags.PACKAGE_SHA256):
        raise UsageError(f"{package.folder} is not the package that is registered as {version.uri}; deploy that one")
    package.verify()  # the server does so too, but by then what served before is stopped
    test = _smoke_test(config, package.description.languages)

    def accept(endpoint: Endpoint) -> Result:
        transcript = smoke(endpoint, test)
        # Within accept: if the registry is away, the endpoint goes back too, and champion stays what serves.
        registry.set_alias(config.model_name, CHAMPION, config.version)
        return Result(target="local", version=config.version, url=endpoint.url, promoted=True, transcript=transcript)

    launch = launcher(package=package.folder, version=config.version, service=config.service_name, port=config.port)
    result = start(launch, home=_home(config), accept=accept, ready_timeout_s=config.ready_timeout_s)
    _log.info("model.deployed", model=config.model_name, version=config.version, port=config.port)
    return result


def _render(config: Config, version: ModelVersion) -> Result:
    if not config.image:
        raise UsageError("the target kserve needs the serving image: give it with --image")
    service = Service(
        name=config.service_name,
        namespace=config.namespace,
        storage_uri=storage_uri(config.package_uri or version.source_uri),
        image=config.image,
        model_name=config.model_name,
        version=config.version,
        package_sha256=version.tags[tags.PACKAGE_SHA256],
        resources=Resources(cpu=config.cpu, memory=config.memory, gpus=config.gpus),
        min_replicas=config.min_replicas,
        max_replicas=config.max_replicas,
        service_account=config.service_account,
    )
    manifest = Path(config.out) / MANIFEST_FILE
    text = to_yaml(render(service))
    with atomic_file(manifest) as temporary:
        temporary.write_text(text, encoding="utf-8")
    _log.info("manifest.written", applied=False, promoted=False, note="apply it with kubectl; champion stays where it is")
    return Result(target="kserve", version=config.version, url="", promoted=False, manifest=manifest)


def _registered(registry: MlflowRegistry, config: Config) -> ModelVersion:
    """The version to deploy; one without the identity of its package was not registered by us and is not deployed."""
    version = registry.version(config.model_name, config.version)
    if version is None:
        raise UsageError(f"models:/{config.model_name}/{config.version} is not in MLflow at {registry.uri}; register it first")
    if not version.tags.get(tags.PACKAGE_SHA256):
        raise UsageError(f"{version.uri} has no tag {tags.PACKAGE_SHA256}; deploy a version that `avskrift register` made")
    return version


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
