"""find_baseline's KFP face."""

from typing import NamedTuple

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("ops"), packages_to_install=[], install_kfp_package=False)
def find_baseline(base_model: str, model_name: str, baseline: str = "", tracking_uri: str = "") -> NamedTuple(
    "Baseline", [("uri", str), ("package_sha256", str), ("dataset_fingerprint", str)]
):
    """Find the model that a candidate must beat: the one given, else the registry's champion, else the base model.

    Args:
        base_model: The baseline where the registry has no such model, or no champion of it.
        model_name: The registered model whose champion serves today.
        baseline: A model by any model URI; empty means the champion. models:/ is resolved to where the package lies.
        tracking_uri: MLflow's address; empty means MLFLOW_TRACKING_URI, else a database in the state folder.

    Returns:
        A URI that can be read without MLflow, and what is on record of the package there: its digest, and the fingerprint of the
        dataset that it was trained on; empty where there is none.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.find_baseline.step import Config, run

    with boundary("find_baseline"):
        result = run(Config(base_model=base_model, model_name=model_name, baseline=baseline, tracking_uri=tracking_uri))
        return (result.uri, result.package_sha256, result.dataset_fingerprint)
