"""train_on_nodes: fine_tune on several nodes of the cluster, as a TrainJob of Kubeflow Trainer that this step starts and follows."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avskrift.deployment.cluster import connect
from avskrift.deployment.nodes import Pace, train
from avskrift.deployment.trainjob import TrainJob
from avskrift.errors import AvskriftError, UsageError
from avskrift.logs import Log
from avskrift.registry.location import TRACKING_VARIABLE, public_uri
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey
from avskrift.steps.boundary import RUN_ID_VARIABLE
from avskrift.steps.fine_tune.places import as_s3
from avskrift.training.config import TrainingConfig

_HOUR = 3600
_ID_CHARACTERS = 12  # of the run id's digest: the name of a TrainJob begins the names of its pods, which are short
_log = Log("train_on_nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``dataset_uri`` and ``base_model`` are where every node fetches them from; ``output`` is ``s3://BUCKET/PREFIX`` (or Kubeflow's
    ``minio://``), below which the run has a folder of its own.

    ``gpus`` are those of one node, "0" for training on its CPUs. Checkpoints go to ``checkpoints``, by default below ``output``. An
    empty ``run_id`` means what ``KFP_RUN_ID`` says, an empty ``tracking_uri`` what ``MLFLOW_TRACKING_URI`` says here or on the nodes,
    an empty ``namespace`` the step's own. The rest is as in :class:`avskrift.deployment.trainjob.TrainJob`.
    """

    dataset_uri: str
    base_model: str
    output: str
    image: str
    training: TrainingConfig = field(default_factory=TrainingConfig)
    checkpoints: str = ""
    experiment: str = ""
    tracking_uri: str = ""
    run_id: str = ""
    nodes: int = 2
    gpus: str = "1"
    gpu_type: str = "nvidia.com/gpu"
    cpu: str = "8"
    memory: str = "40Gi"
    scratch: str = "100Gi"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    service_account: str = ""
    store_secret: str = ""
    hub_secret: str = ""
    mlflow_secret: str = ""
    hours: float = 168.0
    namespace: str = ""
    context: str = ""
    kubeconfig: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Where the model and its report are: what fine_tune calls ``out`` and ``report``."""

    model_uri: str
    training_uri: str
    train_job: str


def run(config: Config, *, pace: Pace | None = None) -> Result:
    """Train on the nodes and wait for them. The same run started again goes on waiting for its own TrainJob.

    Raises:
        UsageError: something that cannot be, or a cluster whose Kubeflow Trainer is too old.
        ClusterError: the Kubernetes API did not answer, refused, or knows no TrainJob.
        ConflictError: somebody else changed the TrainJob.
        InterruptedRunError: stopped; the TrainJob is suspended.
        TrainingError: a node cannot start or was killed for memory, or the time is over.
        AvskriftError: whatever fine_tune ended with on the first node to fail.
    """
    result = _result(config)
    cluster = connect(context=config.context, namespace=config.namespace, kubeconfig=config.kubeconfig)
    job = train_job(config, namespace=cluster.namespace)
    job = dataclasses.replace(job, mlflow_run=_record(config))
    name = train(cluster, job, pace or Pace(timeout_s=config.hours * _HOUR))
    return dataclasses.replace(result, train_job=name)


def train_job(config: Config, *, namespace: str) -> TrainJob:
    """The TrainJob of a run.

    Raises:
        UsageError: no run id, no number of GPUs, or a place that the nodes cannot reach.
    """
    run_id = _run_id(config)
    gpus = _count(config.gpus)
    return TrainJob(
        name=f"avskrift-train-{hashlib.sha256(run_id.encode()).hexdigest()[:_ID_CHARACTERS]}",
        namespace=namespace,
        image=config.image,
        run_id=run_id,
        job=_job(config, _result(config)),
        nodes=config.nodes,
        processes=max(1, gpus),
        gpu_type=config.gpu_type if gpus else "",
        cpu=config.cpu,
        memory=config.memory,
        scratch=config.scratch,
        node_selector=config.node_selector,
        tolerations=config.tolerations,
        service_account=config.service_account,
        store_secret=config.store_secret,
        hub_secret=config.hub_secret,
        mlflow_secret=config.mlflow_secret,
        timeout_s=round(config.hours * _HOUR),
    )


def _record(config: Config) -> str:
    """The id of the pipeline run's record in MLflow, for the nodes to write into; "" where MLflow is away or not known here.

    KFP's MLflow plugin tells of the run in the environment of this step, and of no pod of the nodes'. Without that they would be the
    first to look for it, find none, and make another.
    """
    if not (config.tracking_uri or os.environ.get(TRACKING_VARIABLE)):
        return ""
    try:
        return open_registry(config.tracking_uri).open_run(RunKey(pipeline_run_id=_run_id(config), experiment=config.experiment))
    except AvskriftError as error:  # training itself goes on without MLflow too
        _log.warning("mlflow_run.not_known", reason=str(error))
        return ""


def _job(config: Config, result: Result) -> dict[str, Any]:
    """What fine_tune's own ``Config`` is made of, on the nodes."""
    options = dataclasses.fields(TrainingConfig)
    chosen = {option.name: getattr(config.training, option.name) for option in options}
    return {
        "dataset": _reachable("dataset", config.dataset_uri),
        "base_model": config.base_model,
        "out": result.model_uri,
        "report": result.training_uri,
        "checkpoints": as_s3(config.checkpoints or f"{_place(config)}/checkpoints"),
        "experiment": config.experiment,
        "tracking_uri": _tracking_uri(config),
        "training": {option.name: chosen[option.name] for option in options if chosen[option.name] != option.default},
    }


def _tracking_uri(config: Config) -> str:
    """Where the nodes find MLflow; "" where they take the address from their Secret. Everybody who may look at the job can read it."""
    own = config.tracking_uri or os.environ.get(TRACKING_VARIABLE, "")
    holds_credentials = not config.tracking_uri and public_uri(own) != own
    return "" if holds_credentials and config.mlflow_secret else own


def _result(config: Config) -> Result:
    place = _place(config)
    return Result(model_uri=f"{place}/model", training_uri=f"{place}/training", train_job="")


def _place(config: Config) -> str:
    """The run's own folder in the store."""
    output = config.output.rstrip("/")
    if not as_s3(output).removeprefix("s3://") or not as_s3(output).startswith("s3://"):
        raise UsageError(f"output is {config.output!r}, and the nodes share an object store alone; give s3://BUCKET/PREFIX")
    return f"{output}/{_run_id(config)}"


def _reachable(what: str, uri: str) -> str:
    if not as_s3(uri).startswith("s3://"):
        raise UsageError(f"the {what} {uri!r} is not where every node can read it; it must be an s3:// or minio:// address")
    return uri


def _run_id(config: Config) -> str:
    run_id = config.run_id or os.environ.get(RUN_ID_VARIABLE, "")
    if not run_id:
        raise UsageError(f"the pipeline run's id is not known; give run_id, or set {RUN_ID_VARIABLE}")
    return run_id


def _count(gpus: str) -> int:
    if not gpus.isdecimal():
        raise UsageError(f"gpus is {gpus!r}; give a whole number, 0 to train on CPUs")
    return int(gpus)
