"""Ways to decode that there are not are refused before any audio is read."""

from __future__ import annotations

import math
from typing import Any

import pytest

from avskrift.errors import UsageError
from avskrift.whisper.transcript import Options


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beam_size": 0}, "beam size 0: 1 decodes greedily, more by beam"),
        ({"temperatures": ()}, r"temperatures \(\): give one at least, each 0 or more"),
        ({"temperatures": (0.0, -0.2)}, r"temperatures \(0.0, -0.2\): give one"),
        ({"temperatures": (math.nan,)}, "give one at least"),
    ],
)
def test_a_way_to_decode_that_there_is_not_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Options(**changes)


def test_a_beam_and_a_fallback_are_ways_to_decode() -> None:
    assert Options(beam_size=5, temperatures=(0.0, 0.4, 0.8)).beam_size == 5
