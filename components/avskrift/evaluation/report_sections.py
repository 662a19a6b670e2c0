"""The sections of an evaluation's report that show figures, as markup. What was not measured says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from avskrift import pages
from avskrift.evaluation import report_wording as wording
from avskrift.evaluation.report_figures import DURATION, slice_chart, wer_chart
from avskrift.evaluation.report_wording import NOT_MEASURED, Bounded, Model, models
from avskrift.evaluation.result import PROTOCOLS, ErrorRates, Evaluation, LongForm, ShortContext, Slice, Speed

M = TypeVar("M")
Shown = tuple[str, str]  # a figure, and what stands small below it
_UNMEASURED: Shown = (NOT_MEASURED, "")


def error_rate_section(evaluation: Evaluation) -> str:
    """WER of all models with intervals, and the difference."""
    difference, compared = evaluation.wer_difference, wording.compared(evaluation.wer_difference)
    interval = f"{wording.confidence(evaluation)} interval"
    cards = [
        ("WER, baseline", pages.percent(evaluation.baseline.wer.value), f"{interval} {wording.interval(evaluation.baseline.wer)}"),
        ("WER, candidate", pages.percent(evaluation.candidate.wer.value), f"{interval} {wording.interval(evaluation.candidate.wer)}"),
        ("Difference, percentage points", wording.points(difference.value), f"{interval} {wording.points_interval(difference)}"),
        ("Resamples that the candidate wins", wording.share(difference.wins), f"of {evaluation.resamples:,}; a tie counts half"),
    ]
    return pages.section(
        "Word error rate",
        pages.paragraph(wording.measured_on(evaluation), "quiet"),
        f'<div class="cards">{pages.cards(cards)}</div>',
        f'<p><strong class="{compared.css}">{pages.text(compared.words)}</strong></p>',
        wer_chart(evaluation),
        f"<dl>{pages.definitions((model.name, model.score.uri) for model in models(evaluation))}</dl>",
    )


def protocol_section(evaluation: Evaluation) -> str:
    """The three protocols side by side."""
    measures: tuple[tuple[str, Callable[[ErrorRates], Shown]], ...] = (
        ("Word error rate", lambda rates: _rate(rates.wer)),
        ("Character error rate", lambda rates: _rate(rates.cer)),
        ("Substituted, deleted, inserted", _counts),
    )
    rows = [
        [pages.cell(name if place == 0 else ""), pages.cell(model.name), *_cells(shown(model.score.rates[one]) for one in PROTOCOLS)]
        for name, shown in measures
        for place, model in enumerate(models(evaluation))
    ]
    header = [("", ""), ("", ""), *((wording.PROTOCOL_NAMES[one], "number") for one in PROTOCOLS)]
    explained = (
        f"Normalised: all errors over all words of the references, after normaliser {evaluation.normaliser}. It is the WER wherever no "
        f"protocol is named. Raw: the same over the texts as written and as transcribed. Mean of utterances: the mean of the rates of "
        f"single clips, after lower-casing and writing numbers as words. Rates by different protocols cannot be compared."
    )
    return pages.section("Three protocols", pages.table(header, rows, css="narrow"), pages.paragraph(explained, "quiet"))


def slice_section(evaluation: Evaluation) -> str:
    """WER by what clips have in common."""
    if not evaluation.slices:
        return pages.section("Slices", pages.paragraph(f"{NOT_MEASURED.capitalize()}.", "quiet"))
    header = [("", ""), ("Slice", ""), ("Clips", "number"), ("Speakers", "number"), ("Words", "number")]
    header += [("Baseline", "number"), ("Candidate", "number"), ("Difference", "number"), ("Wins", "number")]
    return pages.section(
        "Slices",
        *(pages.paragraph(sentence) for sentence in slice_sentences(evaluation)),
        f'<div class="pair">{_slice_charts(evaluation)}</div>',
        pages.table(header, [_slice_row(evaluation, place) for place in range(len(evaluation.slices))]),
        pages.paragraph("Difference is candidate minus baseline in percentage points; wins is the share of the resamples.", "quiet"),
    )


def slice_sentences(evaluation: Evaluation) -> list[str]:
    """Where the candidate is weakest, and where it is worse than the baseline."""
    worse = [f"{one.kind} {one.name}" for one in evaluation.slices if one.difference.low > 0]
    sentences = ["No slice has enough clips to be named the worst."]
    if evaluation.worst_slice:
        kind, name = evaluation.worst_slice
        rates = [pages.percent(one.candidate.value) for one in evaluation.slices if (one.kind, one.name) == (kind, name)]
        sentences = [f"The candidate is weakest in the slice {kind} {name}{f': WER {rates[0]}' if rates else ''}."]
    if worse:
        return [*sentences, f"It is worse than the baseline, beyond chance, in {', '.join(worse)}."]
    return [*sentences, "It is worse than the baseline, beyond chance, in none."]


def _slice_charts(evaluation: Evaluation) -> str:
    by_duration = [one for one in evaluation.slices if one.kind == DURATION]
    others = [one for one in evaluation.slices if one.kind != DURATION]
    return "".join(
        f"<div><h3>{pages.text(label)}</h3>{slice_chart(evaluation, slices, label)}</div>"
        for label, slices in (("WER by length of the recording", by_duration), ("WER by the other slices", others))
        if slices
    )


def _slice_row(evaluation: Evaluation, place: int) -> list[str]:
    one = evaluation.slices[place]
    first_of_kind = place == 0 or evaluation.slices[place - 1].kind != one.kind
    return [
        pages.cell(one.kind if first_of_kind else ""),
        _slice_name(one, worst=(one.kind, one.name) == evaluation.worst_slice),
        *(pages.number_cell(f"{count:,}" if count else pages.NOTHING) for count in (one.clips, one.speakers, one.reference_words)),
        *_cells([_rate(one.baseline), _rate(one.candidate), _points(one.difference), (wording.share(one.difference.wins), "")]),
    ]


def _slice_name(one: Slice, *, worst: bool) -> str:
    marks = ", ".join(["worst"] * worst + ["worse than the baseline"] * (one.difference.low > 0))
    marked = f' <strong class="bad">{marks}</strong>' if marks else ""
    return f"<td>{pages.text(one.name)}{marked}</td>"


def hallucination_section(evaluation: Evaluation) -> str:
    """What was heard where nobody speaks, and texts that repeat themselves."""
    shown = models(evaluation)
    looped = "; ".join(f"{model.name.lower()}: {model.score.looped:,} of {model.score.hypotheses:,}" for model in shown)
    return pages.section(
        "Words that nobody said",
        _sounds(shown),
        pages.paragraph(f"Clips of the {evaluation.split} split whose text repeats itself. {looped.capitalize()}."),
    )


def _sounds(shown: Sequence[Model]) -> str:
    heard = [model.score.hallucination for model in shown if model.score.hallucination]
    if not heard:
        return pages.paragraph(f"Sounds without speech: {NOT_MEASURED}.", "quiet")
    sounds = {sound.kind: sound for one in heard for sound in one.sounds}
    said = (
        f"{sum(sound.recordings for sound in sounds.values()):,} recordings of sounds that were generated; where speech is in them, its own"
    )
    rows = [[pages.cell("All together"), *_cells(map(_words_a_minute, shown))]]
    rows += [[pages.cell(wording.SOUND_NAMES.get(kind, kind)), *_cells(_heard_in(model, kind) for model in shown)] for kind in sounds]
    header = [("Words a minute", ""), *((model.name, "number") for model in shown)]
    return f"{pages.paragraph(f'{said} words are not counted.')}{pages.table(header, rows, css='narrow')}"


def _words_a_minute(model: Model) -> Shown:
    heard = model.score.hallucination
    if heard is None:
        return _UNMEASURED
    rate = heard.words_a_minute
    return f"{rate.value:,.1f}", f"[{rate.low:,.1f}, {rate.high:,.1f}]"


def _heard_in(model: Model, kind: str) -> Shown:
    for sound in model.score.hallucination.sounds if model.score.hallucination else ():
        if sound.kind == kind:
            rate = f"{60 * sound.words / sound.seconds:,.1f}" if sound.seconds else pages.NOTHING
            return rate, f"{sound.words:,} in {sound.seconds:,.0f} s{f', {sound.looped} repeat' if sound.looped else ''}"
    return _UNMEASURED


def long_form_section(evaluation: Evaluation) -> str:
    """Clips joined into long recordings, beside the same clips alone."""
    measured = [(model.name, model.score.long_form) for model in models(evaluation)]
    rows: list[tuple[str, Callable[[LongForm], Shown]]] = [
        ("WER, joined", lambda one: _rate(one.wer)),
        ("WER, the same clips alone", lambda one: _rate(one.wer_alone)),
        ("Loss, percentage points", lambda one: _points(one.loss)),
        ("Clips found in order", lambda one: (wording.share(one.clips_found), "")),
        ("Median error of timestamps", lambda one: (f"{one.timestamp_error_s:.2f} s", "")),
    ]
    said = [
        f"{one.clips:,} clips, joined to {one.recordings:,} recordings of {one.seconds / 60:,.1f} minutes." for _, one in measured if one
    ]
    return _by_model("Long recordings", measured, rows, said[:1])


def short_context_section(evaluation: Evaluation) -> str:
    """The shortest clips, encoded as the package says and at 30 s."""
    measured = [(model.name, model.score.short_context) for model in models(evaluation)]
    rows: list[tuple[str, Callable[[ShortContext], Shown]]] = [
        ("WER, encoded as the package says", lambda one: _rate(one.wer)),
        ("WER, encoded at 30 s", lambda one: _rate(one.wer_full)),
        ("Loss, percentage points", lambda one: _points(one.loss)),
    ]
    return _by_model("Short context", measured, rows, [f"The {one.clips:,} shortest clips." for _, one in measured if one][:1])


def retention_section(evaluation: Evaluation) -> str:
    """What the candidate lost of what the model that it was trained from could do."""
    kept, heading = evaluation.retention, "What was kept of the base model"
    if kept is None:
        return pages.section(heading, pages.paragraph(f"{NOT_MEASURED.capitalize()}: no second dataset was given.", "quiet"))
    entries = [("Base model", kept.base_uri), ("Its sha256", kept.base_sha256), ("Dataset", kept.dataset_fingerprint)]
    row = _cells([_rate(kept.base), _rate(kept.candidate), _points(kept.loss), (wording.share(kept.loss.wins), "")])
    header = [("", ""), ("Base model", "number"), ("Candidate", "number"), ("Loss, points", "number"), ("Wins", "number")]
    return pages.section(
        heading,
        pages.paragraph(f"{kept.clips:,} clips of a second dataset, language {kept.language}."),
        pages.table(header, [[pages.cell("Word error rate"), *row]], css="narrow"),
        f"<dl>{pages.definitions(entries)}</dl>",
    )


def speed_section(evaluation: Evaluation) -> str:
    """How fast each model was, and on what."""
    rows: list[tuple[str, Callable[[Speed], Shown]]] = [
        ("Seconds of audio a second", lambda one: (f"{one.audio_seconds_per_second:,.1f}", "")),
        ("Seconds for one clip, median", lambda one: _latency(one, one.latency_p50_s)),
        ("Seconds for one clip, 95th percentile", lambda one: _latency(one, one.latency_p95_s)),
    ]
    measured = [(model.name, model.score.speed) for model in models(evaluation)]
    said = f"On {evaluation.machine or 'a machine that is not named'}. The time for one clip was taken one clip at a time."
    return _by_model("Speed", measured, rows, [said])


def _latency(speed: Speed, seconds: float) -> Shown:
    return (f"{seconds:,.2f}", f"{speed.latency_clips:,} clips") if speed.latency_clips else _UNMEASURED


def method_section(evaluation: Evaluation) -> str:
    """How it was measured, and on exactly what."""
    why = ", since speakers are unknown or too few" if evaluation.resampled == "clips" else ""
    said = (
        f"Intervals are {wording.confidence(evaluation)} percentile intervals of {evaluation.resamples:,} bootstrap resamples of "
        f"{evaluation.resampled}{why}; a difference takes the same resamples for both models. Everything was transcribed through the "
        f"engine that serves."
    )
    entries = [(f"{model.name}, sha256", model.score.package_sha256) for model in models(evaluation)]
    entries += [
        ("Dataset", evaluation.dataset_fingerprint),
        ("Split", evaluation.split),
        ("Normaliser", evaluation.normaliser),
        ("Engine", evaluation.engine),
        ("Machine", evaluation.machine),
        ("Clips' results, sha256", evaluation.clips_sha256),
    ]
    return pages.section("How it was measured", pages.paragraph(said), f"<dl>{pages.definitions(entries)}</dl>")


def _by_model(
    heading: str, measured: Sequence[tuple[str, M | None]], rows: Sequence[tuple[str, Callable[[M], Shown]]], said: Sequence[str]
) -> str:
    """What was measured of the models, each with its name, as a table with a column for each."""
    if not any(one for _, one in measured):
        return pages.section(heading, pages.paragraph(f"{NOT_MEASURED.capitalize()}.", "quiet"))
    header = [("", ""), *((name, "number") for name, _ in measured)]
    body = [[pages.cell(name), *_cells(shown(one) if one else _UNMEASURED for _, one in measured)] for name, shown in rows]
    return pages.section(heading, *map(pages.paragraph, said), pages.table(header, body, css="narrow"))


def _cells(shown: Iterable[Shown]) -> list[str]:
    return [pages.figure_cell(*one) for one in shown]


def _rate(estimate: Bounded) -> Shown:
    return pages.percent(estimate.value), wording.interval(estimate)


def _points(difference: Bounded) -> Shown:
    return wording.points(difference.value), wording.points_interval(difference)


def _counts(rates: ErrorRates) -> Shown:
    return f"{rates.substitutions:,} + {rates.deletions:,} + {rates.insertions:,}", f"of {rates.reference_words:,} words"
