"""The KFP face of register."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("ops"), packages_to_install=[], install_kfp_package=False)
def register(
    package_uri: str,
    package_sha256: str,
    evaluation: dsl.Input[dsl.Artifact],
    decision: dsl.Input[dsl.Artifact],
    training: dsl.Input[dsl.Artifact],
    dataset_card: dsl.Input[dsl.Artifact],
    model_name: str,
    experiment: str,
    pipeline_run_id: str,
    code_version: str = "",
    tracking_uri: str = "",
    images: dict[str, str] = {},  # noqa: B006 - KFP takes no other default, and nothing changes it
) -> str:
    """Record the run in MLflow, register the package as a model version and point the alias challenger at it.

    Args:
        package_uri: Where the package lies; it is registered there, not fetched.
        package_sha256: The package's identity; it must be the one that was measured and that the gate passed.
        evaluation: The folder that evaluate wrote.
        decision: The folder that the gate wrote.
        training: The report folder that fine_tune wrote: parameters and curves.
        dataset_card: What prepare says of the dataset, without its clips.
        model_name: The registered model's name.
        experiment: The MLflow experiment.
        pipeline_run_id: The id of this pipeline run; the same id gives the same version again.
        code_version: What code made the package, for a package that is not on this machine.
        tracking_uri: MLflow's address; empty means MLFLOW_TRACKING_URI, else a database in the state folder.
        images: The container images of the run's steps by role, as the pipeline was compiled.

    Returns:
        The number of the model version.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.register.step import Config, run

    with boundary("register"):
        result = run(
            Config(
                package_uri=package_uri,
                package_sha256=package_sha256,
                evaluation=evaluation.path,
                gate=decision.path,
                training=training.path,
                dataset_card=dataset_card.path,
                model_name=model_name,
                experiment=experiment,
                pipeline_run_id=pipeline_run_id,
                code_version=code_version,
                tracking_uri=tracking_uri,
                images=images,
            )
        )
    return result.version
