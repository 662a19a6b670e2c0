"""The gate's policy: one definition, and the file, the command, the component and the documents say what it says.

``AVSKRIFT_REGENERATE_GOLDEN=1 pytest tests/unit/test_gate_policy.py`` writes docs/gate-policy.yaml and the table of docs/gate.md anew.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from evaluations import BASELINE, CANDIDATE, write_evaluation
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from avskrift.errors import AvskriftError, UsageError
from avskrift.evaluation.decision_file import read_decision
from avskrift.evaluation.judgement_rules import JUDGEMENT_RULES
from avskrift.evaluation.policy import NOT_ASKED, Policy
from avskrift.evaluation.policy_file import read_policy
from avskrift.steps.gate.component import gate as gate_component
from avskrift_pipelines.command.policy_options import with_policy_options
from avskrift_pipelines.command.steps import gate
from avskrift_pipelines.fine_tune import fine_tune_pipeline

_DOCS = Path(__file__).parents[2] / "docs"
_FIELDS = {bound.name: bound for bound in dataclasses.fields(Policy)}
_RATES = ("max_wer", "margin", "max_slice_loss", "max_looped", "max_context_loss", "max_long_form_loss", "max_retention_loss")


def _another(name: str) -> Any:
    """A value that the bound takes and that is not its default."""
    default = _FIELDS[name].default
    if isinstance(default, str):
        return "not-worse"
    return default + 1 if isinstance(default, int) else 0.25


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _as_yaml() -> str:
    """The default policy as a file, each bound with its help."""
    lines = ["# What a package must show to be promoted, with the defaults. docs/gate.md explains every rule.", ""]
    for name, bound in _FIELDS.items():
        lines += [f"# {line}" for line in textwrap.wrap(bound.metadata["help"], 110)]
        lines += [f"{name}: {bound.default}", ""]
    return "\n".join(lines[:-1]) + "\n"


def _kept(path: Path, text: str) -> str:
    if os.environ.get("AVSKRIFT_REGENERATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def test_the_documented_policy_is_the_default_one() -> None:
    path = _DOCS / "gate-policy.yaml"
    assert _kept(path, _as_yaml()) == _as_yaml()
    assert read_policy(path) == Policy()


def test_the_page_has_a_row_for_each_bound() -> None:
    path = _DOCS / "gate.md"
    rows = [f"| `{name}` | {_shown(bound.default)} | {bound.metadata['help']} |" for name, bound in _FIELDS.items()]
    table = "\n".join(["| bound | default | |", "|---|---|---|", *rows])
    between = re.compile(r"(<!-- bounds: [^\n]*-->\n\n)(.*?)(\n\n<!-- end of bounds -->)", flags=re.DOTALL)
    page = between.sub(lambda found: f"{found[1]}{table}{found[3]}", path.read_text(encoding="utf-8"))
    assert [found[1] for found in between.findall(_kept(path, page))] == [table]


def test_the_page_says_of_each_rule_what_it_asks() -> None:
    page = (_DOCS / "gate.md").read_text(encoding="utf-8")
    assert [rule.name for rule in JUDGEMENT_RULES if page.count(f"| `{rule.name}` |") != 2] == []


def _shown(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


@pytest.mark.parametrize("name", _FIELDS)
def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path, name: str) -> None:
    assert read_policy(_written(tmp_path, f"{name}: {_another(name)}\n")) == Policy(**{name: _another(name)})


@given(st.floats(min_value=0, max_value=1), st.integers(min_value=1, max_value=1 << 62))
def test_a_bound_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, rate: float, clips: int) -> None:
    text = f"max_wer: {rate:.400f}\nminimum_clips: {clips}\n"
    path = _written(tmp_path_factory.mktemp("policy"), text)
    assert read_policy(path) == Policy(max_wer=float(f"{rate:.400f}"), minimum_clips=clips)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a policy; write lines like `max_wer: 0.3`, of max_wer, comparison, .*minimum_hours"),
        ("# nothing but a remark\n", "not a policy"),
        ("- max_wer\n", "not a policy"),
        ("0.3\n", "not a policy"),
        ("{}\n", "not a policy"),
        ("max_wer: [\n", "not a policy in YAML"),
        ("max_wer: 0.1\n---\nmax_wer: 0.3\n", "not a policy in YAML"),
        ("max_wer: !!python/object/apply:os.getcwd []\n", "not a policy in YAML"),
        ("{" * 3000, "not a policy in YAML"),
        ("? [max_wer]\n: 0.3\n", "not a policy in YAML"),
        ("max_wer: 0.3\nmax_wer: 0.4\n", "max_wer stands twice"),
        ("max_wer: 0.3\n'max_wer': 0.3\n", "max_wer stands twice"),
        ("max_wr: 0.3\n", "unknown bounds max_wr; a policy knows max_wer, .*minimum_hours"),
        ("1: 0.3\nx: 2\n", "unknown bounds 1, x"),
        ("require_better: true\n", "unknown bounds require_better"),
        ("max_wer: .nan\n", "max_wer is 'nan'|max_wer is nan"),
        ("max_wer: .inf\n", "max_wer is inf"),
        ("max_wer: '0.3'\n", "max_wer is '0.3'; give a number"),
        ("max_wer: true\n", "max_wer is True; give a number"),
        ("max_wer:\n", "max_wer is nothing; give a number"),
        ("max_wer: [0.3]\n", r"max_wer is \[0.3\]; give a number"),
        (f"max_wer: {'9' * 400}\n", "max_wer is a number beyond all bounds"),
        (f"minimum_clips: 0x{'f' * 9000}\n", "minimum_clips is a number beyond all bounds"),
        ("minimum_clips: 20.0\n", "minimum_clips is 20.0; give a whole number"),
        ("minimum_clips: 0\n", "minimum_clips is 0; it must be 1 or more$"),
        ("minimum_speakers: -1\n", "minimum_speakers is -1; it must be 0 or more$"),
        ("max_wer: 30\n", "max_wer is 30; it must be a fraction from 0 to 1, or -1 to ask for nothing"),
        ("max_wer: -0.1\n", "max_wer is -0.1; it must be"),
        ("margin: -1\n", "margin is -1; it must be a fraction from 0 to 1$"),
        ("max_latency: -2\n", "max_latency is -2; it must be 0 or more, or -1 to ask for nothing"),
        ("comparison: best\n", "comparison is 'best'; use one of better, not-worse, none"),
        ("comparison: [better]\n", "comparison is .*; use one of"),
        ("comparison:\n", "comparison is nothing; use one of"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(UsageError, match=says) as raised:
        read_policy(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: the policy cannot be read \(No such file"):
        read_policy(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="the policy cannot be read"):
        read_policy(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a policy in YAML"):
        read_policy(tmp_path / "bytes.yaml")


@pytest.mark.parametrize("name", _RATES)
def test_a_rate_above_one_is_taken_for_a_percentage_and_refused(name: str) -> None:
    assert getattr(Policy(**{name: 1}), name) == 1
    with pytest.raises(UsageError, match=f"{name} is 1.01; it must be a fraction"):
        Policy(**{name: 1.01})


@pytest.mark.parametrize("name", [name for name in _FIELDS if name != "comparison"])
def test_minus_one_is_taken_where_a_rule_may_be_turned_off_and_there_alone(name: str) -> None:
    if _FIELDS[name].metadata["may_be_off"]:
        assert getattr(Policy(**{name: NOT_ASKED}), name) == NOT_ASKED
        assert "-1 does not ask" in _FIELDS[name].metadata["help"]
    else:
        with pytest.raises(UsageError, match=name):
            Policy(**{name: -1})


@pytest.mark.parametrize("taker", [gate_component.python_func, fine_tune_pipeline.pipeline_func], ids=["component", "pipeline"])
def test_whoever_takes_the_bounds_takes_each_with_the_same_default(taker: Any) -> None:
    parameters = inspect.signature(taker).parameters
    found = {name: parameters[name].default for name in _FIELDS}
    assert found == {name: bound.default for name, bound in _FIELDS.items()}
    assert {name: type(default) for name, default in found.items()} == {name: type(bound.default) for name, bound in _FIELDS.items()}


def test_the_pipeline_hands_each_bound_to_the_gate() -> None:
    (task,) = _tasks(json_format.MessageToDict(fine_tune_pipeline.pipeline_spec), "gate")
    handed = {name: given["componentInputParameter"] for name, given in task["inputs"]["parameters"].items() if name in _FIELDS}
    assert set(handed) == set(_FIELDS)
    assert [name for name, source in handed.items() if source not in (name, f"pipelinechannel--{name}")] == []


def _tasks(whole: Any, name: str) -> list[Any]:
    """Every task of this name in a compiled pipeline."""
    if not isinstance(whole, dict):
        return []
    own = [whole["tasks"][name]] if name in whole.get("tasks", {}) else []
    return own + [task for inner in whole.values() for task in _tasks(inner, name)]


def _app() -> typer.Typer:
    app = typer.Typer()
    app.command()(gate)
    return app


def _heard(arguments: list[str], defaults: Policy) -> Policy:
    """What a command with these options is called with."""
    heard: list[Policy] = []

    @with_policy_options(defaults=defaults)
    def listen(policy: Policy) -> None:
        heard.append(policy)

    listening = typer.Typer()
    listening.command()(listen)
    CliRunner().invoke(listening, arguments, catch_exceptions=False, standalone_mode=False)
    (policy,) = heard
    return policy


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@pytest.mark.parametrize("name", _FIELDS)
def test_an_option_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path, name: str) -> None:
    defaults = Policy(max_wer=0.5, minimum_clips=7)
    other = "none" if name == "comparison" else 1
    file = ["--policy", str(_written(tmp_path, f"{name}: {other}\n"))]
    assert _heard([], defaults) == defaults
    assert _heard(file, defaults) == dataclasses.replace(defaults, **{name: other})
    assert _heard([*file, _flag(name), str(_another(name))], defaults) == dataclasses.replace(defaults, **{name: _another(name)})


def test_an_option_that_is_no_policy_is_refused_before_the_command_begins() -> None:
    with pytest.raises(UsageError, match="max_wer is 30"):
        _heard(["--max-wer", "30"], Policy())
    assert _heard(["--max-wer", "-1"], Policy()).max_wer == NOT_ASKED


def test_the_help_has_every_bound_with_its_default_and_its_meaning() -> None:
    command = typer.main.get_command(_app())
    options = {option.name: option for option in command.params}
    for name, bound in _FIELDS.items():
        option: Any = options[name]
        assert option.opts == [_flag(name)]
        assert (option.help, option.default) == (bound.metadata["help"], None)
        assert option.show_default == _shown(bound.default)


def _decide(tmp_path: Path, *arguments: Any) -> Result:
    given = [str(tmp_path / "evaluation"), "--out", str(tmp_path / "decision"), *map(str, arguments)]
    return CliRunner().invoke(_app(), given)


def test_the_command_says_why_not_and_ends_with_fifty(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation")
    asked = ("--package-sha256", CANDIDATE, "--policy", _written(tmp_path, "max_wer: 0.1\n"))
    refused = _decide(tmp_path, *asked)
    assert refused.exit_code == 50
    assert refused.stdout.splitlines()[0].startswith("rejected: 1 of 22 rules failed")
    assert len(refused.stdout.splitlines()) == 2
    explained = _decide(tmp_path, *asked, "--explain")
    assert explained.exit_code == 50
    assert len(explained.stdout.splitlines()) == 23
    passed = _decide(tmp_path, *asked, "--max-wer", 0.2)
    assert passed.exit_code == 0
    assert passed.stdout.startswith("passed: all 22 rules hold")
    told = json.loads(_decide(tmp_path, *asked, "--json").stdout)
    assert (told["passed"], len(told["rules"])) == (False, 22)


def test_the_command_takes_an_override_and_shows_it(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation")
    asked = ("--package-sha256", CANDIDATE, "--max-wer", 0.1, "--override-by", "release-manager")
    without = _decide(tmp_path, *asked)
    assert isinstance(without.exception, UsageError)
    assert "override_reason" in str(without.exception)
    assert not (tmp_path / "decision").exists()
    overridden = _decide(tmp_path, *asked, "--override-reason", "needed today")
    assert overridden.exit_code == 0
    assert "overridden by release-manager: needed today" in overridden.stdout
    assert read_decision(tmp_path / "decision").overridden


def test_the_command_asks_which_package(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation")
    nobody = _decide(tmp_path)
    assert isinstance(nobody.exception, AvskriftError)
    assert "--package" in str(nobody.exception)
    other = _decide(tmp_path, "--package-sha256", BASELINE)
    assert other.exit_code == 50
    assert BASELINE in other.stdout
