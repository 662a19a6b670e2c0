"""The KFP face of plan_sweep."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("data"), packages_to_install=[], install_kfp_package=False)
def plan_sweep(base_models: list[str], learning_rates: list[float], seeds: list[int], max_trials: int = 16) -> list[dict[str, str]]:
    """Combine base models, learning rates and seeds to trials.

    Args:
        base_models: Models to start from, by any model URI.
        learning_rates: Peak learning rates; 0 for the one that suits the model's size.
        seeds: Seeds of the order of training.
        max_trials: The most trials; more are refused before the first one is trained.

    Returns:
        The trials: trial (its name), base_model, learning_rate and seed of each, as text, since Kubeflow's loops know one type for all.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.plan_sweep.step import Config, run

    with boundary("plan_sweep"):
        result = run(Config(base_models=base_models, learning_rates=learning_rates, seeds=seeds, max_trials=int(max_trials)))
    return result.rows()
