"""JSON files that carry the sha256 of what they hold, so that a change by hand is seen.

The seal guards against a slip and against a figure that somebody mends; it is no signature, and whoever can run this code can
seal anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from avskrift.errors import EvaluationError, IntegrityError, UsageError

Kind = TypeVar("Kind")
_SEAL = "sha256"


def seal_of(values: dict[str, Any]) -> str:
    """The sha256 of plain JSON values, whatever the order of their names.

    Raises:
        TypeError, ValueError: they are not plain JSON values.
    """
    canonical = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def with_seal(values: dict[str, Any]) -> dict[str, Any]:
    """The values, and their seal beside them."""
    return values | {_SEAL: seal_of(values)}


def read_sealed(path: Path, kind: type[Kind], *, name: str, author: str, remedy: str) -> Kind:
    """Read ``path`` as the dataclass ``kind``. For messages: what it is, as "an evaluation", who writes it, and what to do.

    Raises:
        EvaluationError: it is no such thing.
        IntegrityError: it is not what its author wrote.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        seal = raw.pop(_SEAL)
        value: Kind = _built(kind, raw)
        expected = seal_of(raw)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, UsageError) as error:
        raise EvaluationError(f"{path}: not {name} ({error}); {remedy}") from error
    if seal != expected:
        raise IntegrityError(f"{path}: its figures are not those that {author} wrote (their sha256 differs); {remedy}")
    return value


def _built(kind: Any, raw: Any) -> Any:
    """``raw`` as the type ``kind``, dataclasses and tuples inside it too. Numbers and texts stay what they are."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(raw) - set(hints))
        if unknown:
            raise ValueError(f"unknown fields {', '.join(unknown)}")
        return kind(**{name: _built(hints[name], value) for name, value in raw.items()})  # type: ignore[operator]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if raw is None else _built(next(one for one in arguments if one is not types.NoneType), raw)
    if origin is tuple:
        repeated = len(arguments) == 2 and arguments[1] is Ellipsis
        return tuple(_built(one, value) for one, value in zip([arguments[0]] * len(raw) if repeated else arguments, raw, strict=True))
    if origin is dict:
        return {name: _built(arguments[1], value) for name, value in raw.items()}
    return raw
