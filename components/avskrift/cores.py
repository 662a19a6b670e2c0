"""How many cores there are for this process: a container's limit is not the machine's number, and too many threads wait for each other."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of control groups of version 2


def core_share() -> float:
    """Of the cores that the process may run on, those that its container may keep busy; 1.5 is one and a half."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with suppress(OSError, ValueError, ZeroDivisionError):  # no control groups, or "max"
        quota, period = _CPU_QUOTA.read_text(encoding="ascii").split()
        return min(cores, round(int(quota) / int(period), 1))
    return cores


def available_cores() -> int:
    """:func:`core_share` as a number of workers or threads, 1 at least."""
    return max(1, round(core_share()))
