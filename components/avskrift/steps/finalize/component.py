"""The KFP face of finalize: the exit task of the pipeline."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("ops"), packages_to_install=[], install_kfp_package=False)
def finalize(
    status: dsl.PipelineTaskFinalStatus,
    pipeline_run_id: str,
    experiment: str,
    tracking_uri: str = "",
) -> None:
    """Close the MLflow run with the truth, however the pipeline run ended.

    Args:
        status: How the run ended; Kubeflow fills it in.
        pipeline_run_id: The id of this pipeline run.
        experiment: The MLflow experiment.
        tracking_uri: MLflow's address; empty means MLFLOW_TRACKING_URI, else a database in the state folder.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.finalize.step import Config, run

    with boundary("finalize"):
        run(
            Config(
                pipeline_run_id=pipeline_run_id,
                experiment=experiment,
                status=status.state,
                error_message=status.error_message or "",
                tracking_uri=tracking_uri,
            )
        )
