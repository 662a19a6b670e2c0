"""What a release asks of compiled pipelines: every image by digest, so that a cluster runs the bytes that were tested."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml  # type: ignore[import-untyped]

from avskrift.errors import UsageError
from avskrift.steps.images import Role, image

_BY_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def require_digests(compiled: Mapping[Path, str]) -> None:
    """Refuse pipelines that name an image otherwise than by digest; ``compiled`` holds their YAML by file.

    Raises:
        UsageError: names each such image, its role, the steps that run in it, and what to do.
    """
    loose: dict[str, set[str]] = {}
    for path, text in compiled.items():
        for step, reference in _images(text).items():
            if not _BY_DIGEST.fullmatch(reference):
                loose.setdefault(reference, set()).add(f"{step} of {path.name}")
    if not loose:
        return
    roles: dict[str, str] = {image(role): role for role in get_args(Role)}
    told = [f"{roles.get(reference, 'no role of ours')}: {reference} ({_in_short(steps)})" for reference, steps in sorted(loose.items())]
    raise UsageError(
        f"a release names every image by digest, and these have none: {'; '.join(told)}. "
        "Build and push them with `images/build --push REGISTRY`, which writes images/images.lock.json, then compile again"
    )


def _images(text: str) -> dict[str, str]:
    """The image of each step that runs in a container, by the step's name; from kfp's own YAML, or from a PipelineVersion."""
    documents: list[dict[str, Any]] = [document for document in yaml.safe_load_all(text) if document]
    specifications = [document.get("spec", {}).get("pipelineSpec", document) for document in documents]
    executors = [pair for each in specifications for pair in each.get("deploymentSpec", {}).get("executors", {}).items()]
    return {name.removeprefix("exec-"): executor["container"]["image"] for name, executor in executors if "container" in executor}


def _in_short(steps: set[str]) -> str:
    first, *others = sorted(steps)
    return f"{first} and {len(others)} more" if others else first
