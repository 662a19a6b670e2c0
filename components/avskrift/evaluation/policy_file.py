"""A policy as a YAML file: the bounds that differ from the defaults, by name. ``docs/gate-policy.yaml`` holds them all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from avskrift.errors import UsageError
from avskrift.evaluation.policy import Policy

_KNOWN = tuple(bound.name for bound in dataclasses.fields(Policy))


def read_policy(path: Path) -> Policy:
    """Read a policy; what the file does not name has its default.

    Raises:
        UsageError: the file cannot be read, names no bound, an unknown one or one twice, or a value that cannot be.
    """
    return Policy(**read_bounds(path))


def read_bounds(path: Path) -> dict[str, Any]:
    """The bounds that a policy's file names, checked; see :func:`read_policy`."""
    try:
        bounds = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except OSError as error:
        raise UsageError(f"{path}: the policy cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a policy in YAML ({' '.join(str(error).split())})") from error
    if not isinstance(bounds, dict) or not bounds:
        raise UsageError(f"{path}: not a policy; write lines like `max_wer: 0.3`, of {_known()}")
    unknown = [str(name) for name in bounds if name not in _KNOWN]
    if unknown:
        raise UsageError(f"{path}: unknown bounds {', '.join(unknown)}; a policy knows {_known()}")
    try:
        Policy(**bounds)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return bounds


def _known() -> str:
    return ", ".join(_KNOWN)


class _OnceLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain YAML would keep the last of two values for one name, and nobody would know which bound held."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(name) for name, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} stands twice; write it once")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping
