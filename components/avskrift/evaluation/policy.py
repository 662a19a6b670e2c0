"""What a package must show to be promoted: the bounds, each with its help. Command, pipeline and documents are made from it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from avskrift.errors import UsageError
from avskrift.evaluation.rule_wording import quote
from avskrift.evaluation.soundness import integer, number

NOT_ASKED = -1.0  # a bound that asks for nothing
COMPARISONS = ("better", "not-worse", "none")


def _bound(
    default: Any, help_: str, *, least: float = 0.0, most: float = math.inf, one_of: tuple[str, ...] = (), may_be_off: bool = False
) -> Any:
    limits = {"least": least, "most": most, "one_of": one_of, "may_be_off": may_be_off}
    return field(default=default, metadata={"help": f"{help_}; -1 does not ask." if may_be_off else f"{help_}.", **limits})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rates are fractions (0.3 is 30 %), "worse" is counted in absolute WER. -1 turns a rule off where ``may_be_off``.

    Raises:
        UsageError: a bound under which no decision has a meaning; the message names it.
    """

    max_wer: float = _bound(0.30, "Highest upper interval bound of the word error rate, as a fraction", most=1.0, may_be_off=True)
    comparison: str = _bound(
        "better",
        "Against the baseline: better (beyond chance), not-worse (by less than the margin, beyond chance), or none",
        one_of=COMPARISONS,
    )
    margin: float = _bound(0.005, "For not-worse: by how much the WER may be above the baseline's", most=1.0)
    max_slice_loss: float = _bound(
        0.0, "By how much the WER of any slice may be above the baseline's, beyond chance", most=1.0, may_be_off=True
    )
    max_hallucinated_words: float = _bound(5.0, "Words a minute that may be heard where nobody speaks", may_be_off=True)
    max_looped: float = _bound(0.02, "Share of the clips whose text may repeat itself", most=1.0, may_be_off=True)
    max_context_loss: float = _bound(
        0.15,
        "By how much the WER of short clips may rise when they are encoded at their own length, not at 30 s",
        most=1.0,
        may_be_off=True,
    )
    max_long_form_loss: float = _bound(
        0.10, "By how much the WER of clips joined into long recordings may be above that of the clips alone", most=1.0, may_be_off=True
    )
    max_timestamp_error: float = _bound(
        NOT_ASKED, "Highest median error in seconds of where clips begin and end in long recordings", may_be_off=True
    )
    max_retention_loss: float = _bound(
        NOT_ASKED, "By how much the WER on the second dataset may be above the base model's", most=1.0, may_be_off=True
    )
    min_speed: float = _bound(0.0, "Fewest seconds of audio transcribed in a second, on the machine that evaluated")
    max_latency: float = _bound(NOT_ASKED, "Longest 95th percentile in seconds of transcribing one clip", may_be_off=True)
    minimum_clips: int = _bound(20, "Fewest test clips that a decision may rest on", least=1)
    minimum_speakers: int = _bound(0, "Fewest known test speakers that a decision may rest on")
    minimum_hours: float = _bound(0.0, "Fewest hours of test recordings that a decision may rest on")

    def __post_init__(self) -> None:
        for bound in dataclasses.fields(self):
            value = getattr(self, bound.name)
            _check(bound.name, value, bound.metadata, whole=bound.type == "int")
            if bound.type == "float":  # "max_wer: 1" of a YAML file; KFP takes no whole number for one that may be broken
                object.__setattr__(self, bound.name, float(value))


def _check(name: str, value: object, asked: Any, *, whole: bool) -> None:
    if asked["one_of"]:
        if value not in asked["one_of"]:
            raise UsageError(f"{name} is {quote(value)}; use one of {', '.join(asked['one_of'])}")
        return
    read = number(integer(value) if whole else value)
    if math.isnan(read):
        raise UsageError(f"{name} is {quote(value)}; give a {'whole number, as 20' if whole else 'number, as 0.05'}")
    if not (asked["least"] <= read <= asked["most"] or (asked["may_be_off"] and read == NOT_ASKED)):
        off = ", or -1 to ask for nothing" if asked["may_be_off"] else ""
        within = f"{asked['least']:g} or more" if asked["most"] == math.inf else f"a fraction from {asked['least']:g} to {asked['most']:g}"
        raise UsageError(f"{name} is {read:g}; it must be {within}{off}")
