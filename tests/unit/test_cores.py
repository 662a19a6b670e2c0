"""Cores as a container has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avskrift import cores
from avskrift.cores import available_cores, core_share


@pytest.mark.parametrize(
    ("quota", "share", "workers"),
    [
        ("150000 100000\n", 1.5, 2),
        ("50000 100000\n", 0.5, 1),
        ("20000 100000\n", 0.2, 1),
        ("9900000 100000\n", 8.0, 8),  # more than the process may run on
        ("max 100000\n", 8.0, 8),
        ("100000 0\n", 8.0, 8),
        ("nonsense", 8.0, 8),
    ],
)
def test_a_containers_limit_counts(quota: str, share: float, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(cores, "_CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert core_share() == share
    assert available_cores() == workers


def test_without_control_groups_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_CPU_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert (core_share(), available_cores()) == (1.0, 1)


def test_this_machine_has_some() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
