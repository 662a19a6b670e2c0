"""plan_sweep: every combination of base model, learning rate and seed, each a trial with a name."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from avskrift.errors import UsageError

MOST_TRIALS = 64
_UNNAMEABLE = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to combine. A learning rate of 0 is the one that suits the model's size. ``max_trials`` guards the GPU's time."""

    base_models: Sequence[str]
    learning_rates: Sequence[float]
    seeds: Sequence[int]
    max_trials: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One combination. ``name`` tells it from the others of the sweep, and sorts as they were given."""

    name: str
    base_model: str
    learning_rate: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The trials, in the order of their names."""

    trials: tuple[Trial, ...]

    def rows(self) -> list[dict[str, str]]:
        """As Kubeflow's loop takes them: all values as text, and no key that its loop variables have as an attribute, as ``name``."""
        columns = {"trial": "name", "base_model": "base_model", "learning_rate": "learning_rate", "seed": "seed"}
        return [{key: str(getattr(trial, field)) for key, field in columns.items()} for trial in self.trials]


def run(config: Config) -> Result:
    """Combine; what is named twice is tried once.

    Raises:
        UsageError: nothing to combine, a value that cannot be, or more trials than ``max_trials``.
    """
    models = _distinct("base_models", [_model(one) for one in config.base_models])
    rates = _distinct("learning_rates", [_rate(one) for one in config.learning_rates])
    seeds = _distinct("seeds", [_seed(one) for one in config.seeds])
    if not 1 <= config.max_trials <= MOST_TRIALS:
        raise UsageError(f"max_trials is {config.max_trials}; give 1 to {MOST_TRIALS}")
    count = len(models) * len(rates) * len(seeds)
    if count > config.max_trials:
        raise UsageError(
            f"{len(models)} base models, {len(rates)} learning rates and {len(seeds)} seeds make {count} trials, and max_trials is "
            f"{config.max_trials}; take fewer, or raise max_trials"
        )
    combined = enumerate(itertools.product(models, rates, seeds), start=1)
    return Result(trials=tuple(_trial(number, *combination) for number, combination in combined))


def _trial(number: int, model: str, rate: float, seed: int) -> Trial:
    short = _UNNAMEABLE.sub("-", model.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1].lower()).strip("-")
    name = f"{number:02d}-{short}-lr-{f'{rate:g}' if rate else 'auto'}-seed-{seed}"
    return Trial(name=name, base_model=model, learning_rate=rate, seed=seed)


def _distinct(what: str, values: list[Any]) -> list[Any]:
    if not values:
        raise UsageError(f"{what} is empty; name one at least")
    return list(dict.fromkeys(values))


def _model(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"base_models holds {value!r}; give hub ids, folders, or s3://, models:/ and package: URIs")
    return value.strip()


def _rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and 0 <= value < 1):
        raise UsageError(f"learning_rates holds {value!r}; give numbers such as 2e-5, or 0 for the one that suits the model's size")
    return float(value)


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value) or value < 0:
        raise UsageError(f"seeds holds {value!r}; give whole numbers from 0")
    return int(value)
