"""The clips that an evaluation's report shows: what was said, and below each word what each model heard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from avskrift import pages
from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.report_wording import Verdict
from avskrift.evaluation.word_alignment import aligned_words
from avskrift.text.normaliser import normalise

EXAMPLES = 20
_LONGEST_RUN = 12  # words that nobody said, one after the other, that are all shown
_NONE = '<p class="quiet">None.</p>'
_LEGEND = (
    '<p class="legend quiet">Words are compared as they are counted: normalised. <span><ins>inserted</ins> nobody said it</span>'
    "<span><del>deleted</del> was not heard</span><span><u>substituted</u> was heard instead</span></p>"
)


def worst(clips: Sequence[ClipResult]) -> list[ClipResult]:
    """The clips in which the candidate gets most words wrong."""
    wrong = [clip for clip in clips if clip.candidate_errors > 0]
    return sorted(wrong, key=lambda clip: (-clip.candidate_errors, clip.reference_words, clip.clip_id))[:EXAMPLES]


def most_changed(clips: Sequence[ClipResult]) -> list[ClipResult]:
    """The clips in which candidate and baseline differ most, better and worse together."""
    changed = [clip for clip in clips if clip.candidate_errors != clip.baseline_errors]
    by_change = sorted(changed, key=lambda clip: (-abs(clip.candidate_errors - clip.baseline_errors), clip.reference_words, clip.clip_id))
    return by_change[:EXAMPLES]


def worst_section(clips: Sequence[ClipResult], language: str, audio: Mapping[str, bytes]) -> str:
    """The :func:`worst` clips; ``audio`` holds FLAC by clip_id, of those that can be listened to."""
    wrong, chosen = sum(clip.candidate_errors > 0 for clip in clips), worst(clips)
    said = f"The candidate gets words wrong in {wrong:,} of {len(clips):,} clips. These are the {len(chosen)} with most."
    return pages.section("Worst clips", pages.paragraph(said, "quiet"), _LEGEND, _listed(chosen, language, audio))


def changed_section(clips: Sequence[ClipResult], language: str, audio: Mapping[str, bytes]) -> str:
    """The :func:`most_changed` clips."""
    better = sum(clip.candidate_errors < clip.baseline_errors for clip in clips)
    changed = sum(clip.candidate_errors != clip.baseline_errors for clip in clips)
    said = (
        f"Against the baseline {better:,} of {len(clips):,} clips improved, {changed - better:,} worsened and "
        f"{len(clips) - changed:,} kept their number of errors. These changed most."
    )
    return pages.section("Most changed clips", pages.paragraph(said, "quiet"), _LEGEND, _listed(most_changed(clips), language, audio))


def _listed(clips: Iterable[ClipResult], language: str, audio: Mapping[str, bytes]) -> str:
    items = "".join(f"<li>{_clip(clip, language, audio.get(clip.clip_id, b''))}</li>" for clip in clips)
    return f'<ol class="heard">{items}</ol>' if items else _NONE


def _clip(clip: ClipResult, language: str, flac: bytes) -> str:
    verdict, tongue = _change(clip), f'dir="auto" lang="{pages.text(language)}"'
    wrong = f"wrong: baseline {clip.baseline_errors:,}, candidate {clip.candidate_errors:,}"
    columns = "".join(map(_column, _columns(clip, language)))
    texts = (("Reference", clip.reference), ("Baseline", clip.baseline), ("Candidate", clip.candidate))
    written = "".join(f"<dt>{name}</dt><dd {tongue}>{pages.text(said) or pages.NOTHING}</dd>" for name, said in texts)
    return (
        f'<p><code>{pages.text(clip.clip_id) or pages.NOTHING}</code> <strong class="{verdict.css}">{verdict.words}</strong></p>'
        f'<p class="quiet">{clip.duration_s:.1f} s, {clip.reference_words:,} words; {wrong}</p>'
        f"{pages.player(flac, f'Clip {clip.clip_id}') if flac else ''}"
        '<div class="aligned"><div class="rows"><span>Reference</span><span>Baseline</span><span>Candidate</span></div>'
        f'<div class="words" {tongue}>{columns}</div></div><dl class="written">{written}</dl>'
    )


def _change(clip: ClipResult) -> Verdict:
    fewer = clip.baseline_errors - clip.candidate_errors
    if fewer > 0:
        return Verdict(words=f"▲ improved by {fewer:,}", css="good")
    return Verdict(words=f"▼ worsened by {-fewer:,}", css="bad") if fewer < 0 else Verdict(words="= as many errors", css="quiet")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """A cell below a word of the reference: ``kind`` is the element that marks it, none for a word that is right."""

    word: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A word of the reference, or none, and what baseline and candidate heard at its place."""

    reference: str
    heard: tuple[_Heard, _Heard]


@dataclass(slots=True)
class _Aligned:
    """One hypothesis by the words of the reference: what stands at each, and what was inserted before it (and after the last)."""

    at: list[_Heard] = field(default_factory=list)
    before: list[list[_Heard]] = field(default_factory=lambda: [[]])


def _columns(clip: ClipResult, language: str) -> list[_Column]:
    reference = normalise(clip.reference, language).split()
    baseline, candidate = (_aligned(reference, normalise(said, language).split()) for said in (clip.baseline, clip.candidate))
    columns: list[_Column] = []
    for place in range(len(reference) + 1):
        inserted = zip_longest(_short_run(baseline.before[place]), _short_run(candidate.before[place]), fillvalue=_Heard())
        columns += [_Column(reference="", heard=pair) for pair in inserted]
        if place < len(reference):
            columns.append(_Column(reference=reference[place], heard=(baseline.at[place], candidate.at[place])))
    return columns


def _aligned(reference: Sequence[str], hypothesis: Sequence[str]) -> _Aligned:
    aligned = _Aligned()
    for _, said, heard in aligned_words(reference, hypothesis):
        if said is None:
            aligned.before[-1].append(_Heard(word=heard or "", kind="ins"))
        else:
            aligned.at.append(_Heard(word=said, kind="del") if heard is None else _Heard(word=heard, kind="" if heard == said else "u"))
            aligned.before.append([])
    return aligned


def _short_run(inserted: list[_Heard]) -> list[_Heard]:
    """A text that repeats itself would fill the page."""
    left_out = len(inserted) - _LONGEST_RUN
    return inserted if left_out <= 0 else [*inserted[:_LONGEST_RUN], _Heard(word=f"… {left_out:,} more", kind="ins")]


def _column(column: _Column) -> str:
    return f"<span><span>{pages.text(column.reference)}</span>{''.join(map(_cell, column.heard))}</span>"


def _cell(heard: _Heard) -> str:
    if not heard.kind:
        return f"<span>{pages.text(heard.word)}</span>"
    return f"<span><{heard.kind}>{pages.text(heard.word)}</{heard.kind}></span>"
