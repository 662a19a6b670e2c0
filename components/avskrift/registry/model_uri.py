"""``models:/NAME/VERSION`` and ``models:/NAME@ALIAS``: from a name in the registry to where the package lies."""

from __future__ import annotations

import hashlib
import re

from avskrift.errors import ModelUnavailableError, UsageError
from avskrift.registry.mlflow_registry import MlflowRegistry, open_registry
from avskrift.registry.protocol import ModelVersion
from avskrift.storage.paths import cache

_MODEL_URI = re.compile(r"^models:/{1,3}(?P<name>[^/@:]+)(?:/(?P<version>\d+)|@(?P<alias>[\w-]+))$")
_KEPT_BY_MLFLOW = ("mlflow-artifacts:", "runs:")


def resolve(uri: str) -> str:
    """The URI of the package that a version or an alias names; one that MLflow itself keeps is fetched into the cache.

    Raises:
        UsageError: not a ``models:/`` URI.
        ModelUnavailableError: no such model, version or alias; what exists is named.
        RegistryError: MLflow did not answer.
    """
    return package_uri(*find(uri))


def find(uri: str, *, tracking_uri: str = "") -> tuple[MlflowRegistry, ModelVersion]:
    """The version that a ``models:/`` URI names, and the registry that it is in; ``tracking_uri`` as for ``open_registry``.

    Raises:
        UsageError, ModelUnavailableError, RegistryError: as :func:`resolve`.
    """
    match = _MODEL_URI.match(uri)
    if match is None:
        raise UsageError(f"{uri}: not a model in the registry; write models:/NAME/VERSION or models:/NAME@ALIAS")
    registry = open_registry(tracking_uri)
    if match["alias"]:
        found = registry.version_of_alias(match["name"], match["alias"])
    else:
        found = registry.version(match["name"], match["version"])
    if found is None:
        raise ModelUnavailableError(f"{uri}: not in MLflow at {registry.uri}; {_what_exists(registry, match['name'])}")
    return registry, found


def package_uri(registry: MlflowRegistry, version: ModelVersion) -> str:
    """Where a version's package can be read: its source or, where MLflow itself keeps it, a folder that it is fetched into.

    Raises:
        RegistryError: MLflow did not answer.
        DiskFullError, StorageError: it cannot be kept here.
    """
    if not kept_by_mlflow(version):
        return version.source_uri
    # Kept under the name of what is fetched: a version's source never changes.
    target = cache() / "mlflow" / hashlib.sha256(f"{registry.uri} {version.source_uri}".encode()).hexdigest()[:32]
    if not target.is_dir():
        registry.download(version.source_uri, target)
    return str(target)


def kept_by_mlflow(version: ModelVersion) -> bool:
    """Whether the package lies where only a client of MLflow can read it."""
    return version.source_uri.startswith(_KEPT_BY_MLFLOW)


def _what_exists(registry: MlflowRegistry, name: str) -> str:
    versions = registry.version_numbers(name)
    if versions:
        aliases = "".join(f", {alias} is version {version}" for alias, version in registry.aliases(name).items())
        return f"{name} has {'version' if len(versions) == 1 else 'versions'} {', '.join(versions)}{aliases}"
    names = registry.model_names()
    return f"registered models are {', '.join(names)}" if names else "no model is registered there yet"
