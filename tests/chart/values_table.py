"""The values as documented: comments of ``values.yaml`` beside what ``values.schema.json`` says they may be."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z][\w.-]*):(?P<rest>.*)")
START, END = "<!-- values: generated -->", "<!-- end of values -->"

Path = tuple[str, ...]


def comments(text: str) -> dict[Path, str]:
    """The comment before each documented key. What stands inside a documented value is part of it and not documented again."""
    found: dict[Path, str] = {}
    above: list[tuple[int, str]] = []
    pending: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("#"):
            pending.append(line.strip().lstrip("# "))
            continue
        key = _KEY.fullmatch(line)
        if key:
            indent = len(key["indent"])
            above = [(at, name) for at, name in above if at < indent] + [(indent, key["key"])]
            path = tuple(name for _, name in above)
            inside = any(path[:length] in found for length in range(1, len(path)))
            if pending and not inside:
                found[path] = " ".join(pending)
        pending = []
    return found


def leaves(value: Any, documented: dict[Path, str], path: Path = ()) -> list[Path]:
    """Every value that a comment must stand before."""
    if path in documented or not isinstance(value, dict) or not value:
        return [path]
    return [leaf for key, entry in value.items() for leaf in leaves(entry, documented, (*path, key))]


def table(text: str, schema: dict[str, Any]) -> str:
    rows = ["| value | default | may be | meaning |", "|---|---|---|---|"]
    defaults = yaml.safe_load(text)
    for path, comment in comments(text).items():
        default = json.dumps(_at(defaults, path), ensure_ascii=False)
        cells = (f"`{'.'.join(path)}`", f"`{default}`", kind(schema_of(schema, path), schema), comment)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def described(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with each documented value's comment as its description, for editors that show it.

    What stands in a definition that several places share is left as it is.
    """
    copy: dict[str, Any] = json.loads(json.dumps(schema))
    for path, comment in comments(text).items():
        part = copy
        for key in path:
            part = part.get("properties", {}).get(key, {})
        if part:
            part["description"] = comment
    return copy


def schema_of(schema: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a value may be."""
    part = schema
    for key in path:
        part = _resolved(part, schema)["properties"][key]
    return part


def kind(part: dict[str, Any], schema: dict[str, Any]) -> str:
    """In a few words."""
    part = _resolved(part, schema)
    if "enum" in part:
        return " or ".join(f"`{value}`" for value in part["enum"])
    if "title" in part:
        return str(part["title"])
    if part["type"] == "array":
        return f"list: {kind(part['items'], schema)}"
    if part["type"] == "integer":
        return f"{part.get('minimum', '')} to {part['maximum']}" if "maximum" in part else f"{part['minimum']} or more"
    if part["type"] == "object":
        return ", ".join(f"`{name}`" for name in part["properties"])
    return {"boolean": "`true` or `false`", "string": f"text like `{part['pattern']}`" if "pattern" in part else "text"}[part["type"]]


def _resolved(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    return {**schema["$defs"][reference.rpartition("/")[2]], **part} if reference else part


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value
