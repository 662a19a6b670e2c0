"""Components are thin KFP faces: what they do lives in steps, which know nothing of kfp."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

_STEPS = Path(__file__).parents[2] / "components" / "avskrift" / "steps"
_COMPONENTS = sorted(_STEPS.glob("*/component.py"))
_MOST_STATEMENTS = 8


def _function(path: Path) -> ast.FunctionDef:
    (function,) = (node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef))
    return function


def _statements(function: ast.FunctionDef) -> list[ast.stmt]:
    """Every statement inside, however deep, but the docstring."""
    inside = [node for node in ast.walk(function) if isinstance(node, ast.stmt) and node is not function]
    return [node for node in inside if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]


def test_every_step_of_the_design_has_a_component() -> None:
    reading, training = {"list_parts", "read_part", "prepare"}, {"fine_tune", "train_on_nodes"}
    judging, sweeping = {"export", "find_baseline", "find_change", "evaluate", "gate"}, {"plan_sweep", "record_trial", "pick_trial"}
    designed = reading | training | judging | sweeping | {"register", "reject", "record", "deploy", "finalize"}
    assert {path.parent.name for path in _COMPONENTS} == designed


@pytest.mark.parametrize("path", _COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_has_at_most_eight_statements_of_its_own(path: Path) -> None:
    own = [node for node in _statements(_function(path)) if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(own) <= _MOST_STATEMENTS, [ast.unparse(node) for node in own]


@pytest.mark.parametrize("path", _COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_imports_from_avskrift_only(path: Path) -> None:
    imports = [node for node in _statements(_function(path)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    assert all(module and module.startswith("avskrift.") for module in modules), modules


@pytest.mark.parametrize("path", _COMPONENTS, ids=lambda path: path.parent.name)
def test_every_parameter_of_a_component_is_documented_since_the_docstring_is_the_form(path: Path) -> None:
    function = _function(path)
    docstring = ast.get_docstring(function) or ""
    undocumented = [argument.arg for argument in function.args.args if f"\n    {argument.arg}: " not in docstring]
    assert not undocumented


def test_no_step_imports_kfp() -> None:
    for path in _STEPS.glob("**/*.py"):
        if path.name != "component.py":
            assert "kfp" not in {name.split(".")[0] for name in _imported(path)}, path


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names
