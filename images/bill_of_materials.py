"""What is in an image, as a CycloneDX document: its Python, the packages of its environment, and those of its Debian.

The metadata of the packages is taken out of the image and laid into an empty virtual environment, which CycloneDX's own tool
reads: nothing of it has to be in the image, and no package is taken for granted.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path
from typing import Any

from docker_engine import Engine, EngineError

_METADATA = """
import pathlib, sys, sysconfig, tarfile
site = pathlib.Path(sysconfig.get_path("purelib"))
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
    for folder in sorted(site.glob("*.dist-info")):
        tar.add(folder, arcname=folder.name)
"""
_DEBIAN = "dpkg-query --show --showformat '${Package}\\t${Version}\\t${Architecture}\\n'"


def bill_of_materials(engine: Engine, image: str, *, name: str, version: str) -> str:
    """The document, as JSON; the same for the same image.

    Raises:
        EngineError: the image cannot be run, or CycloneDX's tool is not installed.
    """
    inside = ("run", "--rm", "--network", "none", "--read-only", "--entrypoint")
    metadata = engine.run(*inside, "python", image, "-c", _METADATA, binary=True)
    debian = engine.run(*inside, "sh", image, "-c", _DEBIAN)
    interpreter = engine.run(*inside, "python", image, "-c", "import platform; print(platform.python_version())").strip()
    document = _of_environment(metadata)
    document["components"].append(_component("application", "python", interpreter, f"pkg:generic/python@{interpreter}"))
    document["components"] += [_debian_component(line) for line in sorted(debian.splitlines())]
    reference = f"pkg:oci/{name}@{version}"
    document["metadata"]["component"] = {"type": "container", "bom-ref": reference, "name": name, "version": version}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _of_environment(metadata: bytes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        (site,) = Path(folder).glob("lib/python*/site-packages")
        with tarfile.open(fileobj=io.BytesIO(metadata)) as tar:
            tar.extractall(site, filter="data")
        command = [sys.executable, "-m", "cyclonedx_py", "environment", folder, "--output-reproducible", "--output-format", "JSON"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = "\n".join(ended.stderr.strip().splitlines()[-3:])
        raise EngineError(f"no bill of materials: cyclonedx_py failed ({said}); run with the project's own Python, as `make images` does")
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def _debian_component(line: str) -> dict[str, str]:
    package, version, architecture = line.split("\t")
    purl = f"pkg:deb/debian/{package}@{version.replace('+', '%2B').replace(':', '%3A')}?arch={architecture}&distro=bookworm"
    return _component("library", package, version, purl)


def _component(kind: str, name: str, version: str, purl: str) -> dict[str, str]:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}
