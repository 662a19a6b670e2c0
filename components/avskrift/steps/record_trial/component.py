"""The KFP face of record_trial."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("ops"), packages_to_install=[], install_kfp_package=False)
def record_trial(
    trial: str,
    evaluation: dsl.Input[dsl.Artifact],
    training: dsl.Input[dsl.Artifact],
    package_uri: str,
    experiment: str,
    pipeline_run_id: str,
    tracking_uri: str = "",
) -> str:
    """Record one trial of a sweep as an MLflow run below the sweep's.

    Args:
        trial: The trial's name.
        evaluation: What evaluate wrote of it, on the validation split.
        training: What fine_tune reported.
        package_uri: Where its package lies.
        experiment: The MLflow experiment.
        pipeline_run_id: The id of the sweep's pipeline run.
        tracking_uri: MLflow's address; empty means MLFLOW_TRACKING_URI, else a database in the state folder.

    Returns:
        The id of the trial's MLflow run.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.record_trial.step import Config, run

    with boundary(f"record_trial_{trial}"):
        result = run(
            Config(
                trial=trial,
                evaluation=evaluation.path,
                training=training.path,
                package_uri=package_uri,
                experiment=experiment,
                pipeline_run_id=pipeline_run_id,
                tracking_uri=tracking_uri,
            )
        )
    return result.run_id
