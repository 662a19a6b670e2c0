"""The Docker engine, through its command line: what building, locking and the tests ask of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FIRST_WITHOUT_BUILDKIT = 23  # from this version on the client needs its buildx part for BuildKit
_TOLD = 15  # lines of a failed command that are shown


class EngineError(Exception):
    """What a person can mend; the message says how."""


class Engine:
    """A client that can build with BuildKit, and an engine that answers it.

    Raises:
        EngineError: there is none.
    """

    def __init__(self) -> None:
        self.client = _client()
        try:
            self.run("version", "--format", "{{.Server.Version}}")
        except EngineError as error:
            raise EngineError(f"no Docker engine answers; start it, or set DOCKER_HOST to one. {error}") from error

    def run(self, *arguments: str, shown: bool = False, binary: bool = False) -> Any:
        """A command's output as text, or as bytes; ``shown`` lets a person watch instead.

        Raises:
            EngineError: the command failed; with the last lines that it said.
        """
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        pipe = None if shown else subprocess.PIPE
        ended = subprocess.run([self.client, *arguments], env=environment, stdout=pipe, stderr=pipe, text=not binary, check=False)
        if ended.returncode:
            error = ended.stderr or ""
            said = (error if isinstance(error, str) else error.decode(errors="replace")).strip().splitlines()[-_TOLD:]
            raise EngineError("\n".join([f"`docker {arguments[0]}` failed with exit code {ended.returncode}", *said]))
        return ended.stdout

    def digest(self, reference: str) -> str:
        """A pushed or pulled image as NAME@sha256:...

        Raises:
            EngineError: the engine has no such image, or knows no digest of it under that name.
        """
        name = repository(reference)
        known = json.loads(self.run("image", "inspect", reference))[0]["RepoDigests"] or []
        for found in known:
            if found.partition("@")[0] == name:
                return str(found)
        raise EngineError(f"{reference}: the engine knows no digest of it, so it was neither pulled nor pushed under this name")


def repository(reference: str) -> str:
    """A reference without its tag and its digest; a registry's port stays."""
    name = reference.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(":")[0]


def _client() -> str:
    """The first ``docker`` on the path that can build with BuildKit; a client without its buildx part cannot."""
    found = [str(path) for folder in os.get_exec_path() if shutil.which(str(path := Path(folder) / "docker"))]
    for client in found:
        if _answers([client, "buildx", "version"]) or _version(client) < _FIRST_WITHOUT_BUILDKIT:
            return client
    if found:
        raise EngineError(f"{', '.join(found)}: cannot build with BuildKit; install Docker's buildx plugin")
    raise EngineError("docker: not found; install Docker (on Debian: apt-get install docker.io)")


def _version(client: str) -> int:
    """The client's major version."""
    said = subprocess.run([client, "version", "--format", "{{.Client.Version}}"], capture_output=True, text=True, check=False).stdout
    major = said.strip().partition(".")[0]
    return int(major) if major.isdigit() else _FIRST_WITHOUT_BUILDKIT


def _answers(command: list[str], environment: Mapping[str, str] | None = None) -> bool:
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
