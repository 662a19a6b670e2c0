"""find_baseline: which model a candidate must beat, as a URI that evaluate can read without MLflow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from avskrift.errors import ModelUnavailableError, UsageError
from avskrift.logs import Log
from avskrift.registry import tags
from avskrift.registry.location import TRACKING_VARIABLE
from avskrift.registry.mlflow_registry import MlflowRegistry, open_registry
from avskrift.registry.model_uri import find, kept_by_mlflow, package_uri
from avskrift.registry.protocol import CHAMPION, ModelVersion
from avskrift.storage.door import local_path
from avskrift.storage.objects import ObjectStore
from avskrift.whisper.package import DESCRIPTION_FILE

Kind = Literal["given", "champion", "base model"]

POD_VARIABLE = "KFP_POD_NAME"  # Kubeflow sets it in a task's container: each step then has a pod, and a disk, of its own
_IN_THE_REGISTRY = "models:"
_NOT_SEEN_FROM_HERE = ("pvc://", "hf://", "package:")  # only evaluate's own pod can tell
_log = Log("find_baseline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """An empty ``baseline`` means what serves today: the champion of ``model_name``, or ``base_model`` where there is none.

    An empty ``tracking_uri`` means ``MLFLOW_TRACKING_URI``, else the state folder's own registry.
    """

    base_model: str
    model_name: str
    baseline: str = ""
    tracking_uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``uri`` is never a ``models:/`` URI. The others are "" where no registry knows them."""

    uri: str
    kind: Kind
    version: str = ""
    package_sha256: str = ""
    dataset_fingerprint: str = ""


def run(config: Config) -> Result:
    """Find the baseline. The base model stands in for a champion only where MLflow answered that there is none.

    Raises:
        UsageError: nothing was named, no MLflow to ask was named, or a champion without the digest of its package.
        ModelUnavailableError: a version that is not in MLflow, or whose package cannot be read.
        RegistryError, StorageError: MLflow or the package's store did not answer or refused.
    """
    result = _named(config.baseline, "given", config) if config.baseline.strip() else _what_serves(config)
    _log.info("baseline.found", kind=result.kind, version=result.version, package_sha256=result.package_sha256)
    return result


def _what_serves(config: Config) -> Result:
    if not config.model_name.strip():
        raise UsageError(f"no model was named whose {CHAMPION} is the baseline; give its name, or a baseline (--baseline)")
    _refuse_a_registry_of_the_pods_own(config)
    registry = open_registry(config.tracking_uri)
    champion = registry.version_of_alias(config.model_name, CHAMPION)
    if champion is None:
        return _named(config.base_model, "base model", config)
    if not champion.tags.get(tags.PACKAGE_SHA256):
        raise UsageError(
            f"{champion.uri} is the {CHAMPION} and has no tag {tags.PACKAGE_SHA256} to tell which bytes serve; {_remedy(config)}"
        )
    return _of(registry, champion, "champion", config)


def _named(uri: str, kind: Kind, config: Config) -> Result:
    if not uri.strip():
        raise UsageError(f"neither a baseline nor a base model was named, and {config.model_name} has no {CHAMPION}; give --baseline")
    if not uri.startswith(_IN_THE_REGISTRY):
        return Result(uri=uri, kind=kind)
    _refuse_a_registry_of_the_pods_own(config)
    registry, version = find(uri, tracking_uri=config.tracking_uri)
    return _of(registry, version, kind, config)


def _of(registry: MlflowRegistry, version: ModelVersion, kind: Kind, config: Config) -> Result:
    """A version of the registry, whose package can be read from outside it."""
    if kept_by_mlflow(version) and POD_VARIABLE in os.environ:
        raise ModelUnavailableError(
            f"{version.uri}: MLflow itself keeps the package, and what is fetched from it here stays in this pod; {_remedy(config)}"
        )
    uri = package_uri(registry, version)
    if uri.startswith("minio://"):  # KFP's own name for the S3 store that it ships with
        uri = f"s3://{uri.removeprefix('minio://')}"
    sha256 = version.tags.get(tags.PACKAGE_SHA256, "")
    if not _is_there(uri, DESCRIPTION_FILE if sha256 else ""):
        raise ModelUnavailableError(f"{version.uri}: its package is not at {uri or 'any place on record'}; {_remedy(config)}")
    fingerprint = version.tags.get(tags.DATASET_FINGERPRINT, "")
    return Result(uri=uri, kind=kind, version=version.version, package_sha256=sha256, dataset_fingerprint=fingerprint)


def _is_there(uri: str, file: str) -> bool:
    """Whether ``file`` is in the folder at ``uri``, or where it is "" the folder itself, as far as it can be seen without a download."""
    if uri.startswith("s3://"):
        return bool(ObjectStore(uri).names(file))
    folder = local_path(uri) if uri else None
    return (folder / file).exists() if folder is not None else uri.startswith(_NOT_SEEN_FROM_HERE)


def _refuse_a_registry_of_the_pods_own(config: Config) -> None:
    """Without a server's address a pod would ask a database that it has just made, which knows no champion."""
    if POD_VARIABLE in os.environ and not (config.tracking_uri or os.environ.get(TRACKING_VARIABLE)):
        raise UsageError(f"this pod does not know where MLflow is; set the parameter tracking_uri, or {TRACKING_VARIABLE} of the step")


def _remedy(config: Config) -> str:
    if config.baseline.strip():
        return "give another baseline (--baseline)"
    return f"give a baseline (--baseline), or move the alias {CHAMPION} of {config.model_name} to a version that can be read"
