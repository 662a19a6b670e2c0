"""list_parts: into how many parts the reading is divided, and that there is something to read."""

from __future__ import annotations

from dataclasses import dataclass

from avskrift.errors import UsageError
from avskrift.steps.prepare.step import check_source

MOST_PARTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``parts`` of ``source``; the rest as in prepare."""

    source: str
    parts: int = 1
    language: str = "sv"
    validated_remainder: bool = False
    on_missing: str = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The number of each part."""

    parts: list[int]


def run(config: Config) -> Result:
    """Refuse at once what every part would refuse, then number the parts.

    Raises:
        UsageError: so many parts cannot be.
        LanguageError, SourceError: as :func:`avskrift.steps.prepare.step.check_source`.
    """
    if not 1 <= config.parts <= MOST_PARTS:
        raise UsageError(f"parts is {config.parts}; give 1 to {MOST_PARTS}")
    check_source(config.source, language=config.language, on_missing=config.on_missing, validated_remainder=config.validated_remainder)
    return Result(parts=list(range(config.parts)))
