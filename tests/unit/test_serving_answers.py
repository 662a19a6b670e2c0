"""The answers to a server that has no room or no time left, in both shapes of an error."""

from __future__ import annotations

import json

import pytest

from avskrift.serving.answers import Busy, TooLate, answer_to

OPENAI, KSERVE = "/openai/v1/audio/transcriptions", "/v1/models/avskrift:predict"


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (7.0, "7")])
@pytest.mark.parametrize("path", [OPENAI, KSERVE])
def test_a_busy_server_says_in_whole_seconds_when_to_come_back(path: str, seconds: float, header: str) -> None:
    response = answer_to(path, Busy("eight requests are waiting", retry_after_s=seconds))
    assert (response.status_code, response.headers["retry-after"]) == (429, header)


def test_the_seconds_stay_exact_for_other_protocols() -> None:
    assert Busy("full", retry_after_s=0.25).retry_after_s == 0.25


def test_busy_and_too_late_have_codes_of_their_own_in_openais_shape() -> None:
    busy = answer_to(OPENAI, Busy("eight requests are waiting", retry_after_s=1))
    late = answer_to(OPENAI, TooLate("the answer was not ready within 30 s"))
    assert json.loads(bytes(busy.body))["error"] == {
        "message": "eight requests are waiting",
        "type": "rate_limit_error",
        "param": None,
        "code": "busy",
    }
    assert late.status_code == 504
    assert json.loads(bytes(late.body))["error"] == {
        "message": "the answer was not ready within 30 s",
        "type": "server_error",
        "param": None,
        "code": "deadline_exceeded",
    }


def test_busy_and_too_late_are_one_sentence_in_kserves_shape() -> None:
    assert json.loads(bytes(answer_to(KSERVE, Busy("full", retry_after_s=1)).body)) == {"error": "full"}
    late = answer_to(KSERVE, TooLate("late"))
    assert json.loads(bytes(late.body)) == {"error": "late"}
    assert "retry-after" not in late.headers
