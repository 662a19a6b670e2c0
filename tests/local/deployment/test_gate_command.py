"""``avskrift gate`` on a package: the bytes that would be promoted are those that were measured, or nothing is decided."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from click.testing import Result
from deployment_material import Material, make_material
from typer.testing import CliRunner

from avskrift.errors import IntegrityError, UsageError
from avskrift.evaluation.decision_file import read_decision
from avskrift_pipelines.command.steps import gate


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return make_material(tmp_path / "run")


def decide(evaluation: Path, package: Path, out: Path, *arguments: str) -> Result:
    app = typer.Typer()
    app.command()(gate)
    return CliRunner().invoke(app, [str(evaluation), "--out", str(out), "--package", str(package), *arguments])


def test_a_package_that_was_measured_passes(material: Material, tmp_path: Path) -> None:
    assert decide(material.evaluation, material.package.folder, tmp_path / "decision").exit_code == 0
    assert decide(material.evaluation, material.package.folder, tmp_path / "decision", "--package-sha256", material.sha256).exit_code == 0
    assert read_decision(tmp_path / "decision").passed


def test_a_flipped_byte_in_the_package_ends_without_a_decision(material: Material, tmp_path: Path) -> None:
    weights = material.package.folder / "ct2" / "model.bin"
    flipped = bytearray(weights.read_bytes())
    flipped[0] ^= 1
    weights.write_bytes(flipped)
    ended = decide(material.evaluation, material.package.folder, tmp_path / "decision")
    assert isinstance(ended.exception, IntegrityError)
    assert "model.bin" in str(ended.exception)
    assert not (tmp_path / "decision").exists()


def test_a_package_that_is_not_the_one_named_ends_without_a_decision(material: Material, tmp_path: Path) -> None:
    ended = decide(material.evaluation, material.package.folder, tmp_path / "decision", "--package-sha256", "d" * 64)
    assert isinstance(ended.exception, UsageError)
    assert "give the package that was exported" in str(ended.exception)
    assert not (tmp_path / "decision").exists()


def test_another_package_than_the_one_measured_is_rejected(material: Material, tmp_path: Path) -> None:
    other = make_material(tmp_path / "other", weights=b"other weights")
    assert decide(material.evaluation, other.package.folder, tmp_path / "decision").exit_code == 50
    assert [rule.name for rule in read_decision(tmp_path / "decision").failed] == ["same_package"]
