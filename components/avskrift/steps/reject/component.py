"""The KFP face of reject."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("ops"), packages_to_install=[], install_kfp_package=False)
def reject(
    package_uri: str,
    evaluation: dsl.Input[dsl.Artifact],
    decision: dsl.Input[dsl.Artifact],
    training: dsl.Input[dsl.Artifact],
    dataset_card: dsl.Input[dsl.Artifact],
    experiment: str,
    pipeline_run_id: str,
    tracking_uri: str = "",
    images: dict[str, str] = {},  # noqa: B006 - KFP takes no other default, and nothing changes it
) -> str:
    """Record a run whose package the gate refused, with the reasons. Nothing is registered.

    Args:
        package_uri: Where the refused package lies.
        evaluation: The folder that evaluate wrote.
        decision: The folder that the gate wrote.
        training: The report folder that fine_tune wrote: parameters and curves.
        dataset_card: What prepare says of the dataset, without its clips.
        experiment: The MLflow experiment.
        pipeline_run_id: The id of this pipeline run.
        tracking_uri: MLflow's address; empty means MLFLOW_TRACKING_URI, else a database in the state folder.
        images: The container images of the run's steps by role, as the pipeline was compiled.

    Returns:
        The id of the MLflow run that holds the record.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.reject.step import Config, run

    with boundary("reject"):
        result = run(
            Config(
                package_uri=package_uri,
                evaluation=evaluation.path,
                gate=decision.path,
                training=training.path,
                dataset_card=dataset_card.path,
                experiment=experiment,
                pipeline_run_id=pipeline_run_id,
                tracking_uri=tracking_uri,
                images=images,
            )
        )
    return result.run_id
