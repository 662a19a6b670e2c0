"""What a form's types cannot say of our own pipelines: bounds and options that a step would refuse, after hours on a GPU maybe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from avskrift.evaluation.check_names import read_checks
from avskrift.evaluation.decision import asked_override
from avskrift.evaluation.policy import Policy
from avskrift.registry.protocol import check_model_name
from avskrift.steps.plan_sweep import step as plan_sweep
from avskrift.text.languages import check_language
from avskrift.training.config import TrainingConfig, parse_options
from avskrift_pipelines.run_parameters import Field

_BOUNDS = tuple(bound.name for bound in dataclasses.fields(Policy))
_TRAINING = tuple(option.name for option in dataclasses.fields(TrainingConfig) if option.name != "language")
_SWEEP = tuple(one.name for one in dataclasses.fields(plan_sweep.Config))


def check_meaning(form: Mapping[str, Field], given: Mapping[str, Any]) -> None:
    """Return if no step of a pipeline with this ``form`` would refuse what was ``given``, as far as that can be said beforehand.

    Raises:
        UsageError, LanguageError: as the step would, which names the parameter.
    """
    defaults = {name: field.check(field.default) for name, field in form.items() if field.default is not None}  # YAML has 20.0 for a 20
    values = defaults | dict(given)

    def of(names: tuple[str, ...]) -> dict[str, Any]:
        return {name: values[name] for name in names if name in form}

    Policy(**of(_BOUNDS))
    asked_override(str(values.get("override_by", "")), str(values.get("override_reason", "")))
    read_checks(str(values.get("checks", "")))
    if "model_name" in form:
        check_model_name(str(values["model_name"]))
    if "language" in form:
        check_language(str(values["language"]))
    if "training_options" in form:
        TrainingConfig(**parse_options(of(_TRAINING) | values["training_options"]))
    if set(_SWEEP) <= set(form):
        plan_sweep.run(plan_sweep.Config(**of(_SWEEP)))
