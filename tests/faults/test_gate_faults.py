import errno
import json
import os
from pathlib import Path

import pytest

from avskrift.errors import DiskFullError, EvaluationError, StorageError
from avskrift.evaluation.gate import read_decision
from avskrift.steps.gate.step import Config, run

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
GOOD = (GOLDEN / "evaluation.json").read_text(encoding="utf-8")


def config(tmp_path: Path) -> Config:
    return Config(evaluation=tmp_path, package_sha256="c1" * 32, out=tmp_path / "decision", max_wer=0.6, minimum_clips=5)


def give(tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluation.json").write_text(content, encoding="utf-8")


def without(*path: str) -> str:
    evaluation = json.loads(GOOD)
    holder = evaluation
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return json.dumps(evaluation)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        GOOD[: len(GOOD) // 2],
        "null",
        "[]",
        "{}",
        '"passed"',
        without("candidate"),
        without("wer_difference", "high"),
        without("candidate", "wer", "value"),
        without("clips"),
        GOOD.replace('"clips"', '"clip"'),
    ],
)
def test_an_evaluation_that_cannot_be_read_gives_no_decision_at_all(tmp_path: Path, content: str) -> None:
    give(tmp_path, content)
    with pytest.raises(EvaluationError, match=r"evaluation\.json") as raised:
        run(config(tmp_path))
    assert raised.value.exit_code == 45
    assert not (tmp_path / "decision").exists()


def test_a_missing_evaluation_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="avskrift evaluate"):
        run(config(tmp_path))
    assert not (tmp_path / "decision").exists()


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EvaluationError):
        run(config(tmp_path))


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "-Infinity", "1e999", "null", '"0.01"'])
def test_what_json_readers_accept_and_arithmetic_does_not_is_rejected_with_the_reason(tmp_path: Path, figure: str) -> None:
    wer = json.dumps(json.loads(GOOD)["candidate"]["wer"]["value"])
    give(tmp_path, GOOD.replace(f'"value": {wer}', f'"value": {figure}', 1))
    result = run(config(tmp_path))
    assert result.verdict == "rejected"
    assert [reason for reason in result.reasons if "not a number" in reason]
    json.loads((tmp_path / "decision" / "decision.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_an_older_passing_decision_does_not_outlive_an_evaluation_that_cannot_be_read(tmp_path: Path) -> None:
    give(tmp_path, GOOD)
    assert run(config(tmp_path)).passed
    give(tmp_path, GOOD[:-20])
    with pytest.raises(EvaluationError):
        run(config(tmp_path))
    with pytest.raises(EvaluationError, match="avskrift gate"):
        read_decision(tmp_path / "decision")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"passed": true}', '{"passed": true, "reasons": [], "rules": [{"name": "max_wer"}]}'])
def test_a_decision_that_cannot_be_read_is_no_decision(tmp_path: Path, content: str) -> None:
    (tmp_path / "decision.json").write_text(content, encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"decision\.json"):
        read_decision(tmp_path)


@pytest.mark.parametrize("passed", ["true", 1, "yes", None])
def test_only_true_reads_as_passed(tmp_path: Path, passed: object) -> None:
    (tmp_path / "decision.json").write_text(json.dumps({"passed": passed, "reasons": [], "rules": []}), encoding="utf-8")
    assert not read_decision(tmp_path).passed


def test_a_full_disk_leaves_no_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(tmp_path, GOOD)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        run(config(tmp_path))
    assert list((tmp_path / "decision").iterdir()) == []


def test_a_place_that_is_a_file_is_named(tmp_path: Path) -> None:
    give(tmp_path, GOOD)
    (tmp_path / "decision").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match="decision"):
        run(config(tmp_path))
