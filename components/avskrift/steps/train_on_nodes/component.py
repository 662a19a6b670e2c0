"""The KFP face of train_on_nodes."""

from typing import Any, NamedTuple

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("ops"), packages_to_install=[], install_kfp_package=False)
def train_on_nodes(
    dataset_uri: str,
    output: str,
    train_image: str,
    base_model: str = "openai/whisper-small",
    epochs: int = 3,
    max_steps: int = 0,
    learning_rate: float = 0.0,
    batch_seconds: float = 0.0,
    packed_share: float = 0.5,
    checkpoint_minutes: float = 2.0,
    seed: int = 1,
    options: dict[str, Any] = {},  # noqa: B006 - KFP takes no other default, and nothing changes it
    checkpoints: str = "",
    nodes: int = 2,
    gpus: str = "1",
    gpu_type: str = "nvidia.com/gpu",
    node_selector: dict[str, str] = {},  # noqa: B006
    tolerations: list[dict[str, str]] = [],  # noqa: B006
    train_cpu: str = "8",
    train_memory: str = "40Gi",
    train_scratch: str = "100Gi",
    train_hours: float = 168.0,
    train_service_account: str = "",
    store_secret: str = "",
    hub_secret: str = "",
    mlflow_secret: str = "",
    experiment: str = "avskrift",
    tracking_uri: str = "",
) -> NamedTuple("Trained", [("model_uri", str), ("training_uri", str)]):
    """Fine-tune on several nodes of the cluster: starts a TrainJob of Kubeflow Trainer and follows it to its end.

    Args:
        dataset_uri: Where the dataset lies, as s3:// or minio://; every node fetches it.
        output: s3://BUCKET/PREFIX below which the run's model, report and checkpoints are put.
        train_image: The image that trains.
        base_model: Hub id, s3://, models:/ or package: URI of the model to start from.
        epochs: Passes over the train split.
        max_steps: Stop after so many optimizer steps; 0 for all epochs.
        learning_rate: Peak learning rate; 0 for the one that suits the model's size.
        batch_seconds: Seconds of audio in an optimizer step, padding included, over all nodes; 0 for what suits the data.
        packed_share: Share of clips trained inside windows of several clips with timestamps.
        checkpoint_minutes: Minutes between checkpoints, from which a stopped run goes on.
        seed: Decides order, batches and augmentation.
        options: Any training option by name (docs/training.md has the table); it wins over the parameters above.
        checkpoints: s3://BUCKET/PREFIX for checkpoints; empty for a place below output.
        nodes: Nodes that train together.
        gpus: GPUs of each node, one process on each; 0 for its CPUs.
        gpu_type: The resource that a GPU is called by on the nodes.
        node_selector: Labels that the nodes must have.
        tolerations: Taints of nodes that are tolerated.
        train_cpu: CPUs of each node.
        train_memory: Memory of each node.
        train_scratch: Disk of each node for the dataset, the model and what is compiled.
        train_hours: After so many hours training is ended.
        train_service_account: The account that the nodes' pods run as; empty for the namespace's default.
        store_secret: The Secret that the nodes take AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL from; empty for none.
        hub_secret: The Secret that the nodes take HF_TOKEN from; empty for none.
        mlflow_secret: The Secret that the nodes take MLFLOW_TRACKING_URI, _USERNAME, _PASSWORD and _TOKEN from; empty for none.
        experiment: The MLflow experiment that figures go to while it trains, to the run of KFP_RUN_ID.
        tracking_uri: MLflow's address; empty means MLFLOW_TRACKING_URI, of the step or of the nodes.

    Returns:
        Where the model and what fine_tune reports of it lie.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.train_on_nodes.step import Config, run
    from avskrift.training.config import TrainingConfig, parse_options

    with boundary("train_on_nodes"):
        main = {
            "epochs": epochs,
            "max_steps": max_steps,
            "learning_rate": learning_rate,
            "batch_seconds": batch_seconds,
            "packed_share": packed_share,
            "checkpoint_minutes": checkpoint_minutes,
            "seed": seed,
        }
        result = run(
            Config(
                dataset_uri=dataset_uri,
                base_model=base_model,
                output=output,
                image=train_image,
                training=TrainingConfig(**parse_options(main | options)),
                checkpoints=checkpoints,
                experiment=experiment,
                tracking_uri=tracking_uri,
                nodes=nodes,
                gpus=gpus,
                gpu_type=gpu_type,
                cpu=train_cpu,
                memory=train_memory,
                scratch=train_scratch,
                node_selector=node_selector,
                tolerations=tolerations,
                service_account=train_service_account,
                store_secret=store_secret,
                hub_secret=hub_secret,
                mlflow_secret=mlflow_secret,
                hours=train_hours,
            )
        )
        return (result.model_uri, result.training_uri)
