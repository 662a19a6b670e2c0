"""Whether there is anything new to train on."""

from __future__ import annotations

import pytest

from avskrift.steps.find_change.step import Config, run


@pytest.mark.parametrize(("trained_on", "verdict"), [("a" * 64, "unchanged"), ("b" * 64, "changed"), ("", "changed")])
def test_what_serves_was_trained_on_this_or_on_something_else_or_nothing_serves(trained_on: str, verdict: str) -> None:
    assert run(Config(fingerprint="a" * 64, trained_on=trained_on)).verdict == verdict
