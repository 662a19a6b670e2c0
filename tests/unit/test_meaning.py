"""What no step would take is refused before a run begins, by the sentence that the step would say hours later."""

from __future__ import annotations

from typing import Any

import pytest

from avskrift.errors import AvskriftError
from avskrift_pipelines.compiled import PIPELINES
from avskrift_pipelines.meaning import check_meaning
from avskrift_pipelines.pipeline_source import read_pipeline
from avskrift_pipelines.run_parameters import Field


@pytest.fixture(scope="module")
def forms() -> dict[str, dict[str, Field]]:
    return {name: dict(read_pipeline(name).form) for name in PIPELINES}


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_every_form_means_something_as_it_is(forms: dict[str, dict[str, Field]], name: str) -> None:
    check_meaning(forms[name], {})


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("fine_tune", {"max_wer": 100.0}, "max_wer is 100; it must be a fraction from 0 to 1, or -1"),
        ("evaluate_only", {"comparison": "best"}, "comparison is"),
        ("fine_tune", {"override_by": "release-manager"}, "override_reason is empty"),
        ("retrain", {"checks": "hallucination,speed"}, "check 'speed' is none of"),
        ("fine_tune", {"language": "swedisch"}, "did you mean sv"),
        ("fine_tune", {"epochs": 0}, "epochs is 0"),
        ("retrain", {"model_name": "team/sv"}, "the model's name 'team/sv' is none"),
        ("distributed", {"training_options": {"lora_rnk": 8}}, "'lora_rnk' is no training option"),
        ("sweep", {"training_options": {"lora_rank": 8, "freeze_encoder": True}}, "lora_rank"),
        ("sweep", {"learning_rates": []}, "learning_rates is empty"),
        ("sweep", {"seeds": [1, 2, 3], "max_trials": 2}, "make 3 trials, and max_trials is 2"),
    ],
)
def test_what_a_step_would_refuse_is_refused(forms: dict[str, dict[str, Field]], name: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(AvskriftError, match=words):
        check_meaning(forms[name], given)


def test_a_form_with_none_of_it_is_anybodys() -> None:
    check_meaning({"anything": Field(name="anything", kind="STRING", needed=True)}, {"anything": "x"})
