"""The evaluation in Markdown: ``summary.md``, with the decision first, for the KFP UI; and the lines of a model card.

Such a UI takes Markdown for markup and HTML too, and a name or a reason may hold anything. So every string that does not
stand in this module goes through :func:`escaped`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from avskrift import pages
from avskrift.evaluation import report_wording as wording
from avskrift.evaluation.decision import Decision, RuleResult
from avskrift.evaluation.report_sections import slice_sentences
from avskrift.evaluation.report_wording import NOT_MEASURED, models
from avskrift.evaluation.result import PROTOCOLS, Evaluation, ModelScore

SUMMARY_FILE = "summary.md"
M = TypeVar("M")
_WORST_SLICES = 5
_LONGEST_NAME = 80  # characters of a model's URI in a table
# What starts or ends markup within a line; addresses that a reader of Markdown would make links of; what starts a block.
_MARKUP = re.compile(r"[\\`*_\[\]|~$@]|==+|:(?=//)|(?<=www)\.", re.IGNORECASE)
_BLOCK_START = re.compile(r"^(?:#|[-+=](?=[-+=\s]|$)|\d+(?=[.)](?:\s|$)))")


def render_markdown(evaluation: Evaluation, decision: Decision | None = None) -> str:
    """The summary, the decision first. Figures that cannot be right are named instead of being shown."""
    figures = wording.sound_or_why_not(evaluation, lambda: "\n\n".join(_figures(evaluation)), _unsound)
    return "\n\n".join([f"# {escaped(wording.title(evaluation))}", *_decision(decision), figures, *_rules(decision)]) + "\n"


def card_lines(evaluation: Evaluation) -> list[str]:
    """The error rates for a model card, by each protocol with their intervals, and what they were measured on and with."""
    rates = [[_name(model), *_rates(model.score)] for model in models(evaluation)]
    dataset = f"Dataset `{evaluation.dataset_fingerprint}`, normaliser {escaped(evaluation.normaliser)}."
    return [escaped(wording.measured_on(evaluation)), "", dataset, "", _table(["Model", *wording.PROTOCOL_NAMES.values()], rates)]


def escaped(value: str) -> str:
    """``value`` as text on one line and never as markup, in a paragraph, a list or a table."""
    shown = pages.visible(value).strip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = _MARKUP.sub(lambda found: "".join(f"\\{character}" for character in found[0]), shown)
    # A digit cannot be escaped, but what makes its number one of a list can.
    return _BLOCK_START.sub(lambda found: f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}", shown)


def _decision(decision: Decision | None) -> Iterable[str]:
    decided = wording.decided(decision)
    yield f"**{escaped(decided.words)}.** {escaped(decided.remark)}"
    if decision and decision.failed:
        yield "\n".join(f"- {escaped(rule.sentence)}" for rule in decision.failed)


def _unsound(unsound: str) -> str:
    return f"## Figures that cannot be right\n\n{escaped(unsound)}"


def _figures(evaluation: Evaluation) -> Iterable[str]:
    difference = evaluation.wer_difference
    yield f"## Word error rate\n\n{escaped(wording.measured_on(evaluation))}"
    yield _table(["Model", *wording.PROTOCOL_NAMES.values()], [[_name(model), *_rates(model.score)] for model in models(evaluation)])
    yield (
        f"Difference {wording.points(difference.value)} percentage points, {wording.confidence(evaluation)} interval "
        f"{escaped(wording.points_interval(difference))}; the candidate wins {escaped(wording.share(difference.wins))} of "
        f"{evaluation.resamples:,} resamples of {escaped(evaluation.resampled)}. {wording.compared(difference).words}"
    )
    yield "## Slices"
    yield from _slices(evaluation)
    yield "## Beside the error rate"
    yield _table(["", *(model.name for model in models(evaluation))], _checks(evaluation))


def _name(model: wording.Model) -> str:
    uri = model.score.uri
    return f"{model.name}: {escaped(uri if len(uri) <= _LONGEST_NAME else f'{uri[:_LONGEST_NAME]}…')}"


def _rates(score: ModelScore) -> list[str]:
    return [f"{pages.percent(score.rates[one].wer.value)} {escaped(wording.interval(score.rates[one].wer))}" for one in PROTOCOLS]


def _slices(evaluation: Evaluation) -> Iterable[str]:
    if not evaluation.slices:
        yield f"{NOT_MEASURED.capitalize()}."
        return
    yield escaped(" ".join(slice_sentences(evaluation)))
    worst = sorted(evaluation.slices, key=lambda one: -one.candidate.value)[:_WORST_SLICES]
    rows = [
        [
            escaped(f"{one.kind} {one.name}"),
            f"{one.clips:,}",
            *(f"{pages.percent(rate.value)} {escaped(wording.interval(rate))}" for rate in (one.baseline, one.candidate)),
            f"{wording.points(one.difference.value)} {escaped(wording.points_interval(one.difference))}",
        ]
        for one in worst
    ]
    yield _table(["Worst slices", "Clips", "Baseline", "Candidate", "Difference"], rows)


def _checks(evaluation: Evaluation) -> list[list[str]]:
    scores = [model.score for model in models(evaluation)]
    return [
        [
            "Words a minute where nobody speaks",
            *(_if_any(one.hallucination, lambda heard: f"{heard.words_a_minute.value:,.1f}") for one in scores),
        ],
        ["Clips whose text repeats itself", *(f"{one.looped:,} of {one.hypotheses:,}" for one in scores)],
        [
            "Long recordings: WER lost, points",
            *(_if_any(one.long_form, lambda joined: wording.points(joined.loss.value)) for one in scores),
        ],
        [
            "Short context: WER lost, points",
            *(_if_any(one.short_context, lambda short: wording.points(short.loss.value)) for one in scores),
        ],
        [
            "Second dataset: WER lost, points",
            "",
            _if_any(evaluation.retention, lambda kept: wording.points(kept.loss.value)),
            *("" for _ in evaluation.others),
        ],
        ["Seconds of audio a second", *(f"{one.speed.audio_seconds_per_second:,.1f}" for one in scores)],
    ]


def _if_any(measured: M | None, shown: Callable[[M], str]) -> str:
    return NOT_MEASURED if measured is None else shown(measured)


def _rules(decision: Decision | None) -> Iterable[str]:
    if decision:
        yield "## Every rule of the gate"
        yield _table(
            ["", "Rule", "Figure", "Threshold"], map(_rule, [*decision.failed, *(rule for rule in decision.rules if rule.passed is True)])
        )


def _rule(rule: RuleResult) -> list[str]:
    figure, threshold = (escaped(wording.rule_figure(one)) for one in (rule.figure, rule.threshold))
    return ["✓ holds" if rule.passed is True else "✗ **fails**", escaped(rule.name), figure, threshold]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Finished cells as a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
