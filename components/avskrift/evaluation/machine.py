"""The machine that speeds were measured on, in words."""

from __future__ import annotations

import platform
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from avskrift.cores import core_share

_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
_NVIDIA_SECONDS = 20


def machine() -> str:
    """As "2 cores of AMD EPYC 7763, 8 GB memory, NVIDIA H100 80GB HBM3". What cannot be found out is left out; nothing is raised.

    Cores and memory are those that this process may use: in a container, its limits.
    """
    cores, memory, gpus = core_share(), _memory_gb(), _gpus()
    of_model = f" of {model}" if (model := _cpu_model()) else ""
    return ", ".join(
        [
            f"{cores:g} {'core' if cores == 1 else 'cores'}{of_model}",
            *([f"{memory:.0f} GB memory"] if memory else []),
            *gpus,
        ]
    )


def _cpu_model() -> str:
    with suppress(OSError, ValueError):
        for line in _CPU_INFO.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float:
    """0 where nobody says."""
    limits: list[int] = []
    with suppress(OSError, psutil.Error):
        limits.append(psutil.virtual_memory().total)
    with suppress(OSError, ValueError):
        limits.append(int(_MEMORY_LIMIT.read_text(encoding="ascii")))
    return min(limits, default=0) / 2**30


def _gpus() -> list[str]:
    """Their names, alike ones counted; none where NVIDIA's tool is not there, or does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        asked = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=_NVIDIA_SECONDS, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    names = [name.strip() for name in asked.stdout.splitlines() if name.strip()]
    return [name if names.count(name) == 1 else f"{names.count(name)} {name}" for name in dict.fromkeys(names)]
