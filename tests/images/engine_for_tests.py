"""A Docker engine, a base image and an image registry for the tests, out of Debian's packages where the machine has none.

No test pulls from a public registry: the base is a Debian bookworm with Debian's own Python 3.11, laid out as the official
``python:3.11-slim-bookworm`` is. ``AVSKRIFT_TEST_BASE`` names an image to use instead.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker_engine import Engine, EngineError

BASE_VARIABLE = "AVSKRIFT_TEST_BASE"
_BASE = "python:3.11-slim-bookworm"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Debian has 3.11.2, and one package asks for 3.11.4. pip would find no version of it.
_PIP_SETTINGS = f"[global]\ncert = {_CERTIFICATES}\nignore-requires-python = true\n"
# What the official image has and Debian's has elsewhere or not at all. The empty pip stands for the one that must not stay.
_AS_OFFICIAL = (
    'ln -s /usr/bin/python3 "$1/usr/local/bin/python"',
    'ln -s /usr/bin/python3 "$1/usr/local/bin/python3"',
    'mkdir -p "$1/usr/local/lib/python3.11/site-packages/pip"',
    'touch "$1/usr/local/lib/python3.11/site-packages/pip/__init__.py" "$1/usr/local/bin/pip3"',
)


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """The machine's engine if one answers, else one that runs as long as the body does."""
    if _engine_answers():
        yield Engine()
        return
    _need("dockerd", "docker.io", "iptables")
    folder = tempfile.mkdtemp(prefix="avskrift-docker-")
    address = f"unix://{folder}/docker.sock"
    where = ("--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid", "--host", address)
    # No bridge: builds use the machine's own network and containers none, so the machine's firewall stays as it is.
    command = ["dockerd", "--storage-driver", "overlay2", "--bridge", "none", "--iptables=false", *where]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", address)
            with _process(command, Path(folder) / "dockerd.log", ready=_engine_answers, what="a Docker engine"):
                yield Engine()
    finally:
        # Some hundred thousand files, which take a minute or two: nobody has to wait for that.
        os.spawnlp(os.P_NOWAIT, "rm", "rm", "-rf", folder)


@contextlib.contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """The address of an empty image registry on loopback."""
    _need("docker-registry", "docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = folder / "registry.yml"
    settings.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\nhttp: {{addr: '{address}'}}\n", encoding="utf-8"
    )
    ready, command = functools.partial(_listens, address), ["docker-registry", "serve", str(settings)]
    with _process(command, folder / "registry.log", ready=ready, what="an image registry"):
        yield address


def base_image(engine: Engine, registry: str, folder: Path) -> str:
    """A base image in the registry, under the name and tag that the official one has elsewhere."""
    reference = f"{registry}/{_BASE}"
    if given := os.environ.get(BASE_VARIABLE):
        engine.run("tag", given, reference)
    else:
        engine.run("import", str(_debian(folder)), reference)
    engine.run("push", "--quiet", reference)
    return reference


def _debian(folder: Path) -> Path:
    _need("mmdebstrap", "mmdebstrap")
    settings = folder / "pip.conf"
    settings.write_text(_PIP_SETTINGS, encoding="utf-8")
    hooks = [*_AS_OFFICIAL, f"copy-in {settings} /etc"]
    if _CERTIFICATES.is_file():
        hooks.append(f"copy-in {_CERTIFICATES} {_CERTIFICATES.parent}")
    tarball = folder / "base.tar"
    packages = "--include=python3,python3-venv,ca-certificates"
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        packages,
        *(f"--customize-hook={hook}" for hook in hooks),
        "bookworm",
        str(tarball),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"no base image: mmdebstrap failed, {ended.stderr.strip()[-300:]}; name one with {BASE_VARIABLE}")
    return tarball


def _need(program: str, *packages: str) -> None:
    """Install Debian's packages if ``program`` is missing and we may; else skip."""
    if shutil.which(program):
        return
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.skip(f"{program} is not installed, and only root on Debian can install it here: apt-get install {' '.join(packages)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]):
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            pytest.skip(f"{program} cannot be installed: `{' '.join(command)}` failed, {ended.stderr.strip()[-300:]}")


@contextlib.contextmanager
def _process(command: list[str], log: Path, *, ready: Callable[[], bool], what: str) -> Iterator[None]:
    """A server for the time of the body; a skip with the end of its log if it does not come up."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.skip(f"{what} cannot be had here: {log.read_text(errors='replace')[-500:]}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


def _engine_answers() -> bool:
    try:
        Engine()
    except EngineError:
        return False
    return True


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False
