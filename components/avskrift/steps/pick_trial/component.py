"""The KFP face of pick_trial."""

from typing import NamedTuple

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("data"), packages_to_install=[], install_kfp_package=False)
def pick_trial(
    trials: list[dict[str, str]],
    evaluations: dsl.Input[list[dsl.Artifact]],
    trainings: dsl.Input[list[dsl.Artifact]],
    package_uris: list[str],
    package_sha256s: list[str],
    summary: dsl.Output[dsl.Markdown],
) -> NamedTuple("Picked", [("name", str), ("base_model", str), ("package_uri", str), ("package_sha256", str), ("training_uri", str)]):
    """Pick the trial that makes the fewest errors on the validation split.

    Args:
        trials: What plan_sweep gave. The lists below have an entry for each, in this order.
        evaluations: What evaluate wrote of each, on the validation split.
        trainings: What fine_tune reported of each.
        package_uris: Where each package lies. They are not fetched.
        package_sha256s: The identity of each package.
        summary: The ranking, for the KFP UI.

    Returns:
        The trial's name and base model, where its package lies, the package's identity, and where its training report lies.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.pick_trial.step import Config, Measured, run

    with boundary("pick_trial"):
        columns = zip(trials, evaluations, trainings, package_uris, package_sha256s, strict=True)
        measured = [
            Measured(
                name=trial["trial"],
                base_model=trial["base_model"],
                evaluation=evaluation.path,
                package_uri=uri,
                package_sha256=sha256,
                training_uri=training.uri,
            )
            for trial, evaluation, training, uri, sha256 in columns
        ]
        result = run(Config(trials=measured))
        result.write_summary(summary.path)
        picked = result.picked
        return (picked.name, picked.base_model, picked.package_uri, picked.package_sha256, picked.training_uri)
