"""Kubeflow Trainer, as far as train_on_nodes looks at it: what it writes into a TrainJob's status, and a job's pods.

Written from Trainer's v1alpha1 types and its torch-distributed runtime; conditions have its own reasons.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from api_server import NAMESPACE, PODS, ApiServer, Object

from avskrift.deployment.nodes import Pace
from avskrift.deployment.trainjob import render
from avskrift.steps.train_on_nodes.step import Config, Result, run, train_job

JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
PACE = Pace(timeout_s=5.0, look_s=0.005, say_s=0.5, settle_s=0.03)
_CRDS = Path(__file__).parents[3] / "shared" / "crds"


def container(phase: str, **state: Object) -> Object:
    """A pod's status, as a kubelet reports its one container."""
    return {"phase": phase, "containerStatuses": [{"name": "node", "state": state}]}


def terminated(code: int, message: str = "", reason: str = "Error") -> Object:
    return container("Failed", terminated={"exitCode": code, "reason": reason, "message": message})


def condition(kind: str, reason: str, message: str = "") -> Object:
    return {"type": kind, "status": "True", "reason": reason, "message": message}


COMPLETE = condition("Complete", "AllJobsCompleted", "jobset completed successfully")
FAILED = condition("Failed", "FailedJobs", "jobset failed due to one or more job failures")
IMAGE = container("Pending", waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling image x"})
_CROWDED = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
NO_NODE = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": _CROWDED}]}
RUNNING = container("Running", running={})


@dataclass
class Trainer:
    """Kubeflow Trainer, as far as the step looks at it: a job's pods are ``pods`` and its conditions ``ends`` from the third look on."""

    server: ApiServer
    kubeconfig: Path
    ends: Object = field(default_factory=lambda: COMPLETE)
    pods: list[Object] = field(default_factory=lambda: [RUNNING, RUNNING])
    keeps_pods: bool = True
    looks: dict[str, int] = field(default_factory=dict)

    def config(self, **changes: Any) -> Config:
        given = Config(
            dataset_uri="s3://data/sv",
            base_model="openai/whisper-small",
            output="s3://models/runs",
            image="registry.example/avskrift/train@sha256:1",
            run_id="run-1",
            kubeconfig=str(self.kubeconfig),
        )
        return replace(given, **changes)

    def run(self, *, pace: Pace = PACE, **changes: Any) -> Result:
        return run(self.config(**changes), pace=pace)

    @property
    def name(self) -> str:
        return train_job(self.config(), namespace=NAMESPACE).name

    def job(self, name: str = "") -> Object:
        return self.server.objects[f"{JOBS}/{name or self.name}"]

    def suspended(self, name: str = "") -> bool:
        return bool(self.job(name)["spec"].get("suspend"))

    def reconcile(self, path: str) -> None:
        if not path.startswith(JOBS) or path not in self.server.objects:
            return
        name = path.rpartition("/")[2]
        live = self.server.objects[path]
        for pod in [where for where in self.server.objects if where.startswith(f"{PODS}/{name}-node-")]:
            del self.server.objects[pod]
        if self.suspended(name):
            self.looks[name] = 0
            live["status"] = {"conditions": [condition("Suspended", "Suspended", "TrainJob is suspended")]}
            return
        look = self.looks[name] = self.looks.get(name, 0) + 1
        ended = look > 2 and bool(self.ends)
        live["status"] = {"conditions": [self.ends] if ended else []}
        for number, status in enumerate(self.pods if look > 1 and not (ended and not self.keeps_pods) else []):
            metadata = {"name": f"{name}-node-0-{number}", "namespace": NAMESPACE, "labels": _pod_labels(live)}
            self.server.objects[f"{PODS}/{metadata['name']}"] = {"metadata": metadata, "status": status}

    def put_by_hand(self, **spec: Any) -> None:
        """The job as it was applied by somebody else, with these fields of its specification."""
        manifest = render(train_job(self.config(), namespace=NAMESPACE))
        self.server.objects[f"{JOBS}/{self.name}"] = {**manifest, "spec": manifest["spec"] | spec, "status": {}}

    def methods(self) -> list[str]:
        return [method for method, path, _ in self.server.asked if path.startswith(JOBS)]


def _pod_labels(live: Object) -> Object:
    (patch,) = live["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    labels: Object = job["template"]["spec"]["template"]["metadata"]["labels"]
    return labels


def schema() -> Object | None:
    """Kubeflow Trainer's published CRD, where it is at hand."""
    path = Path(os.environ.get("AVSKRIFT_CRDS") or _CRDS) / "trainer.kubeflow.org_trainjobs.yaml"
    if not path.is_file():
        return None
    crd = next(found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found)
    structural: Object = next(entry for entry in crd["spec"]["versions"] if entry["name"] == "v1alpha1")["schema"]["openAPIV3Schema"]
    return structural
