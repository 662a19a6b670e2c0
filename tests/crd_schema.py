"""KServe's published schema, and what an API server that is told to refuse unknown fields has against a value."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

_SHARED = Path(__file__).parents[2] / "shared" / "crds"


def schema() -> dict[str, Any]:
    """v1beta1 of KServe's published CRD, which the project does not copy; skips the test where it is not at hand."""
    found = schema_if_here()
    if found is None:
        pytest.skip(f"{_file()} is not here: set AVSKRIFT_CRDS to a folder with KServe's CRDs")
    return found


@functools.cache
def schema_if_here() -> dict[str, Any] | None:
    """The same; None where it is not at hand."""
    if not _file().is_file():
        return None
    crd = yaml.load(_file().read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = (entry for entry in crd["spec"]["versions"] if entry["name"] == "v1beta1")
    structural: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return structural


def _file() -> Path:
    return Path(os.environ.get("AVSKRIFT_CRDS") or _SHARED) / "serving.kserve.io_inferenceservices.yaml"


_TYPES: dict[str, type | tuple[type, ...]] = {"string": str, "boolean": bool, "number": (int, float), "array": list, "object": dict}


def faults(value: Any, schema: dict[str, Any], where: str) -> list[str]:
    """What an API server that is told to refuse unknown fields has against ``value``."""
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, (int, str)) else [f"{where} is neither integer nor string"]
    kind = schema.get("type", "object")
    if kind == "integer":
        return [] if isinstance(value, int) and not isinstance(value, bool) else [f"{where} is no integer"]
    if not isinstance(value, _TYPES[kind]):
        return [f"{where} is no {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where} is none of {schema['enum']}"]
    if kind == "array":
        return [fault for index, entry in enumerate(value) for fault in faults(entry, schema["items"], f"{where}[{index}]")]
    return _object_faults(value, schema, where) if kind == "object" else []


def _object_faults(value: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    found = [f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    named, others = schema.get("properties", {}), schema.get("additionalProperties")
    # The CRD leaves metadata open: the API server knows it by itself.
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or not (named or others)
    for name, entry in value.items():
        inner = named.get(name, others)
        if isinstance(inner, dict):
            found += faults(entry, inner, f"{where}.{name}")
        elif not open_ended:
            found.append(f"{where}.{name} is not in the schema")
    return found
