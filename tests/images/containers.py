"""Runs containers as a careful cluster does: no network, no capabilities, a root that nobody can write to."""

from __future__ import annotations

import subprocess
from pathlib import Path

from docker_engine import Engine

# As Kubernetes mounts an emptyDir: Docker's own default forbids to map what is written there as code.
HARDENED = ("--read-only", "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:exec")
UID = "65532"


def output(engine: Engine, image: str, *command: str, mounts: dict[Path, str] | None = None, user: str = UID, hardened: bool = True) -> str:
    """What a command prints inside; ``mounts`` are read-only, host folder to folder inside."""
    mounted = [word for host, inside in (mounts or {}).items() for word in ("--volume", f"{host}:{inside}:ro")]
    return str(engine.run("run", "--rm", "--user", user, *(HARDENED if hardened else ()), *mounted, image, *command))


def python(engine: Engine, image: str, code: str, *, mounts: dict[Path, str] | None = None, user: str = UID) -> str:
    """What a piece of Python prints inside."""
    return output(engine, image, "python", "-c", code, mounts=mounts, user=user).strip()


def logs(engine: Engine, container: str) -> str:
    """All that a container has printed, standard error too."""
    ended = subprocess.run([engine.client, "logs", container], capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr
