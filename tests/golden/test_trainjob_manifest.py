"""The TrainJob in docs/training.md: what Kubeflow Trainer's published schema takes, with a job that the step takes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_deployment_manifest import faults

from avskrift.steps.fine_tune.step import Config
from avskrift.steps.images import image
from avskrift.training.config import TrainingConfig

_ROOT = Path(__file__).parents[2]
_SHARED = _ROOT.parent / "shared" / "crds"


def _manifest() -> dict[str, Any]:
    page = (_ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"<!-- trainjob -->\n```yaml\n(.*?)```\n", page, flags=re.DOTALL)
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def _schema() -> dict[str, Any]:
    """v1alpha1 of Kubeflow Trainer's published CRD, which the project does not copy."""
    path = Path(os.environ.get("AVSKRIFT_CRDS") or _SHARED) / "trainer.kubeflow.org_trainjobs.yaml"
    if not path.is_file():
        pytest.skip(f"{path} is not here: set AVSKRIFT_CRDS to a folder with Kubeflow Trainer's CRDs")
    crd = next(found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found)
    (version,) = (entry for entry in crd["spec"]["versions"] if entry["name"] == "v1alpha1")
    structural: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return structural


def test_trainers_schema_takes_the_manifest() -> None:
    assert faults(_manifest(), _schema(), "") == []


def test_the_check_sees_what_the_schema_does_not_name() -> None:
    manifest = _manifest()
    manifest["spec"]["trainer"]["numNode"] = 2
    del manifest["spec"]["runtimeRef"]["name"]
    assert faults(manifest, _schema(), "") == [".spec.runtimeRef.name is missing", ".spec.trainer.numNode is not in the schema"]


def test_its_job_is_a_configuration_of_the_step_and_its_image_the_training_one() -> None:
    trainer = _manifest()["spec"]["trainer"]
    assert trainer["image"] == image("train")
    (text,) = (variable["value"] for variable in trainer["env"] if variable["name"] == "AVSKRIFT_JOB")
    job = json.loads(text)
    assert Config(**job | {"training": TrainingConfig(**job["training"])}).training.batch_seconds == 1200
