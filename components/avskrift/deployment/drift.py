"""What somebody else changed on an InferenceService since deploy applied it, as lines that a person can read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from avskrift.deployment import inference_service
from avskrift.deployment.cluster import FIELD_MANAGER
from avskrift.errors import DriftError

_LONGEST_VALUE = 80
_MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field: ``ours`` is what deploy applied, ``theirs`` what stands there now; ``manager`` who manages it, "" if unknown."""

    path: str
    ours: str
    theirs: str
    manager: str = ""

    def __str__(self) -> str:
        said = f"{self.path} also set" if self.ours == self.theirs else f"{self.path}: {self.ours} -> {self.theirs}"
        return f"{said} by {self.manager}" if self.manager else said


def drift(live: Mapping[str, Any]) -> list[Difference]:
    """Fields that deploy applied and that hold another value now, or that another manager set as well.

    Fields that deploy did not set are nobody's business here: the API server and KServe fill in many. Nor is a value that stands
    under deploy's own name: KServe's admission changed it while it was applied. Empty too where the InferenceService is not
    deploy's; :func:`check` tells the two apart.
    """
    ours = inference_service.applied(live)
    if ours is None:
        return []
    owners, admitted = list(_owners(live)), [path for path, _ in _owners(live, ours=True)]
    changed = [
        Difference(path=path, ours=_shown(mine), theirs=_shown(now), manager=_owner(path, owners))
        for path, mine, now in _differences(_settled(ours), live, "")
        if not any(path == field or _inside(path, field) for field in admitted)
    ]
    named = {difference.path for difference in changed}
    return changed + [shared for shared in _shared(ours, owners) if shared.path not in named]


def check(live: Mapping[str, Any], *, force: bool) -> None:
    """Return if deploy may write on ``live``.

    Raises:
        DriftError: somebody else made it or changed it, and ``force`` is not given; shows every field.
    """
    if force:
        return
    name, namespace = live["metadata"]["name"], live["metadata"].get("namespace", "")
    if inference_service.applied(live) is None:
        makers = sorted({entry.get("manager", "") for entry in live["metadata"].get("managedFields") or ()} - {"", FIELD_MANAGER})
        by = f" (it is managed by {', '.join(makers)})" if makers else ""
        raise DriftError(
            f"InferenceService {name} in {namespace} was not made by deploy{by}; nothing was changed. "
            "Use another name, or take it over with --force"
        )
    found = drift(live)
    if found:
        lines = "".join(f"\n  {difference}" for difference in found)
        raise DriftError(
            f"InferenceService {name} in {namespace} was changed after deploy applied it:{lines}\n"
            "Undo it there, or overwrite it with --force; nothing was changed"
        )


def _settled(manifest: dict[str, Any]) -> dict[str, Any]:
    """The parts of a manifest that people may change: not its name and kind."""
    metadata = {part: manifest["metadata"][part] for part in ("labels", "annotations") if part in manifest["metadata"]}
    return {"metadata": metadata, "spec": manifest["spec"]}


def _differences(ours: Any, theirs: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name, mine in ours.items():
            yield from _differences(mine, theirs.get(name, _MISSING), f"{path}.{name}" if path else name)
    elif isinstance(ours, list) and isinstance(theirs, list):
        yield from _entries(ours, theirs, path)
    elif ours != theirs:
        yield path, ours, theirs


def _entries(ours: list[Any], theirs: list[Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    """Lists of named things are compared by name, others by place; here what somebody added counts, since no default adds entries."""
    if all(isinstance(entry, Mapping) and "name" in entry for entry in (*ours, *theirs)):
        mine, now = {entry["name"]: entry for entry in ours}, {entry["name"]: entry for entry in theirs}
        keys: list[Any] = [*mine, *(name for name in now if name not in mine)]
        pairs = [(f"{path}[{key}]", mine.get(key, _MISSING), now.get(key, _MISSING)) for key in keys]
    else:
        longest = max(len(ours), len(theirs))
        pairs = [(f"{path}[{index}]", _at(ours, index), _at(theirs, index)) for index in range(longest)]
    for where, one, other in pairs:
        yield from _differences(one, other, where)


def _at(entries: list[Any], index: int) -> Any:
    return entries[index] if index < len(entries) else _MISSING


def _owners(live: Mapping[str, Any], *, ours: bool = False) -> Iterator[tuple[str, str]]:
    """Paths with the managers, other than deploy, that set them, or those that deploy set; status is KServe's to write."""
    for entry in live["metadata"].get("managedFields") or ():
        if (entry.get("manager") == FIELD_MANAGER) == ours and not entry.get("subresource"):
            for path in _field_paths(entry.get("fieldsV1") or {}, ""):
                yield path, str(entry.get("manager"))


def _field_paths(fields: Mapping[str, Any], path: str) -> Iterator[str]:
    """``{"f:spec": {"f:replicas": {}}}`` as ``spec.replicas``; entries of lists as ``env[NAME]`` where they go by name."""
    for key, inner in fields.items():
        kind, _, name = key.partition(":")
        if kind == "f":
            here = f"{path}.{name}" if path else name
        elif kind == "k":
            here = f"{path}[{json.loads(name).get('name', name)}]"
        else:
            continue
        if any(part != "." for part in inner):
            yield from _field_paths(inner, here)
        else:
            yield here


def _owner(path: str, owners: list[tuple[str, str]]) -> str:
    """Who manages ``path``: the field itself, what is inside it, or the list that it is in and that is managed as a whole."""
    fitting = (manager for field, manager in owners if path == field or _inside(path, field) or _inside(field, path))
    return next(fitting, "")


def _inside(path: str, field: str) -> bool:
    return path.startswith((f"{field}.", f"{field}["))


def _shared(ours: dict[str, Any], owners: list[tuple[str, str]]) -> Iterator[Difference]:
    """Fields of ours that somebody else applied with the same value: the next apply of another value would meet a conflict."""
    set_by_us = dict(_leaves(_settled(ours), ""))
    for field, manager in owners:
        value = set_by_us.get(field, _MISSING)
        if value is not _MISSING:
            yield Difference(path=field, ours=_shown(value), theirs=_shown(value), manager=manager)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
