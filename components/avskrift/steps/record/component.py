"""The KFP face of record."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("ops"), packages_to_install=[], install_kfp_package=False)
def record(
    package_uri: str,
    evaluation: dsl.Input[dsl.Artifact],
    decision: dsl.Input[dsl.Artifact],
    experiment: str,
    pipeline_run_id: str,
    tracking_uri: str = "",
) -> str:
    """Record a measured package and the gate's word on it. Nothing is registered.

    Args:
        package_uri: Where the package lies.
        evaluation: The folder that evaluate wrote.
        decision: The folder that the gate wrote.
        experiment: The MLflow experiment.
        pipeline_run_id: The id of this pipeline run.
        tracking_uri: MLflow's address; empty means MLFLOW_TRACKING_URI, else a database in the state folder.

    Returns:
        The id of the MLflow run that holds the record.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.record.step import Config, run

    with boundary("record"):
        result = run(
            Config(
                package_uri=package_uri,
                evaluation=evaluation.path,
                gate=decision.path,
                experiment=experiment,
                pipeline_run_id=pipeline_run_id,
                tracking_uri=tracking_uri,
            )
        )
    return result.run_id
