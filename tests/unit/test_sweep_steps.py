"""A sweep's steps by themselves: what is tried, and what is picked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from evaluations import CANDIDATE, clip_results, evaluation, write_evaluation
from hypothesis import given
from hypothesis import strategies as st

from avskrift.errors import EvaluationError, IntegrityError, UsageError
from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.ranking import Contender, rank
from avskrift.evaluation.result import CLIPS_FILE
from avskrift.steps.pick_trial.step import Config, Measured, run
from avskrift.steps.plan_sweep import step as planning


def plan(**changes: Any) -> planning.Result:
    given: dict[str, Any] = {"base_models": ["openai/whisper-small"], "learning_rates": [0.0], "seeds": [1]}
    return planning.run(planning.Config(**given | changes))


def test_every_combination_is_a_trial_and_what_is_named_twice_is_tried_once() -> None:
    trials = plan(base_models=["openai/whisper-base", "s3://models/old/"], learning_rates=[0, 2e-5, 2e-5], seeds=[1.0, 1]).trials
    assert [(trial.name, trial.base_model, trial.learning_rate, trial.seed) for trial in trials] == [
        ("01-whisper-base-lr-auto-seed-1", "openai/whisper-base", 0.0, 1),
        ("02-whisper-base-lr-2e-05-seed-1", "openai/whisper-base", 2e-5, 1),
        ("03-old-lr-auto-seed-1", "s3://models/old/", 0.0, 1),
        ("04-old-lr-2e-05-seed-1", "s3://models/old/", 2e-5, 1),
    ]


@given(
    models=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Zs", "Cc"]), min_size=1), min_size=1, max_size=4),
    rates=st.lists(st.floats(0, 0.5, allow_nan=False), min_size=1, max_size=4),
    seeds=st.lists(st.integers(0, 2**31), min_size=1, max_size=4),
)
def test_names_tell_trials_apart_and_are_names_for_a_file(models: list[str], rates: list[float], seeds: list[int]) -> None:
    rows = planning.run(
        planning.Config(base_models=[m for m in models if m.strip()] or ["m"], learning_rates=rates, seeds=seeds, max_trials=64)
    ).rows()
    names = [row["trial"] for row in rows]
    assert names == sorted(set(names))
    assert all(name.isascii() and "/" not in name and "'" not in name for name in names)
    assert all(isinstance(value, str) for row in rows for value in row.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": []}, "seeds is empty"),
        ({"base_models": [" "]}, "base_models holds"),
        ({"learning_rates": [float("nan")]}, "learning_rates holds nan"),
        ({"learning_rates": [1]}, "learning_rates holds 1"),
        ({"learning_rates": [True]}, "learning_rates holds True"),
        ({"seeds": [0.5]}, "seeds holds 0.5"),
        ({"seeds": [-1]}, "seeds holds -1"),
        ({"max_trials": 0}, "max_trials is 0"),
        ({"seeds": list(range(17))}, "make 17 trials, and max_trials is 16"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan(**changes)


def heard_worse(by: int) -> list[ClipResult]:
    """The clips, with so many errors more in each."""
    return [dataclasses.replace(clip, candidate_errors=clip.candidate_errors + by) for clip in clip_results()]


def trial(folder: Path, name: str, *, wer: float, by: int = 0, sha256: str = CANDIDATE, **changes: Any) -> Measured:
    sound = evaluation()
    score = dataclasses.replace(sound.candidate, package_sha256=sha256, rates=_rates(sound, wer))
    write_evaluation(folder / name, evaluation(candidate=score, split=changes.pop("split", "validation"), **changes), heard_worse(by))
    return Measured(
        name=name,
        base_model="openai/whisper-small",
        evaluation=folder / name,
        package_uri=f"s3://models/{name}",
        package_sha256=sha256,
        training_uri=f"s3://models/{name}-training",
    )


def _rates(sound: Any, wer: float) -> Any:
    usual = sound.candidate.rates["normalised"]
    changed = dataclasses.replace(usual, wer=dataclasses.replace(usual.wer, value=wer, low=wer - 0.01, high=wer + 0.01))
    return {**sound.candidate.rates, "normalised": changed}


def test_the_lowest_rate_is_picked_whatever_the_order_and_the_others_say_how_far_behind_they_are(tmp_path: Path) -> None:
    trials = [trial(tmp_path, "01-a", wer=0.30, by=1), trial(tmp_path, "02-b", wer=0.20), trial(tmp_path, "03-c", wer=0.21)]
    for order in (trials, trials[::-1]):
        result = run(Config(trials=order))
        assert result.picked == trials[1]
        assert [place.contender.name for place in result.places] == ["02-b", "03-c", "01-a"]
        assert [place.could_be_best for place in result.places] == [True, True, False]
        last = result.places[-1].behind
        assert last is not None
        assert last.value == pytest.approx(0.1), "one word more of ten"


def test_the_ranking_is_a_table_in_which_a_name_is_no_markup(tmp_path: Path) -> None:
    result = run(Config(trials=[trial(tmp_path, "01-a|b", wer=0.2), trial(tmp_path, "02-<script>", wer=0.3, by=1)]))
    result.write_summary(tmp_path / "summary.md")
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "| 1 | 01-a\\|b | 20.0 % | 19.0 % to 21.0 % |" in text
    assert "<script>" not in text
    assert text.count("\n|") == 4


@pytest.mark.parametrize("wrong", ["none", "test split", "another package", "another dataset", "other clips", "edited"])
def test_what_cannot_be_compared_is_not(tmp_path: Path, wrong: str) -> None:
    first, error = trial(tmp_path, "01-a", wer=0.2), EvaluationError
    trials = {
        "none": list,
        "test split": lambda: [first, trial(tmp_path, "02-b", wer=0.3, split="test")],
        "another package": lambda: [first, dataclasses.replace(trial(tmp_path, "02-b", wer=0.3), package_sha256="d" * 64)],
        "another dataset": lambda: [first, trial(tmp_path, "02-b", wer=0.3, dataset_fingerprint="0" * 64)],
        "other clips": lambda: [first, trial(tmp_path, "02-b", wer=0.3)],
        "edited": lambda: [first, trial(tmp_path, "02-b", wer=0.3)],
    }[wrong]()
    if wrong == "other clips":
        contenders = [
            Contender(name=name, evaluation=evaluation(), clips=clips)
            for name, clips in (("a", clip_results()), ("b", clip_results()[:-1]))
        ]
        with pytest.raises(EvaluationError, match="a and b were not measured on the same clips"):
            rank(contenders)
        return
    if wrong == "edited":
        path, error = tmp_path / "02-b" / CLIPS_FILE, IntegrityError
        path.write_text(path.read_text(encoding="utf-8").replace("skogen", "skogar", 1), encoding="utf-8")
    with pytest.raises(error):
        run(Config(trials=trials))
