"""The main line on a schedule: from the model that serves, on what its sources hold by now, and only if that has changed."""

from __future__ import annotations

from kfp import dsl

from avskrift.steps.find_change.component import find_change
from avskrift_pipelines import parameters, stages
from avskrift_pipelines.form import Given, Parameter, but, group, pipeline
from avskrift_pipelines.placement import CONFIG, place

_CHANGED = "changed"

BASE_MODEL = Parameter(
    name="base_model", default="openai/whisper-small", help="The model to start from as long as none serves; later it is the champion."
)


@pipeline(
    "avskrift-retrain",
    parameters.RECORDINGS,
    group(BASE_MODEL),
    parameters.TRAINING,
    parameters.NODE,
    but(parameters.MEASURING, baseline=None),
    parameters.GATE,
    parameters.REGISTRY,
    parameters.SECRETS,
    parameters.DEPLOYMENT,
    config=CONFIG,
)
def retrain_pipeline(given: Given) -> None:
    """Reads the sources again and, where they have changed, fine-tunes the model that serves and replaces it if the new one is better."""
    with dsl.ExitHandler(stages.closing(given), name="pipeline"):
        # The run's id is another one each time, so that nothing is taken from the cache of an earlier reading.
        data = stages.prepared(given, refresh=stages.RUN_ID)
        serving = stages.to_beat(given)
        found = find_change(fingerprint=data.outputs["fingerprint"], trained_on=serving.outputs["dataset_fingerprint"])
        place(found, "data")
        with dsl.If(found.output == _CHANGED, name="changed"):
            stages.from_dataset_to_endpoint(given, data, base_model=serving.outputs["uri"])
