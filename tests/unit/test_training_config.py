"""What a training configuration accepts, what decides a job, and how the learning rate runs. Options are read off the fields."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avskrift.errors import UsageError
from avskrift.steps.fine_tune import step as fine_tuning
from avskrift.training.config import TrainingConfig, learning_rate_factor, parse_options
from avskrift.training.loop import job_digest

NAN, INFINITE = float("nan"), float("inf")
FIELDS = {field.name: field for field in dataclasses.fields(TrainingConfig)}
RULES = {name: field.metadata for name, field in FIELDS.items()}
NUMBERS = {name: type(field.default) for name, field in FIELDS.items() if type(field.default) in (int, float)}
# Where, how fast and how safely, but not to what end.
NOT_DECISIVE = {
    "checkpoint_minutes",
    "checkpoints_kept",
    "device",
    "threads",
    "workers",
    "processes",
    "micro_batch_seconds",
    "activation_checkpointing",
}


def _step(kind: type) -> float:
    return 1 if kind is int else 1e-6


def _wrong() -> list[tuple[str, Any]]:
    """Values just outside each field's bounds, those that are no numbers, and words of other fields."""
    wrong: list[tuple[str, Any]] = []
    for name, kind in NUMBERS.items():
        rule = RULES[name]
        wrong += [(name, rule["at_least"] - _step(kind))] if rule["at_least"] is not None else []
        wrong += [(name, rule["over"])] if rule["over"] is not None else []
        wrong += [(name, rule["at_most"] + _step(kind))] if rule["at_most"] is not None else []
        wrong += [(name, value) for value in (NAN, INFINITE, -INFINITE) if kind is float]
    return wrong + [(name, word) for name, rule in RULES.items() if rule["one_of"] for word in ("", "AUTO", "fast")]


def _edges() -> list[tuple[str, Any]]:
    """Values just inside."""
    edges: list[tuple[str, Any]] = []
    for name, kind in NUMBERS.items():
        rule = RULES[name]
        edges += [(name, rule["at_least"])] if rule["at_least"] is not None else []
        edges += [(name, rule["over"] + _step(kind))] if rule["over"] is not None else []
        edges += [(name, rule["at_most"])] if rule["at_most"] is not None and name not in NEVER_ALL else []
    return edges + [(name, word) for name, rule in RULES.items() for word in rule["one_of"]]


NEVER_ALL = ("beta2", "ema_decay", "label_smoothing", "bpe_dropout")  # shares that must be under 1


def test_every_option_says_what_it_is_and_every_number_has_a_bound() -> None:
    assert all(rule["help"].endswith(".") for rule in RULES.values())
    assert not [name for name in NUMBERS if RULES[name]["at_least"] is None and RULES[name]["over"] is None]


@pytest.mark.parametrize(("name", "value"), _wrong())
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is "):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 1.0) for name in NEVER_ALL],
        ("seed", 1 << 63),
        *[("device", value) for value in ("", "gpu", "cuda:", "cuda:one", "mps", "cpu;")],
    ],
)
def test_a_value_within_its_bounds_that_makes_no_sense_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is "):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *_edges(),
        *[(name, 1 - 1e-6) for name in NEVER_ALL],
        ("seed", (1 << 63) - 1),
        *[("device", f"cuda{number}") for number in ("", ":0", ":7")],
    ],
)
def test_a_value_at_the_edge_is_accepted(name: str, value: Any) -> None:
    assert getattr(TrainingConfig(**{name: value}), name) == value


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"lora_rank": 8, "freeze_encoder": True}, "lora_rank and freeze_encoder are both set; .* choose one"),
    ({"lora_alpha": 16.0}, "lora_alpha is 16 and lora_rank is 0, .* set lora_rank too"),
    ({"micro_batch_seconds": 40.0, "batch_seconds": 20.0}, "micro_batch_seconds is 40 and batch_seconds 20; .* no larger"),
    ({"device": "cpu", "precision": "fp16"}, "precision is fp16 and device cpu; .* use fp32"),
    ({"processes": 2, "device": "cuda:1"}, "processes is 2 and device cuda:1; .* name no number"),
]


