import json
import shutil
from pathlib import Path

import pytest

from avskrift.errors import UsageError
from avskrift.evaluation.gate import read_decision
from avskrift.steps.gate.step import Config, run

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
SHA256 = "c1" * 32


def config(tmp_path: Path, **changes: object) -> Config:
    sound = {"evaluation": GOLDEN, "package_sha256": SHA256, "out": tmp_path / "decision", "max_wer": 0.6, "minimum_clips": 5}
    return Config(**(sound | changes))  # type: ignore[arg-type]


def test_a_good_evaluation_passes_and_the_decision_is_on_disk(tmp_path: Path) -> None:
    result = run(config(tmp_path))
    assert result.passed
    assert result.verdict == "passed"
    assert read_decision(result.folder) == result.decision
    assert json.loads((tmp_path / "decision" / "decision.json").read_text(encoding="utf-8"))["passed"] is True


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_wer": 0.05}, "at most 5.00 %"),
        ({"minimum_clips": 9}, "needs at least 9"),
        ({"package_sha256": "d2" * 32}, "d2d2"),
        ({"package_sha256": ""}, "the one to promote has ''"),
    ],
)
def test_a_rejection_is_a_result_with_its_reason(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    result = run(config(tmp_path, **change))
    assert result.verdict == "rejected"
    assert len(result.reasons) == 1
    assert reason in result.reasons[0]
    assert read_decision(result.folder) == result.decision


def test_a_model_that_is_not_better_passes_only_where_that_is_not_asked_for(tmp_path: Path) -> None:
    evaluation = json.loads((GOLDEN / "evaluation.json").read_text(encoding="utf-8"))
    evaluation["wer_difference"]["high"] = 0.001
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    assert not run(config(tmp_path, evaluation=tmp_path)).passed
    assert run(config(tmp_path, evaluation=tmp_path, require_better=False)).passed


def test_the_folders_may_be_given_as_text(tmp_path: Path) -> None:
    assert run(config(tmp_path, evaluation=str(GOLDEN), out=str(tmp_path / "out"))).folder == tmp_path / "out"


@pytest.mark.parametrize("change", [{"max_wer": float("nan")}, {"max_wer": float("inf")}, {"max_wer": -0.1}, {"minimum_clips": 0}])
def test_a_policy_without_meaning_is_refused_before_anything_is_decided(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        run(config(tmp_path, **change))
    assert not (tmp_path / "decision").exists()


def test_a_second_decision_replaces_the_first(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "evaluation")
    assert run(config(tmp_path)).passed
    assert not run(config(tmp_path, max_wer=0.01)).passed
    assert read_decision(tmp_path / "decision").verdict == "rejected"
    assert [file.name for file in (tmp_path / "decision").iterdir()] == ["decision.json"]
