"""Where a task runs on a cluster: whose pod it is, what it may use, how long, and how often it is tried.

All of it is for Kubernetes; kfp.local ignores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_channel import PipelineChannel
from kfp.dsl.pipeline_task import PipelineTask

from avskrift.steps.boundary import RUN_ID_VARIABLE
from avskrift.steps.images import Role
from avskrift_pipelines.form import Given

ROLE_LABEL = "avskrift/role"  # by which the chart's network policies know a step
_RUN_ID_FIELD = "metadata.labels['pipeline/runid']"  # Kubeflow labels every pod of a run so
_GPU_NODE_RETRIES = 3
_SHARED_MEMORY = "8Gi"
_HOUR = 3600
_DAY = 24 * _HOUR

Kind = Literal["store", "hub", "mlflow"]
# The form's field that names the Secret, and its keys, which are the variables that the libraries read.
_SECRETS: Mapping[Kind, tuple[str, tuple[str, ...]]] = {
    "store": ("store_secret", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")),
    "hub": ("hub_secret", ("HF_TOKEN", "MDC_API_KEY")),
    "mlflow": (
        "mlflow_secret",
        (
            "MLFLOW_TRACKING_URI",
            "MLFLOW_TRACKING_USERNAME",
            "MLFLOW_TRACKING_PASSWORD",
            "MLFLOW_TRACKING_TOKEN",
            "AVSKRIFT_PIPELINES_URL",  # no secrets, but what the same steps must know of the same place
            "AVSKRIFT_PACKAGE_STORE",
        ),
    ),
}

# Of a whole run. The workspace keeps checkpoints while a pod is replaced, and goes with the run. One pod at a time writes to it;
# Kubeflow refuses one that does not say who may.
CONFIG = dsl.PipelineConfig(
    workspace=dsl.WorkspaceConfig(size="50Gi", kubernetes=dsl.KubernetesWorkspaceConfig({"accessModes": ["ReadWriteOnce"]})),
    ttl_seconds_after_finished=7 * _DAY,  # of the workflow in the cluster; Kubeflow's own record of the run stays
)
CONFIG_WITHOUT_WORKSPACE = dsl.PipelineConfig(ttl_seconds_after_finished=7 * _DAY)


def place(task: PipelineTask, role: Role, *, cpu: str = "1", memory: str = "2Gi", hours: float = 1, retries: int = 2) -> PipelineTask:
    """Put ``task`` where tasks of its role run. ``cpu`` and ``memory`` are limits; after ``hours`` a try is ended.

    A node that goes away, or a server that does not answer, costs a new try after half a minute, then a minute, and so on.
    """
    kubernetes.add_pod_label(task, ROLE_LABEL, role)
    kubernetes.set_timeout(task, int(hours * _HOUR))
    task.set_cpu_limit(cpu).set_memory_limit(memory)
    if retries:
        task.set_retry(num_retries=retries, backoff_duration="30s", backoff_factor=2)
    return task


def place_on_gpus(task: PipelineTask, given: Given, *, days: float = 7) -> PipelineTask:
    """Put a training task on GPUs, as the run's form says (:data:`avskrift_pipelines.parameters.NODE`)."""
    place(with_keys(task, given, "store", "hub", "mlflow"), "train", hours=24 * days, retries=_GPU_NODE_RETRIES)
    task.set_accelerator_type(given.gpu_type).set_accelerator_limit(given.gpus)
    task.set_cpu_limit(given.train_cpu).set_memory_limit(given.train_memory)
    kubernetes.add_node_selector_json(task, given.node_selector)
    kubernetes.add_toleration_json(task, given.tolerations)
    # Workers hand batches over in shared memory, of which a pod has 64 MB by itself. What is in it counts as the pod's memory.
    kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=_SHARED_MEMORY)
    knowing_its_run(task)
    _hand_on(task, given.gpu_type, given.gpus, given.train_cpu, given.train_memory)
    return task


def knowing_its_run(task: PipelineTask) -> PipelineTask:
    """A task that knows the run's id, but not as an argument: it would be another one each time, and nothing ever taken from the cache."""
    kubernetes.use_field_path_as_env(task, env_name=RUN_ID_VARIABLE, field_path=_RUN_ID_FIELD)
    return task


def with_keys(task: PipelineTask, given: Given, *kinds: Kind) -> PipelineTask:
    """A task that needs credentials of these kinds. A Secret or a key in it that is not there is no error: not every store asks for one.

    No other task gets them.
    """
    for kind in kinds:
        name, variables = _SECRETS[kind]
        kubernetes.use_secret_as_env(task, getattr(given, name), {variable: variable for variable in variables}, optional=True)
    return task


def acting(task: PipelineTask) -> PipelineTask:
    """A task that acts on the world outside, or asks it, must do so again in a new run, however alike its inputs are."""
    return task.set_caching_options(enable_caching=False)


def _hand_on(task: PipelineTask, *channels: PipelineChannel) -> None:
    """kfp's compiler lets into the groups around a task what its arguments need, and forgets what its resources need."""
    task.channel_inputs.extend(channels)
