"""Where a run and its model come from, as tags: what is not known is left out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from avskrift.registry import tags

PIPELINES_VARIABLE = "AVSKRIFT_PIPELINES_URL"  # where the Kubeflow Pipelines page is, as https://kubeflow.example/_/pipeline
GIT_VARIABLE = "AVSKRIFT_GIT_REVISION"  # set in our images; else the checkout that this code is run from is asked
_MLFLOW_GIT_COMMIT = "mlflow.source.git.commit"  # MLflow's page shows it
_PLUGINS_RUN_URL, _PLUGINS_PIPELINE_ID = "kfp.pipeline_run_url", "kfp.pipeline_id"  # KFP's MLflow plugin's own tags
_GIT_SECONDS = 10


def origin(pipeline_run_id: str, run_tags: Mapping[str, str], images: Mapping[str, str]) -> dict[str, str]:
    """Tags that say which pipeline run, code and images made something.

    ``run_tags`` are those that the run has already: KFP's plugin puts some there. ``images`` are references by role, of which only
    those by digest say which bytes ran.
    """
    revision = git_revision()
    known = {
        tags.PIPELINE_ID: run_tags.get(_PLUGINS_PIPELINE_ID, ""),
        tags.PIPELINE_RUN_URL: _run_url(pipeline_run_id, run_tags),
        tags.GIT_REVISION: revision,
        _MLFLOW_GIT_COMMIT: revision.removesuffix("-dirty"),
        **{f"{tags.IMAGE}{role}": reference for role, reference in images.items() if "@sha256:" in reference},
    }
    return {name: value for name, value in known.items() if value}


def git_revision() -> str:
    """The commit of this code, with ``-dirty`` where it was changed since; empty where there is no telling."""
    told = os.environ.get(GIT_VARIABLE, "")
    if told:
        return told
    here = Path(__file__).parent
    # An installed copy may lie inside somebody else's checkout, whose commit says nothing of it.
    if not _git(here, "ls-files", "--error-unmatch", Path(__file__).name):
        return ""
    return _git(here, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")


def _run_url(pipeline_run_id: str, run_tags: Mapping[str, str]) -> str:
    """The run on the pipelines' page. The plugin knows its path and not where the page is."""
    page = os.environ.get(PIPELINES_VARIABLE, "").rstrip("/")
    if page:
        return f"{page}/#/runs/details/{pipeline_run_id}"
    told = run_tags.get(_PLUGINS_RUN_URL, "")
    return told if told.startswith(("https://", "http://")) else ""


def _git(folder: Path, *words: str) -> str:
    """What git answers; empty where it is not installed, knows no repository there, or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
