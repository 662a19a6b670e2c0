"""A training on several nodes as a TrainJob of Kubeflow Trainer (v1alpha1), as a value: nothing here speaks to a cluster.

Trainer's runtime ``torch-distributed`` has one job and one container, both called ``node``, and tells torchrun of the other nodes
by ``PET_*`` variables. What the runtime does not say of a pod is patched, and only what the API lets a job patch.

Source: Kubeflow Trainer, ``trainer.kubeflow.org_trainjobs.yaml`` and ``torch_distributed.yaml``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avskrift.errors import UsageError

RUN_LABEL = "avskrift/run"  # the pipeline run that asked for it
JOB_LABEL = "avskrift/train-job"  # on the pods of a job: its name
JOB_VARIABLE = "AVSKRIFT_JOB"  # what avskrift.steps.fine_tune.node reads its job from
NODE_COMMAND = ("python", "-m", "avskrift.steps.fine_tune.node")
# What pods take from a Secret, by whose it is. A Secret or a key that is not there is no error: not every place asks for one.
STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")
HUB_KEYS = ("HF_TOKEN",)
MLFLOW_KEYS = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_NODE = "node"  # what torch-distributed calls its job and its container
_MANAGER = "avskrift/train-on-nodes"
_USER = 65532  # whose the training image is
_GRACE_SECONDS = 120  # between SIGTERM and SIGKILL: the step in hand, and a checkpoint
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_RESOURCE = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LONGEST_NAME = 40  # pods are called NAME-node-0-INDEX-SUFFIX, in 63 characters
_LARGEST_JOB = 100_000  # bytes; Linux takes 128 KiB in one variable
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_BYTES = re.compile(rf"(?P<number>\d+(\.\d+)?)(?P<unit>{'|'.join(sorted(_UNITS, reverse=True))})")
_CPU = re.compile(r"\d+(\.\d+)?|\d+m")
_TOLERATION_FIELDS = {"key", "operator", "value", "effect", "tolerationSeconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """What to train, where, and with what.

    ``job`` is the configuration of the step fine_tune as JSON values. Each of ``nodes`` runs ``processes``, one on each GPU; without
    a ``gpu_type`` they train on its CPUs. ``cpu``, ``memory``, ``shared_memory`` (a part of the memory) and ``scratch`` (disk for the
    dataset, the model and what is compiled) are of one node. ``store_secret``, ``hub_secret`` and ``mlflow_secret`` are Secrets of the
    namespace, "" for none, with the keys above. ``mlflow_run`` is the id of the run in MLflow that the nodes record into; without one
    they look for it by ``run_id``. ``timeout_s`` is after how many seconds Kubernetes ends it by itself.
    """

    name: str
    namespace: str
    image: str
    run_id: str
    job: Mapping[str, Any]
    nodes: int = 2
    processes: int = 1
    gpu_type: str = "nvidia.com/gpu"
    cpu: str = "8"
    memory: str = "40Gi"
    shared_memory: str = "8Gi"
    scratch: str = "100Gi"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    service_account: str = ""
    store_secret: str = ""
    hub_secret: str = ""
    mlflow_secret: str = ""
    mlflow_run: str = ""
    runtime: str = "torch-distributed"
    timeout_s: int = 7 * 24 * 3600


def render(job: TrainJob) -> dict[str, Any]:
    """The TrainJob as plain values.

    Raises:
        UsageError: a name, an amount or a number that cannot be; names it.
    """
    _check(job)
    identity = _labels(job)
    # A mesh's sidecar would outlive the training, so that its pod never ended, and stand between the processes.
    pod_labels = identity | {JOB_LABEL: job.name, "avskrift/role": "train", "sidecar.istio.io/inject": "false"}
    patch = {
        "metadata": {"labels": pod_labels},
        "spec": _pod(job),
    }
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": job.name, "namespace": job.namespace, "labels": identity},
        "spec": {
            "runtimeRef": {"name": job.runtime},
            "activeDeadlineSeconds": job.timeout_s,
            "trainer": {
                "image": job.image,
                "numNodes": job.nodes,
                "numProcPerNode": job.processes,
                "command": list(NODE_COMMAND),
                "env": _environment(job),
                "resourcesPerNode": _resources(job),
            },
            "runtimePatches": [
                {
                    "manager": _MANAGER,
                    "trainingRuntimeSpec": {
                        "template": {"spec": {"replicatedJobs": [{"name": _NODE, "template": {"spec": {"template": patch}}}]}}
                    },
                }
            ],
        },
    }


def _labels(job: TrainJob) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "avskrift",
        "app.kubernetes.io/part-of": "avskrift",
        "app.kubernetes.io/component": "training",
        "app.kubernetes.io/managed-by": "avskrift",
        RUN_LABEL: job.run_id,
    }


def _environment(job: TrainJob) -> list[dict[str, Any]]:
    said = {
        # Kubernetes puts other variables where it finds $(NAME); of two dollars it leaves one.
        JOB_VARIABLE: json.dumps(job.job, sort_keys=True, ensure_ascii=False).replace("$", "$$"),
        "AVSKRIFT_HOME": "/tmp/avskrift",
        "AVSKRIFT_LOG_FORMAT": "json",
        "KFP_RUN_ID": job.run_id,  # whose figures in MLflow these are
        **_record(job),
    }
    secrets = ((job.store_secret, STORE_KEYS), (job.hub_secret, HUB_KEYS), (job.mlflow_secret, MLFLOW_KEYS))
    kept = [_from_secret(secret, key) for secret, keys in secrets for key in keys if secret and key not in said]
    return [{"name": name, "value": value} for name, value in said.items()] + kept


def _record(job: TrainJob) -> dict[str, str]:
    """MLflow's run, in the variables of KFP's plugin. It is a run of the server that the job names, if it names one."""
    server = {"MLFLOW_TRACKING_URI": str(job.job["tracking_uri"])} if job.job.get("tracking_uri") else {}
    return {"MLFLOW_RUN_ID": job.mlflow_run, **server} if job.mlflow_run else {}


def _from_secret(secret: str, key: str) -> dict[str, Any]:
    return {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}


def _resources(job: TrainJob) -> dict[str, dict[str, str]]:
    amounts = {"cpu": job.cpu, "memory": job.memory}
    if job.gpu_type:
        amounts[job.gpu_type] = str(job.processes)
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _pod(job: TrainJob) -> dict[str, Any]:
    account = {"serviceAccountName": job.service_account} if job.service_account else {}
    return {
        **account,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "seccompProfile": {"type": "RuntimeDefault"}},
        "nodeSelector": dict(job.node_selector),
        "tolerations": [dict(toleration) for toleration in job.tolerations],
        "volumes": [
            # The root file system is read-only: everything that is fetched, compiled and written before it is uploaded lies here.
            {"name": "tmp", "emptyDir": {"sizeLimit": job.scratch}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": job.shared_memory}},
        ],
        "containers": [
            {
                "name": _NODE,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "runAsNonRoot": True,
                    "runAsUser": _USER,
                    "capabilities": {"drop": ["ALL"]},
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}],
            }
        ],
    }


def _check(job: TrainJob) -> None:
    _check_names(job)
    for what, number in (("nodes", job.nodes), ("processes of a node", job.processes), ("seconds until it is ended", job.timeout_s)):
        if number < 1:
            raise UsageError(f"{number} {what} cannot be; use 1 or more")
    if not _CPU.fullmatch(job.cpu):
        raise UsageError(f"the CPUs {job.cpu!r} are no amount that Kubernetes takes; use 8 or 500m")
    memory, shared = _bytes("memory", job.memory), _bytes("shared memory", job.shared_memory)
    _bytes("scratch disk", job.scratch)
    if shared >= memory:
        raise UsageError(f"shared memory of {job.shared_memory} counts as memory, of which a node has {job.memory}; give it more")
    size = len(json.dumps(job.job, ensure_ascii=False).encode())
    if size > _LARGEST_JOB:
        raise UsageError(f"the job's configuration has {size} bytes, and a variable takes {_LARGEST_JOB}; shorten training_options")


def _check_names(job: TrainJob) -> None:
    if not _DNS_LABEL.fullmatch(job.name) or len(job.name) > _LONGEST_NAME:
        raise UsageError(f"the TrainJob's name {job.name!r} cannot be; use at most {_LONGEST_NAME} lower-case letters, digits and -")
    if not _DNS_LABEL.fullmatch(job.namespace):
        raise UsageError(f"the namespace {job.namespace!r} is not one that Kubernetes takes; use lower-case letters, digits and -")
    secrets = {"store's Secret": job.store_secret, "hub's Secret": job.hub_secret, "Secret for MLflow": job.mlflow_secret}
    for what, name in {"service account": job.service_account, "training runtime": job.runtime, **secrets}.items():
        if name and not _NAME.fullmatch(name):
            raise UsageError(f"the {what} {name!r} is not a name that Kubernetes takes; use lower-case letters, digits, - and .")
    if not job.image or not job.runtime:
        raise UsageError("a TrainJob needs an image and a training runtime; give both")
    if not job.run_id or not _LABEL_VALUE.fullmatch(job.run_id):
        raise UsageError(f"the run id {job.run_id!r} is no value of a label; give the id of the pipeline's run")
    _check_place(job)


def _check_place(job: TrainJob) -> None:
    if job.gpu_type and not _RESOURCE.fullmatch(job.gpu_type):
        raise UsageError(f"the GPU type {job.gpu_type!r} is no resource of a node; use a name like nvidia.com/gpu, or none for CPUs")
    for label, value in job.node_selector.items():
        if not _RESOURCE.fullmatch(label) or not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            raise UsageError(f"the node selector {label}: {value!r} is no label of a node; give names and texts")
    for toleration in job.tolerations:
        if set(toleration) - _TOLERATION_FIELDS:
            raise UsageError(f"the toleration {dict(toleration)} has fields that are none; use {', '.join(sorted(_TOLERATION_FIELDS))}")


def _bytes(what: str, amount: str) -> float:
    match = _BYTES.fullmatch(amount)
    if not match:
        raise UsageError(f"the {what} {amount!r} is no amount that Kubernetes takes; use 40Gi or 512Mi")
    return float(match["number"]) * _UNITS[match["unit"]]
