import os
import re
from pathlib import Path

import pytest

from avskrift import cores
from avskrift.evaluation import machine
from avskrift.evaluation.machine import machine as describe


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of which nothing is known: no /proc, no limits, an empty PATH, which is the folder that is returned."""
    for name in ("_CPU_INFO", "_MEMORY_LIMIT"):
        monkeypatch.setattr(machine, name, tmp_path / name)
    monkeypatch.setattr(cores, "_CPU_QUOTA", tmp_path / "_CPU_QUOTA")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    return tmp_path


def tool(folder: Path, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_this_machine_is_named_with_its_cores_and_memory() -> None:
    assert re.match(r"\d[\d.]* cores?.*, \d+ GB memory", describe())
    assert float(describe().split()[0]) <= (os.cpu_count() or 1)


def test_a_machine_that_tells_nothing_is_described_all_the_same(bare: Path) -> None:
    assert describe().startswith("4 cores")


def test_the_cpu_has_its_name(bare: Path) -> None:
    (bare / "_CPU_INFO").write_text("processor\t: 0\nmodel name\t: AMD EPYC 7763: 64-Core Processor\n")
    assert describe().startswith("4 cores of AMD EPYC 7763: 64-Core Processor, ")


def test_a_container_has_what_its_limits_leave(bare: Path) -> None:
    (bare / "_CPU_QUOTA").write_text("150000 100000\n")
    (bare / "_MEMORY_LIMIT").write_text(f"{1 << 30}\n")
    assert describe().startswith("1.5 cores")
    assert describe().endswith(", 1 GB memory")


def test_a_container_without_limits_has_all_of_the_machine(bare: Path) -> None:
    unlimited = describe()
    (bare / "_CPU_QUOTA").write_text("max 100000\n")
    (bare / "_MEMORY_LIMIT").write_text("max\n")
    assert describe() == unlimited


def test_gpus_are_named_and_alike_ones_counted(bare: Path) -> None:
    tool(bare, "printf 'NVIDIA L4\\nNVIDIA H100 80GB HBM3\\nNVIDIA L4\\n'")
    assert describe().endswith(" GB memory, 2 NVIDIA L4, NVIDIA H100 80GB HBM3")


@pytest.mark.parametrize("script", ["exit 9", "printf 'no devices were found'; exit 6", "printf '\\377\\n'"])
def test_a_tool_that_fails_leaves_the_gpu_out(bare: Path, script: str) -> None:
    tool(bare, script)
    assert describe().endswith(" GB memory")
