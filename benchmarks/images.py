"""How large the images are and how soon a container of each is at work.

    python benchmarks/images.py [--tag 0.1.0] [--package FOLDER] [--rounds 5]

Takes the images that `images/build` made. Prints a row for each: what it adds to the base image, how many seconds pass until Python
runs in a container, until the code of all its steps is imported, and, of serving with a model package, until it says that it is ready.
"First" is with nothing of the image in memory: needs root, who alone may have the kernel forget what it has read.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))

from docker_engine import Engine, EngineError

ROOT = Path(__file__).parents[1]
ROLES = ("data", "train", "serving", "ops")
_HARDENED = ("--read-only", "--network", "none", "--cap-drop", "ALL", "--tmpfs", "/tmp")
_READY = "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/v2/health/ready')"
_CACHES = Path("/proc/sys/vm/drop_caches")


def main() -> None:
    """Measure and print."""
    options = _parser().parse_args()
    engine = Engine()
    table = Table("image", "MB", "environment, MB", "container, s", "first import, s", "import, s", "first ready, s", "ready, s")
    for role in ROLES:
        table.add_row(role, *_row(engine, f"avskrift/{role}:{options.tag}", role, options))
    console = Console(width=140)
    server = engine.run("version", "--format", "{{.Server.Version}}").strip()
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Docker {server}")
    console.print(table)


def _row(engine: Engine, image: str, role: str, options: argparse.Namespace) -> list[str]:
    size = int(engine.run("image", "inspect", "--format", "{{.Size}}", image))
    ours = engine.run("run", "--rm", image, "du", "-sm", "--apparent-size", "/opt/avskrift").split()[0]
    container, _ = _times(lambda: _python(engine, image, "pass"), options.rounds)
    again, first = _times(lambda: _python(engine, image, _imports(role)), options.rounds)
    row = [f"{size / 1e6:.0f}", ours, f"{container:.2f}", first, f"{again:.2f}"]
    if role == "serving" and options.package:
        ready, first_ready = _times(lambda: _until_ready(engine, image, options.package), options.rounds)
        return [*row, first_ready, f"{ready:.2f}"]
    return [*row, "", ""]


def _times(work: Callable[[], float], rounds: int) -> tuple[float, str]:
    """The median of warm rounds, and the time of a cold one as text; empty where the cache cannot be emptied."""
    first = ""
    if os.access(_CACHES, os.W_OK):
        os.sync()
        _CACHES.write_text("3\n", encoding="ascii")
        first = f"{work():.2f}"
    return statistics.median(work() for _ in range(rounds)), first


def _python(engine: Engine, image: str, code: str) -> float:
    started = time.monotonic()
    engine.run("run", "--rm", *_HARDENED, image, "python", "-c", code)
    return time.monotonic() - started


def _imports(role: str) -> str:
    """Python that imports the code of every step that runs in the role's image."""
    components = sorted((ROOT / "components" / "avskrift" / "steps").glob("*/component.py"))
    steps = [path.parent.name for path in components if f'image("{role}")' in path.read_text(encoding="utf-8")]
    return "\n".join(f"import avskrift.steps.{step}.step" for step in steps)


def _until_ready(engine: Engine, image: str, package: Path) -> float:
    started = time.monotonic()
    container = engine.run("run", "--detach", *_HARDENED, "--volume", f"{package.resolve()}:/mnt/models:ro", image).strip()
    try:
        while True:
            try:
                engine.run("exec", container, "python", "-c", _READY)
            except EngineError:
                if time.monotonic() - started > 120:
                    raise
                continue
            return time.monotonic() - started
    finally:
        engine.run("rm", "--force", container)


def _parser() -> argparse.ArgumentParser:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default=version, help="the images' tag (default: the version)")
    parser.add_argument("--package", type=Path, metavar="FOLDER", help="a model package that serving is to become ready with")
    parser.add_argument("--rounds", type=int, default=5, help="warm rounds, of which the median counts")
    return parser


if __name__ == "__main__":
    main()
