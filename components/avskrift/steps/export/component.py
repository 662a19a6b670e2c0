"""export's KFP face."""

from typing import NamedTuple

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("serving"), packages_to_install=[], install_kfp_package=False)
def export(
    model: dsl.Input[dsl.Model], training: dsl.Input[dsl.Artifact], dataset: dsl.Input[dsl.Dataset], package: dsl.Output[dsl.Model]
) -> NamedTuple("Exported", [("package_uri", str), ("package_sha256", str)]):
    """Write the model package: hf/, ct2/ (CTranslate2), model.json with a sha256 of every file, and a model card.

    Args:
        model: The fine-tuned model as a transformers folder.
        training: What fine_tune reported.
        dataset: What it was trained on; on a sample of it the converted model must write what the model writes.
        package: The model package.

    Returns:
        The package's URI, for steps that must not download it, and the digest of its bytes.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.export.step import Config, run

    with boundary("export"):
        result = run(Config(model=model.path, training=training.path, dataset=dataset.path, out=package.path))
        package.metadata.update({"sha256": result.sha256, "base_model": result.package.description.base_model})
        return (package.uri, result.sha256)
