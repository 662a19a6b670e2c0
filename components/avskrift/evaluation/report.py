"""``report.html`` of an evaluation, one of the :mod:`avskrift.pages`. It opens from a disk and as an HTML artifact of Kubeflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from avskrift import pages
from avskrift.evaluation import report_sections as sections
from avskrift.evaluation import report_wording as wording
from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.decision import Decision, Figure, RuleResult
from avskrift.evaluation.report_clips import changed_section, worst_section
from avskrift.evaluation.result import Evaluation

_PAGE = Path(__file__).with_name("report_page.html")


def render_report(
    evaluation: Evaluation, clips: Sequence[ClipResult], decision: Decision | None = None, audio: Mapping[str, bytes] = MappingProxyType({})
) -> str:
    """The report as one HTML document, the decision first. ``audio`` holds FLAC by clip_id, of the clips to listen to.

    Figures that cannot be right are named instead of being shown: a rejection of an evaluation that was tampered with has a
    page too.
    """
    return pages.document(
        _PAGE,
        title=wording.title(evaluation),
        embeds=bool(audio),
        decision=_decision_section(decision),
        sections=wording.sound_or_why_not(evaluation, lambda: _sections(evaluation, clips, audio), _unsound_section),
    )


def _sections(evaluation: Evaluation, clips: Sequence[ClipResult], audio: Mapping[str, bytes]) -> str:
    return "\n".join(
        [
            sections.error_rate_section(evaluation),
            sections.protocol_section(evaluation),
            sections.slice_section(evaluation),
            sections.hallucination_section(evaluation),
            sections.long_form_section(evaluation),
            sections.short_context_section(evaluation),
            sections.retention_section(evaluation),
            sections.speed_section(evaluation),
            worst_section(clips, evaluation.language, audio),
            changed_section(clips, evaluation.language, audio),
            sections.method_section(evaluation),
        ]
    )


def _unsound_section(unsound: str) -> str:
    said = f"Missing, not finite, out of range or at odds with another: {unsound}. Evaluate the package again."
    return pages.section("Figures that cannot be right", pages.paragraph(said))


def _decision_section(decision: Decision | None) -> str:
    decided = wording.decided(decision)
    head = f'<p class="verdict {decided.css}">{pages.text(decided.words)}</p>{pages.paragraph(decided.remark)}'
    if decision is None:
        return f'<section class="decision {decided.css}">{head}</section>'
    failed = pages.listed(rule.sentence for rule in decision.failed)
    against = f"{pages.paragraph('Rules that do not hold:')}{failed}" if decision.failed else ""
    counts = f"{len(decision.rules) - len(decision.failed)} hold, {len(decision.failed)} fail"
    judged = f"The evaluation that was judged has sha256 {decision.evaluation_sha256 or 'none'}."
    rules = pages.folded(counts, _rules(decision.rules) + pages.paragraph(judged, "quiet"), unfolded=True)
    return f'<section class="decision {decided.css}">{head}{against}</section>{pages.section("Every rule of the gate", rules)}'


def _rules(rules: Sequence[RuleResult]) -> str:
    """Every rule, those that do not hold first."""
    header = [("", ""), ("Rule", ""), ("Figure", "number"), ("Threshold", "number")]
    rows = [
        [
            '<td class="good">✓ holds</td>' if rule.passed is True else '<td class="bad">✗ fails</td>',
            f"<td><code>{pages.text(rule.name)}</code><small>{pages.text(rule.sentence)}</small></td>",
            _rule_figure(rule.figure),
            _rule_figure(rule.threshold),
        ]
        for rule in sorted(rules, key=lambda rule: rule.passed is True)
    ]
    return pages.table(header, rows, css="rules")


def _rule_figure(figure: Figure) -> str:
    written = wording.rule_figure(figure)
    return pages.cell(written) if isinstance(figure, str) else pages.number_cell(written)
