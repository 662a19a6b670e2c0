"""Pipelines as the YAML that a cluster takes: the same bytes for the same code."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.dsl.graph_component import GraphComponent

from avskrift.storage.atomic import atomic_file
from avskrift_pipelines.distributed import distributed_pipeline
from avskrift_pipelines.evaluate_only import evaluate_only_pipeline
from avskrift_pipelines.fine_tune import fine_tune_pipeline
from avskrift_pipelines.pipeline_source import version_name
from avskrift_pipelines.release import require_digests
from avskrift_pipelines.retrain import retrain_pipeline
from avskrift_pipelines.sweep import sweep_pipeline

PIPELINES: Mapping[str, GraphComponent] = {
    "fine_tune": fine_tune_pipeline,
    "sweep": sweep_pipeline,
    "evaluate_only": evaluate_only_pipeline,
    "retrain": retrain_pipeline,
    "distributed": distributed_pipeline,
}
_HEADER = "# Written by `avskrift compile` from pipelines/avskrift_pipelines; every parameter stands below root.inputDefinitions.\n"


def compile_into(folder: Path, *, check: bool = False, release: bool = False, as_manifests: bool = False) -> dict[Path, bool]:
    """Compile every pipeline to ``folder/NAME.yaml``; which files differ from what was there. ``check`` writes nothing.

    ``as_manifests``: as :func:`manifests`, instead of what kfp and its page take.

    Raises:
        UsageError: ``release``, and an image is named otherwise than by digest; nothing is written.
    """
    write = manifests if as_manifests else compiled
    texts = {folder / f"{name}.yaml": write(pipeline) for name, pipeline in PIPELINES.items()}
    if release:
        require_digests(texts)
    differs = {}
    for path, text in texts.items():
        differs[path] = not path.is_file() or path.read_text(encoding="utf-8") != text
        if differs[path] and not check:
            with atomic_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return differs


def compiled(pipeline: GraphComponent) -> str:
    """One pipeline's YAML. kfp's own comment is left out: it says every default a second time."""
    text = _compile(pipeline)
    return _HEADER + text[text.index("components:\n") :]


def manifests(pipeline: GraphComponent, *, namespace: str = "") -> str:
    """The pipeline as resources for Kubeflow in Kubernetes-native mode, for ``kubectl apply`` or GitOps: Pipeline and PipelineVersion.

    A PipelineVersion never changes, so it is named by its content: what is the same has the same name, and is there already.
    """
    version = version_name(pipeline.name, compiled(pipeline))
    options = KubernetesManifestOptions(
        pipeline_name=pipeline.name,
        pipeline_version_name=version,
        pipeline_version_display_name=version,
        namespace=namespace or None,
        include_pipeline_manifest=True,
    )
    return _compile(pipeline, kubernetes_manifest_format=True, kubernetes_manifest_options=options)


def _compile(pipeline: GraphComponent, **options: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, package_path=str(path), **options)
        return path.read_text(encoding="utf-8")
