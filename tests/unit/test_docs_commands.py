"""Every command in the documents is one that the programs take, and either runs in a test or says what it needs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer._click.exceptions import UsageError
from typer.main import get_command

from avskrift_pipelines.command.app import app

_ROOT = Path(__file__).parents[2]
_PAGES = [
    _ROOT / "README.md",
    *sorted(_ROOT.glob("docs/*.md")),
    _ROOT / "charts" / "avskrift" / "README.md",
    _ROOT / "images" / "README.md",
]
_BLOCK = re.compile(r"^```(?:bash|sh)?\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
_NEEDS = re.compile(r"#.*\bneeds (?!no )(a cluster|Docker|internet|a registry|your)", flags=re.IGNORECASE)
_PROGRAMS = ("avskrift", "helm", "kubectl", "make", "docker", "torchrun", "curl", "pip", "pytest", "python")

# Where the command is run as the documents have it, or nearly.
_TESTED = {
    "avskrift run": "tests/local/test_pipeline_runs.py",
    "avskrift run-pipeline": "tests/local/test_sweep_runs.py",
    "avskrift prepare": "tests/local/test_commands.py",
    "avskrift fine-tune": "tests/local/test_commands.py",
    "avskrift export": "tests/local/test_commands.py",
    "avskrift evaluate": "tests/local/test_commands.py",
    "avskrift gate": "tests/local/test_commands.py",
    "avskrift register": "tests/local/test_commands.py",
    "avskrift inspect": "tests/local/test_inspect.py",
    "avskrift serve": "tests/serving/test_endpoint_docs.py",
    "avskrift transcribe": "tests/unit/test_transcribe_command.py",
    "avskrift compare": "tests/submission/test_runs_and_compare.py",
    "avskrift runs": "tests/submission/test_runs_and_compare.py",
    "avskrift submit": "tests/submission/test_submit.py",
    "avskrift compile": "tests/golden/test_pipeline_golden.py",
    "avskrift status": "tests/local/test_commands.py",
    "helm lint": "tests/chart/test_chart_renders.py",
    "helm template": "tests/chart/test_chart_renders.py",
    "curl": "tests/serving/test_endpoint_docs.py",
    "torchrun": "tests/local/test_training_distributed.py",
    "make": ".ci/run",
}


def _commands(page: Path) -> Iterator[str]:
    """Each command on one line, with the remark behind it."""
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if _program(line):
                yield line.strip()


def _program(line: str) -> str:
    words = line.strip().removeprefix(".venv/bin/").split()
    return words[0] if words and words[0] in _PROGRAMS else ""


_ALL = [(page, command) for page in _PAGES for command in _commands(page)]


def test_there_are_commands_to_check() -> None:
    assert len(_ALL) > 40
    assert {page.name for page, _ in _ALL} > {"README.md", "install.md", "deploying.md", "pipelines.md"}


@pytest.mark.parametrize(("page", "command"), _ALL, ids=[f"{page.stem}: {command[:60]}" for page, command in _ALL])
def test_a_command_runs_in_a_test_or_says_what_it_needs(page: Path, command: str) -> None:
    words = shlex.split(command.removeprefix(".venv/bin/"), comments=True)
    if words[0] == "avskrift":
        _refuse_what_the_program_refuses(words[1:])
    if _NEEDS.search(command):
        return
    test = _TESTED.get(" ".join(words[:2])) or _TESTED.get(words[0])
    assert test, f"{page.name}: nothing runs {command!r}; write '# needs a cluster' behind it, or a test"
    assert (_ROOT / test).is_file()


def _refuse_what_the_program_refuses(words: list[str]) -> None:
    """Read as the program reads it; nothing is run."""
    group = get_command(app)
    with group.make_context("avskrift", list(words), resilient_parsing=False) as context:
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        with command.make_context(name, rest, parent=context):
            pass


@pytest.mark.parametrize("command", ["avskrift run --sauce demo:", "avskrift fine-tume", "avskrift submit"])
def test_a_command_that_the_program_does_not_take_is_seen(command: str) -> None:
    with pytest.raises(UsageError):
        _refuse_what_the_program_refuses(command.split()[1:])
