"""The KFP face of find_change."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("data"), packages_to_install=[], install_kfp_package=False)
def find_change(fingerprint: str, trained_on: str) -> str:
    """Say whether a dataset is another one than the model that serves was trained on.

    A step of its own, since kfp.local can ask a condition of a component's only output alone, and takes any other for false.

    Args:
        fingerprint: The dataset's.
        trained_on: That of the dataset on record; empty where there is none.

    Returns:
        changed or unchanged.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.find_change.step import Config, run

    with boundary("find_change"):
        result = run(Config(fingerprint=fingerprint, trained_on=trained_on))
    return result.verdict
