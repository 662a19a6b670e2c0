"""The fields of the pipelines' forms, in the groups that they come in."""

from __future__ import annotations

import dataclasses
from typing import Any

from avskrift.evaluation.check_names import CHECKS
from avskrift.evaluation.policy import Policy
from avskrift.training.config import TrainingConfig
from avskrift_pipelines.form import Group, Parameter, group


def _options(configuration: type[Any], *names: str) -> Group:
    """Fields of a configuration that has its own defaults and help: all of them, or those named."""
    fields = {field.name: field for field in dataclasses.fields(configuration)}
    chosen = [fields[name] for name in names] if names else list(fields.values())
    return tuple(Parameter(name=field.name, default=field.default, help=_sentence(field.metadata["help"])) for field in chosen)


def _worded(parameters: Group, **sentences: str) -> Group:
    """The same parameters, of which some are described otherwise."""
    return tuple(dataclasses.replace(one, help=sentences.get(one.name, one.help)) for one in parameters)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


RECORDINGS = group(
    Parameter(
        name="source",
        default="demo:",
        help='Where the recordings are: demo:, commonvoice:, hf://, parquet:, a folder or a manifest; several are joined by " + ".',
    ),
    Parameter(name="language", default="sv", help="A Whisper language code; the recordings' language."),
    Parameter(name="validated_remainder", default=False, help="Of Common Voice, train on the validated clips that are in no split too."),
    Parameter(name="exclude", default="", help="A dataset whose validation and test are kept out of training; empty for none."),
    Parameter(name="on_missing", default="fail", help="What to do about a recording without transcript or the reverse: fail or skip."),
    Parameter(
        name="on_overlap",
        default="fail",
        help="What to do where named splits share speakers or sentences: fail, or hold-back the clips.",
    ),
    Parameter(name="max_rejected", default=0.05, help="The share of clips that may be refused before the run fails."),
    Parameter(name="max_clips", default=0, help="Use only so many clips; 0 for all."),
    Parameter(name="prepare_parts", default=1, help="Read the recordings in so many parts, each on a node of its own."),
)

REFRESH = Parameter(
    name="refresh",
    default="",
    help="Any text. Change it where the recordings have changed although they are named alike; Kubeflow reads them again.",
)

BASE_MODEL = Parameter(
    name="base_model",
    default="openai/whisper-small",
    help="The model to start from: hub id, folder, s3://, models:/ or package: URI.",
)
# The options that people turn most; every other one goes into training_options.
_TURNED = ("epochs", "max_steps", "learning_rate", "batch_seconds", "packed_share", "checkpoint_minutes", "seed")
TRAINING: Group = _options(TrainingConfig, *_TURNED) + group(
    Parameter(
        name="training_options",
        default={},
        kind=dict[str, Any],
        help='Any other training option by name, as {"lora_rank": 16}; docs/training.md has the table.',
    ),
    Parameter(
        name="checkpoints",
        default="",
        help="s3://BUCKET/PREFIX for checkpoints, or a folder of this machine; empty for the run's own workspace, which goes with the run.",
    ),
)

GPUS = Parameter(
    name="gpus",
    default="1",  # text: KFP's driver reads no resource from a number, and would ask for no GPU
    help="GPUs of the training step, all of one node, as text; one process trains on each.",
)
NODE = group(
    GPUS,
    Parameter(name="gpu_type", default="nvidia.com/gpu", help="The resource that a GPU is called by on the nodes."),
    Parameter(
        name="node_selector",
        default={},
        kind=dict[str, str],
        help='Labels that the training step\'s node must have, as {"gpu-model": "h100"}; {} for any node with such GPUs.',
    ),
    Parameter(
        name="tolerations",
        default=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        kind=list[dict[str, str]],
        help="Taints of nodes that the training step tolerates, as Kubernetes writes them.",
    ),
    Parameter(name="train_cpu", default="8", help="CPUs of the training step, as text."),
    Parameter(name="train_memory", default="40Gi", help="Memory of the training step; 8Gi of it may be used to hand batches to the GPUs."),
)

# Of training on several nodes; docs/training.md says what they share.
NODES = group(
    Parameter(name="nodes", default=2, help="Nodes that train together."),
    *_worded(
        NODE,
        gpus="GPUs of each node, as text; one process trains on each, and on the node's CPUs where it is 0.",
        node_selector='Labels that the nodes must have, as {"gpu-model": "h100"}; {} for any nodes with such GPUs.',
        tolerations="Taints of nodes that training tolerates, as Kubernetes writes them.",
        train_cpu="CPUs of each node, as text.",
        train_memory="Memory of each node; 8Gi of it may be used to hand batches to the GPUs.",
    ),
    Parameter(name="train_scratch", default="100Gi", help="Disk of each node for the dataset, the model and what is compiled."),
    Parameter(name="train_hours", default=168.0, help="After so many hours training is ended."),
    Parameter(
        name="train_service_account",
        default="",
        help="The account that the nodes' pods run as, as avskrift-train; empty for the namespace's default.",
    ),
)
TRAINING_OF_TRIALS = _worded(
    TRAINING, checkpoints="s3://BUCKET/PREFIX for checkpoints; empty to begin a trial anew whose pod was replaced."
)
TRAINING_ON_NODES = _worded(TRAINING, checkpoints="s3://BUCKET/PREFIX for checkpoints; empty for a place below output.")
OUTPUT = Parameter(
    name="output",
    default="minio://mlpipeline/avskrift",
    help="s3://BUCKET/PREFIX (or minio://, as Kubeflow calls its own) below which nodes put checkpoints, model and report.",
)

