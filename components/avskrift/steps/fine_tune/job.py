"""A job: the step's configuration as JSON, for processes on this machine and on others."""

from __future__ import annotations

import json

from avskrift.errors import UsageError
from avskrift.steps.fine_tune.step import Config
from avskrift.training.config import TrainingConfig


def read_job(text: str) -> Config:
    """The configuration; options that are not named have their defaults.

    Raises:
        UsageError: it is no JSON, lacks a field, or has one that is none.
    """
    try:
        raw = json.loads(text)
        return Config(**raw | {"training": TrainingConfig(**raw.get("training", {}))})
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"the job is no configuration of fine_tune ({error}); docs/training.md shows one") from error
