"""PostgreSQL of the Debian package, as a cluster of a test's own: unprivileged, on a free loopback port, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PASSWORD = "not-a-secret"
_PATIENCE_SECONDS = 30.0


@contextmanager
def running() -> Iterator[str]:
    """A server until the end of the block; yields its URL for SQLAlchemy. Skips the test where PostgreSQL is not to be had."""
    programs = _programs()
    # Not below pytest's folders: nobody but their owner may enter those.
    folder = Path(tempfile.mkdtemp(prefix="avskrift-postgres-"))
    try:
        who = _unprivileged(folder)
        (folder / "password").write_text(_PASSWORD)
        folder.chmod(0o700)
        if who:
            for entry in (folder, folder / "password"):
                shutil.chown(entry, who["user"])
        options = ["--username=avskrift", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync", "--encoding=UTF8"]
        subprocess.run(
            [programs / "initdb", f"--pgdata={folder / 'data'}", "--locale=C", *options], check=True, capture_output=True, cwd="/", **who
        )
        port = _free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": folder,
            "fsync": "off",
            "max_connections": 100,
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *words], stdout=log, stderr=log, cwd="/", start_new_session=True, **who
            )
        try:
            _wait(programs, port, server)
            yield f"postgresql+psycopg2://avskrift:{_PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(3)  # SIGQUIT: at once, without a checkpoint
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """The folder of initdb and postgres; installed first where we may."""
    for attempt in range(2):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if found:
            return found[-1].parent
        if attempt == 0 and os.geteuid() == 0 and shutil.which("apt-get"):
            quiet = {"capture_output": True, "check": False, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
            install = ["apt-get", "install", "--yes", "--no-install-recommends", "postgresql"]
            if subprocess.run(install, **quiet).returncode:  # type: ignore[call-overload]
                subprocess.run(["apt-get", "update"], **quiet)  # type: ignore[call-overload]
                subprocess.run(install, **quiet)  # type: ignore[call-overload]
    pytest.skip("PostgreSQL is not here: install the Debian package postgresql, or run as root where apt-get can")


def _unprivileged(folder: Path) -> dict[str, Any]:
    """As whom to run: PostgreSQL refuses root. Empty for whoever runs the tests."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in names else "nobody"
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _wait(programs: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, "postgres ended"
        if not subprocess.run([programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode:
            return
        time.sleep(0.05)
    raise AssertionError("postgres did not answer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
