"""Pipelines as the YAML that a cluster takes: the same bytes for the same code."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kfp import compiler

from avskrift.storage.atomic import atomic_file
from avskrift_pipelines.fine_tune import fine_tune_pipeline

PIPELINES = {"fine_tune": fine_tune_pipeline}


def compile_into(folder: Path, *, check: bool = False) -> dict[Path, bool]:
    """Compile every pipeline to ``folder/NAME.yaml``; which files differ from what was there. ``check`` writes nothing."""
    differs = {}
    for name, pipeline in PIPELINES.items():
        path = folder / f"{name}.yaml"
        text = compiled(pipeline)
        differs[path] = not path.is_file() or path.read_text(encoding="utf-8") != text
        if differs[path] and not check:
            with atomic_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return differs


def compiled(pipeline: object) -> str:
    """One pipeline's YAML."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, package_path=str(path))
        return path.read_text(encoding="utf-8")