@pytest.mark.parametrize(("options", "says"), CONTRADICTIONS)
def test_options_that_contradict_each_other_are_refused_before_any_data_is_looked_for(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        fine_tuning.run(_step_that_lacks_its_dataset(tmp_path, options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("options", "says"), CONTRADICTIONS)
def test_each_of_them_alone_is_accepted(options: dict[str, Any], says: str) -> None:
    alone = {name: value for name, value in options.items() if name != "lora_alpha"}
    assert all(TrainingConfig(**{name: value}) for name, value in alone.items())


def test_what_fits_together_is_accepted() -> None:
    assert TrainingConfig(lora_rank=8, lora_alpha=16)
    assert TrainingConfig(micro_batch_seconds=20, batch_seconds=20)
    assert TrainingConfig(micro_batch_seconds=20), "what a step has is not known yet"
    assert TrainingConfig(processes=1, device="cuda:1")
    assert TrainingConfig(processes=8, device="cuda")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "5", 5),
        ("epochs", 5.0, 5),
        ("max_steps", "1e3", 1000),
        ("workers", "-1", -1),
        ("learning_rate", "1e-5", 1e-5),
        ("learning_rate", 1, 1.0),
        ("schedule", "cosine", "cosine"),
        *[("freeze_encoder", word, True) for word in ("true", "True", "TRUE", True)],
        *[("freeze_encoder", word, False) for word in ("false", "False", False)],
    ],
)
def test_an_option_may_be_given_as_text_or_as_a_value(name: str, text: Any, value: Any) -> None:
    parsed = parse_options({name: text})
    assert parsed == {name: value}
    assert type(parsed[name]) is type(FIELDS[name].default)


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "language"])
def test_every_option_survives_being_text(name: str) -> None:
    default = FIELDS[name].default
    assert parse_options({name: str(default)}) == {name: default}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epoch": 3}, "'epoch' is no training option; there are .*epochs"),
        ({"language": "sv"}, "'language' is no training option"),
        *[
            ({"epochs": value}, "epochs is .*; it takes a whole number")
            for value in ("many", "1.5", 1.5, True, None, [], "nan", "inf", INFINITE)
        ],
        *[({"learning_rate": value}, "learning_rate is .*; it takes a number") for value in ("fast", "", True, None, {})],
        *[({"freeze_encoder": value}, "freeze_encoder is .*; use true or false") for value in ("yes", "", 1, 0, None)],
        *[({"schedule": value}, "schedule is .*; it takes text") for value in (1, None, True)],
    ],
)
def test_a_name_that_is_none_and_a_value_of_another_type_are_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_options(options)


@pytest.mark.parametrize("name", FIELDS)
def test_a_job_is_another_one_for_all_that_decides_its_outcome_and_for_nothing_else(name: str) -> None:
    config = TrainingConfig(lora_rank=1 if name == "lora_alpha" else 0)  # which has something to scale then
    job, other = (job_digest("base", "data", one) for one in (config, replace(config, **{name: _another(name)})))
    assert (other == job) == (name in NOT_DECISIVE)


def test_another_base_model_and_other_data_make_another_job() -> None:
    assert len({job_digest(base, data, TrainingConfig()) for base in ("1", "2") for data in ("1", "2")}) == 4


def test_the_rate_rises_linearly_to_its_peak_and_falls_linearly_to_zero() -> None:
    factors = [learning_rate_factor(step, total=20, warmup_share=0.25) for step in range(21)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == pytest.approx([(20 - step) / 15 for step in range(5, 21)])
    assert factors[20] == 0


def test_a_cosine_falls_slowly_at_first_and_at_last_and_is_half_way_at_half_time() -> None:
    factors = [learning_rate_factor(step, total=21, warmup_share=1 / 21, schedule="cosine") for step in range(22)]
    assert factors[:2] == [1.0, 1.0]
    assert factors[11] == pytest.approx(0.5)
    assert factors[1:] == pytest.approx([(1 + math.cos(math.pi * step / 20)) / 2 for step in range(21)])
    assert factors[21] == pytest.approx(0)


@pytest.mark.parametrize("schedule", RULES["schedule"]["one_of"])
@pytest.mark.parametrize("total", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("warmup_share", [0.0, 0.1, 0.5, 1.0])
def test_every_step_moves_the_weights_and_none_by_more_than_the_peak(total: int, warmup_share: float, schedule: str) -> None:
    factors = [learning_rate_factor(step, total=total, warmup_share=warmup_share, schedule=schedule) for step in range(total + 5)]
    assert all(0 < factor <= 1 for factor in factors[:total])
    assert all(factor >= 0 for factor in factors[total:])


def _another(name: str) -> Any:
    """A value that the option takes and that is not its default."""
    default, words = FIELDS[name].default, RULES[name]["one_of"]
    if words:
        return next(word for word in words if word != default)
    if isinstance(default, str):
        return {"language": "en", "device": "cpu"}[name]
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, int) else 0.25 if default != 0.25 else 0.5


def _step_that_lacks_its_dataset(folder: Path, options: dict[str, Any]) -> fine_tuning.Config:
    """As the component makes it: the options come last, and are refused before the step can look for anything."""
    paths: dict[str, Any] = {"dataset": folder / "no-dataset", "out": folder / "model", "report": folder / "report"}
    return fine_tuning.Config(base_model=str(folder / "no-model"), training=TrainingConfig(**parse_options(options)), **paths)
