"""The KFP face of gate."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("data"), packages_to_install=[], install_kfp_package=False)
def gate(
    evaluation: dsl.Input[dsl.Artifact],
    package_sha256: str,
    decision: dsl.Output[dsl.Artifact],
    max_wer: float = 0.3,
    require_better: bool = True,
    minimum_clips: int = 20,
) -> str:
    """Decide whether a package may be promoted. It fails closed: what is missing, not finite or contradictory is rejected.

    Args:
        evaluation: The folder that evaluate wrote.
        package_sha256: The identity of the package that would be promoted; it must be the one that was measured.
        decision: Folder with decision.json: the verdict, the reasons, and every rule with its figure and threshold.
        max_wer: The highest word error rate allowed, as a fraction.
        require_better: Whether the package must be better than the baseline beyond chance.
        minimum_clips: The fewest clips that a decision may rest on.

    Returns:
        passed or rejected.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.gate.step import Config, run

    with boundary("gate"):
        result = run(
            Config(
                evaluation=evaluation.path,
                package_sha256=package_sha256,
                out=decision.path,
                max_wer=max_wer,
                require_better=require_better,
                minimum_clips=int(minimum_clips),  # KFP may hand on a whole number as a float
            )
        )
    return result.verdict
