"""What a person gives a pipeline, held against its form before anything is sent."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from avskrift.errors import UsageError

_TEXT, _WHOLE, _NUMBER, _FLAG, _STRUCT, _LIST = "STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "STRUCT", "LIST"
_KINDS = {
    _TEXT: "text",
    _WHOLE: "a whole number",
    _NUMBER: "a number",
    _FLAG: "true or false",
    _STRUCT: 'a JSON object, as {"lora_rank": 16}',
    _LIST: 'a JSON list, as ["a", "b"]',
}
_FLAGS = {"true": True, "false": False}
_LONGEST_SHOWN = 60
_LARGEST_WHOLE = 2**53  # beyond it a double skips whole numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a pipeline's form. ``kind`` is KFP's parameterType."""

    name: str
    kind: str
    needed: bool
    default: Any = None

    @classmethod
    def of(cls, name: str, entry: Mapping[str, Any]) -> Field:
        """From its entry in the pipeline's YAML."""
        needed = "defaultValue" not in entry and not entry.get("isOptional", False)
        return cls(name=name, kind=str(entry.get("parameterType", _TEXT)), needed=needed, default=entry.get("defaultValue"))

    def read(self, word: str) -> Any:
        """The value that is written as ``word`` on a command line.

        Raises:
            UsageError: a word that is no value of this field.
        """
        if self.kind == _TEXT:
            return word
        if self.kind == _FLAG:
            if word.strip().lower() not in _FLAGS:
                raise self._refusal(word)
            return _FLAGS[word.strip().lower()]
        try:
            # JSON has no word for NaN and infinity, though Python reads them; a number may be written as Python does, as 1_000.
            value = _number(word) if self.kind in (_WHOLE, _NUMBER) else json.loads(word, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise self._refusal(word) from error
        return self.check(value)

    def check(self, value: Any) -> Any:
        """``value`` as KFP takes it, if it is one of this field's.

        Raises:
            UsageError: it is not.
        """
        number = _is_number(value)
        fits = {
            _TEXT: isinstance(value, str),
            _WHOLE: number and float(value).is_integer(),
            _NUMBER: number,
            _FLAG: isinstance(value, bool),
            _STRUCT: isinstance(value, dict) and _is_json(value),
            _LIST: isinstance(value, list) and _is_json(value),
        }
        if not fits.get(self.kind, True):
            raise self._refusal(value)
        return int(value) if self.kind == _WHOLE else float(value) if self.kind == _NUMBER else value

    def _refusal(self, value: Any) -> UsageError:
        shown = value if isinstance(value, str) else repr(value)
        short = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"
        hint = "; put it in quotes" if self.kind == _TEXT else ""
        return UsageError(f"parameter {self.name} is {short!r}, and must be {_KINDS.get(self.kind, self.kind)}{hint}")


def read_parameters(form: Mapping[str, Field], words: Sequence[str], file: Path | None = None) -> dict[str, Any]:
    """What ``NAME=VALUE`` words and a YAML or JSON file give, as values of ``form``. A word wins over the file.

    Raises:
        UsageError: a name that the form has not (the nearest is named), a value of another type, a name given twice, a word
            without "=", a needed field that is missing, or a file that holds no mapping.
    """
    given: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.strip()
        if not equals:
            raise UsageError(f"--param {word!r} has no value; write NAME=VALUE, as epochs=5")
        if name in given:
            raise UsageError(f"--param names {name} twice; give it once")
        given[name] = _field(form, name, "--param").read(value)
    for name, value in (_from_file(file) if file else {}).items():
        checked = _field(form, str(name), str(file)).check(value)
        given.setdefault(str(name), checked)
    missing = [field.name for field in form.values() if field.needed and field.name not in given]
    if missing:
        raise UsageError(f"the pipeline needs {', '.join(missing)}; give each as --param NAME=VALUE")
    return given


def _field(form: Mapping[str, Field], name: str, where: str) -> Field:
    # People write options of ours with dashes, and parameters with underscores.
    found = form.get(name) or form.get(name.replace("-", "_"))
    if found is not None and found.name == name:
        return found
    nearest = [found.name] if found else difflib.get_close_matches(name, form, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(sorted(form)) or 'none'}"
    raise UsageError(f"{where}: the pipeline has no parameter {name!r}; {hint}")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML as people write numbers: PyYAML takes 1e-5 for text."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789"))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)  # nearly, and only nearly, JSON is YAML
    except (ValueError, RecursionError):
        return yaml.load(text, Loader=_Loader)


def _from_file(path: Path) -> dict[Any, Any]:
    try:
        given = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--params-file {path} cannot be read ({error.strerror}); give a YAML or JSON file") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1} cannot be read" if mark else "it is not text"
        raise UsageError(f"--params-file {path}: neither YAML nor JSON ({where}); write a line NAME: VALUE for each parameter") from error
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise UsageError(f"--params-file {path} holds no names; write a line NAME: VALUE for each parameter")
    return given


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # Protobuf carries every number as a double.
    return abs(value) <= _LARGEST_WHOLE if isinstance(value, int) else math.isfinite(value)


def _number(word: str) -> int | float:
    text = word.strip()
    try:
        return int(text)
    except ValueError:
        return float(text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _is_json(value: Any) -> bool:
    """Whether it goes over the wire as it is: a YAML file may hold dates, sets and keys that are no text."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False
