"""What a training configuration accepts, and how the learning rate runs."""

from __future__ import annotations

from typing import Any

import pytest

from avskrift.errors import UsageError
from avskrift.training.config import TrainingConfig, learning_rate_factor

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("epochs", "batch_seconds", "max_gradient_norm") for value in (0, -1, NAN, INFINITE)],
        *[(name, value) for name in ("max_steps", "learning_rate", "weight_decay", "checkpoint_minutes") for value in (-1, NAN, INFINITE)],
        *[(name, -1) for name in ("threads", "seed")],
        *[(name, value) for name in ("warmup_share", "packed_share", "beta2") for value in (-0.1, 1.1, NAN, INFINITE)],
        ("beta2", 1.0),
        ("seed", 1 << 63),
        *[("device", value) for value in ("", "gpu", "cuda:", "cuda:one", "mps", "cpu;")],
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is "):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 0) for name in ("max_steps", "learning_rate", "weight_decay", "checkpoint_minutes", "threads", "seed")],
        *[(name, value) for name in ("warmup_share", "packed_share") for value in (0, 1)],
        *[("device", value) for value in ("auto", "cpu", "cuda", "cuda:7")],
        ("beta2", 0),
        ("seed", (1 << 63) - 1),
    ],
)
def test_a_value_at_the_edge_is_accepted(name: str, value: Any) -> None:
    assert getattr(TrainingConfig(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("width", "rate"),
    [(64, 3.75e-5), (384, 3.75e-5), (512, 2.5e-5), (768, 1.25e-5), (1024, 6.25e-6), (1280, 5e-6), (4096, 5e-6)],
)
def test_without_a_learning_rate_the_one_for_the_models_width_is_taken(width: int, rate: float) -> None:
    assert TrainingConfig().learning_rate_for(width) == rate


def test_a_configured_learning_rate_wins_at_any_width() -> None:
    assert TrainingConfig(learning_rate=1e-4).learning_rate_for(384) == 1e-4


def test_the_rate_rises_linearly_to_its_peak_and_falls_linearly_to_zero() -> None:
    factors = [learning_rate_factor(step, total=20, warmup_share=0.25) for step in range(21)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == pytest.approx([(20 - step) / 15 for step in range(5, 21)])
    assert factors[20] == 0


@pytest.mark.parametrize("total", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("warmup_share", [0.0, 0.1, 0.5, 1.0])
def test_every_step_moves_the_weights_and_none_by_more_than_the_peak(total: int, warmup_share: float) -> None:
    assert all(0 < learning_rate_factor(step, total=total, warmup_share=warmup_share) <= 1 for step in range(total))
    assert all(learning_rate_factor(step, total=total, warmup_share=warmup_share) >= 0 for step in range(total, total + 5))