BASELINE = Parameter(
    name="baseline",
    default="",
    help="The model to beat, by any model URI; empty for the one that serves today, or the base model where none does.",
)
MEASURING = group(
    BASELINE,
    Parameter(
        name="checks",
        default=",".join(CHECKS),
        help="What to measure beside the error rates: hallucination, long-form, short-context, latency; with commas between.",
    ),
    Parameter(
        name="retention_dataset",
        default="",
        help="A second dataset, on which the model is compared with the base model; empty for none.",
    ),
)


# docs/gate.md explains the bounds.
GATE: Group = _options(Policy) + group(
    Parameter(
        name="override_by",
        default="",
        help="Who promotes the model although a bound is not kept; empty for nobody. It is recorded in MLflow.",
    ),
    Parameter(name="override_reason", default="", help="Why; recorded with who."),
)

EXPERIMENT = Parameter(name="experiment", default="avskrift", help="MLflow experiment of the run.")
MODEL_NAME = Parameter(name="model_name", default="avskrift-sv", help="Name of the registered model.")
TRACKING = Parameter(name="tracking_uri", default="", help="MLflow's address; empty for MLFLOW_TRACKING_URI of the step.")
REGISTRY = group(EXPERIMENT, MODEL_NAME, TRACKING)

STORE_SECRET = Parameter(
    name="store_secret",
    default="avskrift-object-store",
    help="Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL, for steps that use s3://; it may be missing.",
)
SECRETS = group(
    STORE_SECRET,
    Parameter(
        name="hub_secret",
        default="avskrift-hub",
        help="Secret with HF_TOKEN and MDC_API_KEY, for steps that read from Hugging Face or Mozilla Data Collective; it may be missing.",
    ),
    Parameter(
        name="mlflow_secret",
        default="avskrift-mlflow",
        help="Secret with MLFLOW_TRACKING_URI, _USERNAME, _PASSWORD or _TOKEN, for steps that speak to MLflow; it may be missing.",
    ),
)

DEPLOYMENT = group(
    Parameter(
        name="deploy_target",
        default="kserve",
        help="kserve applies the InferenceService; manifest only writes it, for GitOps; local starts a server on this machine.",
    ),
    Parameter(name="service_name", default="avskrift", help="Name of the InferenceService, and of the model in the endpoint's URLs."),
    Parameter(name="namespace", default="default", help="Namespace of the InferenceService."),
    Parameter(name="port", default=8085, help="Port of a local endpoint."),
    Parameter(name="endpoint_cpu", default="2", help="CPUs of a predictor."),
    Parameter(name="endpoint_memory", default="4Gi", help="Memory of a predictor."),
    Parameter(name="endpoint_gpus", default=0, help="GPUs of a predictor."),
    Parameter(name="min_replicas", default=1, help="The fewest predictors."),
    Parameter(name="max_replicas", default=1, help="The most predictors."),
    Parameter(
        name="service_account",
        default="",
        help="The predictors' ServiceAccount, whose Secret reads the package's store; empty for the namespace's default.",
    ),
    Parameter(name="deployment_mode", default="standard", help="KServe's deployment mode: standard or knative."),
    Parameter(name="autoscaler", default="", help="KServe's autoscaler class, as external where the chart scales; empty for KServe's own."),
    Parameter(
        name="canary",
        default="10,50,100",
        help="Percents of the traffic that the new version gets, stage by stage; none replaces the version before at once.",
    ),
    Parameter(name="watch_seconds", default=60.0, help="How long each stage is watched."),
    Parameter(name="max_error_rate", default=0.02, help="The share of failed answers above which the version before comes back."),
    Parameter(name="max_latency_ratio", default=2.0, help="How many times the latency of the version before is too slow."),
    Parameter(
        name="service_url",
        default="",
        help="Where deploy reaches the service, if the URL that KServe gives it does not resolve in the cluster; empty for KServe's.",
    ),
    Parameter(name="ready_timeout_seconds", default=0.0, help="What each wait for the service may take; 0 for 900, or 180 for local."),
    Parameter(name="overwrite_drift", default=False, help="Overwrite what somebody else changed on the InferenceService."),
    Parameter(name="grpc", default=False, help="Offer gRPC on port 8081 too; in standard mode alone."),
)
