"""How figures, models and decisions are named and written, alike in the page, in Markdown and in pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from avskrift import pages
from avskrift.evaluation.decision import Decision, Figure
from avskrift.evaluation.result import NORMALISED, RAW, UTTERANCE_MEAN, Difference, Evaluation, ModelScore
from avskrift.evaluation.soundness import is_sha256, unsound_figures
from avskrift.text.languages import LANGUAGES
from avskrift.text.normaliser import BY_LETTERS

NOT_MEASURED = "not measured"
PROTOCOL_NAMES = {NORMALISED: "Normalised", RAW: "Raw", UTTERANCE_MEAN: "Mean of utterances"}
SOUND_NAMES = {
    "silence": "Silence",
    "hum": "Hum",
    "white-noise": "White noise",
    "pink-noise": "Pink noise",
    "clicks": "Keyboard clicks",
    "speech-in-silence": "Silence around speech",
}
Shown = TypeVar("Shown")
_DIGEST_SHOWN = 12  # characters of a sha256 that tell it from any other


class Bounded(Protocol):
    """A figure with its interval: an estimate or a difference."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One of the models, with the colour and the mark that it has in charts."""

    name: str
    css: str
    mark: str
    score: ModelScore


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judgement in words; ``css`` is good, bad or quiet."""

    words: str
    css: str
    remark: str = ""


def models(evaluation: Evaluation) -> tuple[Model, ...]:
    """Baseline, candidate, others."""
    return (
        Model(name="Baseline", css="before", mark="square", score=evaluation.baseline),
        Model(name="Candidate", css="after", mark="circle", score=evaluation.candidate),
        *(
            Model(name=f"Other {number}", css="other", mark="diamond", score=score)
            for number, score in enumerate(evaluation.others, start=1)
        ),
    )


def decided(decision: Decision | None) -> Verdict:
    """The decision: what it is, and who went past it and why."""
    if decision is None:
        return Verdict(words="Not decided yet", css="quiet", remark="Run the gate on this evaluation to have its decision here.")
    asked = f"{decision.override.by}: {decision.override.reason}" if decision.override else ""
    if decision.overridden:
        return Verdict(words="Overridden: a person promotes what the gate refused", css="bad", remark=f"By {asked}")
    if decision.passed is True:
        unneeded = f" An override was not needed ({asked})." if asked else ""
        return Verdict(words="Passed", css="good", remark=f"All {len(decision.rules)} rules hold: the package may be promoted.{unneeded}")
    beyond = ", ".join(rule.name for rule in decision.failed if rule.integrity)
    unheard = f" No override reaches {beyond} ({asked})." if asked else ""
    return Verdict(words="Rejected", css="bad", remark=f"The package must not be promoted.{unheard}")


def sound_or_why_not(evaluation: Evaluation, show: Callable[[], Shown], instead: Callable[[str], Shown]) -> Shown:
    """What ``show`` makes; where a figure cannot be right, what ``instead`` makes of the names of all that are so.

    Never raises for what an evaluation holds: it comes from a file, which may hold anything anywhere, and the rejection of that
    one is shown to people too.
    """
    try:
        unsound = ", ".join(unsound_figures(evaluation))
        return instead(unsound) if unsound else show()
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        return instead(f"something of another kind than belongs there ({type(error).__name__})")


def compared(difference: Difference) -> Verdict:
    """What the interval of the difference says."""
    if difference.high < 0:
        return Verdict(words="The candidate is better, beyond chance: the whole interval of the difference lies below zero.", css="good")
    if difference.low > 0:
        return Verdict(words="The candidate is worse, beyond chance: the whole interval of the difference lies above zero.", css="bad")
    return Verdict(words="No difference beyond chance: the interval of the difference holds zero.", css="quiet")


def title(evaluation: Evaluation) -> str:
    language = str(evaluation.language)
    return f"{LANGUAGES.get(language, language).title()}: the candidate against the baseline"


def measured_on(evaluation: Evaluation) -> str:
    letters = str(evaluation.normaliser).endswith(BY_LETTERS)
    return (
        f"{evaluation.clips:,} clips of the {evaluation.split} split, {pages.length(evaluation.hours)}, "
        f"{evaluation.speakers or 'unknown'} speakers, all models through {evaluation.engine}"
        f"{'; a word is a letter here, so every word error rate is a character error rate' if letters else ''}"
    )


def confidence(evaluation: Evaluation) -> str:
    return f"{100 * evaluation.confidence:g} %"


def interval(estimate: Bounded) -> str:
    """Of a rate, in percent."""
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def points(difference: float) -> str:
    """A difference of rates, in percentage points."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def points_interval(difference: Bounded) -> str:
    return f"[{points(difference.low)}, {points(difference.high)}]"


def share(part: float) -> str:
    """In percent; only all is 100 % and only none is 0 %."""
    return "< 0.1 %" if 0 < part < 0.001 else "> 99.9 %" if 0.999 < part < 1 else pages.percent(part)


def rule_figure(figure: Figure) -> str:
    """A figure or threshold of a rule; a digest is cut, since the rule's sentence has it whole."""
    if isinstance(figure, str):
        return f"{figure[:_DIGEST_SHOWN]}…" if is_sha256(figure) else figure
    return f"{figure:.4g}" if isinstance(figure, float) else f"{figure:,}"
