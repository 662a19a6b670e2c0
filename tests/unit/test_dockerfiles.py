"""The four Dockerfiles are one recipe: what differs is what the role says, or a line that one role has besides."""

from __future__ import annotations

from pathlib import Path

import pytest

_IMAGES = Path(__file__).parents[2] / "images"
# Of each role alone: a line that begins so.
_OWN = {"data": (), "ops": (), "serving": ("EXPOSE",), "train": ("ARG REQUIREMENTS", "COPY images/train/", "ENV TORCHDYNAMO_DISABLE")}
_SAID_BY_THE_ROLE = ("#", "LABEL", "org.opencontainers.image.", "CMD")


def _recipe(role: str) -> list[str]:
    """The instructions, without remarks, names and what is the role's own."""
    lines = (_IMAGES / role / "Dockerfile").read_text(encoding="utf-8").splitlines()
    shared = [line.replace(f"images/{role}/", "images/ROLE/") for line in lines if not line.startswith(_OWN[role] or "\0")]
    return [line for line in shared if line.strip() and not line.strip().startswith((*_SAID_BY_THE_ROLE, "COPY images/ROLE/requirements"))]


@pytest.mark.parametrize("role", ["ops", "serving", "train"])
def test_a_change_of_one_recipe_is_a_change_of_all(role: str) -> None:
    assert _recipe(role) == _recipe("data")
