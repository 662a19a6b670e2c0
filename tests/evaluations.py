"""An evaluation that is sound and passes the gate, with all its parts, and the clips that it was counted from.

A hundred clips of ten words by twelve speakers: the candidate gets 150 words of a thousand wrong, the baseline 450.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from avskrift.evaluation.clip_results import ClipResult, write_clip_results
from avskrift.evaluation.result import (
    CLIPS_FILE,
    NORMALISED,
    RAW,
    UTTERANCE_MEAN,
    Difference,
    ErrorRates,
    Estimate,
    Evaluation,
    Hallucination,
    LongForm,
    ModelScore,
    Retention,
    ShortContext,
    Slice,
    SoundHeard,
    Speed,
)
from avskrift.evaluation.result_file import write_result

CANDIDATE, BASELINE, OTHER = "a" * 64, "b" * 64, "c" * 64  # sha256 of packages
CLIPS = 100
_WORDS = ("vi", "bor", "i", "ett", "rött", "hus", "nära", "skogen", "och", "sjön")
_SECONDS = (1.5, 3.5, 5.0, 8.0)
_SPEAKERS = 12


def evaluation(**changes: Any) -> Evaluation:
    """The evaluation, with the fields named in ``changes`` replaced."""
    sound = Evaluation(
        dataset_fingerprint="f" * 64,
        split="test",
        language="sv",
        normaliser="sv-1",
        clips=CLIPS,
        hours=CLIPS * 4.5 / 3600,
        speakers=_SPEAKERS,
        resampled="speakers",
        resamples=10_000,
        confidence=0.95,
        candidate=_candidate(),
        baseline=_baseline(),
        wer_difference=Difference(value=-0.3, low=-0.35, high=-0.25, wins=1.0),
        engine="avskrift-2 ctranslate2 int8",
        machine="a machine with 2 cores",
        slices=_slices(),
        worst_slice=("duration", "2 to 4 s"),
        retention=_retention(),
        clips_sha256="e" * 64,
    )
    return dataclasses.replace(sound, **changes)


def clip_results(n: int = CLIPS) -> list[ClipResult]:
    """The first ``n`` clips; all hundred add up to the evaluation's counts."""
    return [_clip(number) for number in range(n)]


def changed(whole: Any, path: str, value: Any) -> Any:
    """``whole`` with the value at ``path`` replaced: fields, keys and places in tuples, as ``slices.0.difference.low``."""
    return _changed(whole, path.split("."), value)


def at(whole: Any, path: str) -> Any:
    """The value at ``path``, as :func:`changed` reads it."""
    for step in path.split("."):
        whole = _inside(whole, step)
    return whole


def write_evaluation(folder: Path, written: Evaluation | None = None, clips: list[ClipResult] | None = None) -> Evaluation:
    """Write an evaluation folder as evaluate does, without the report; return what was written, which names the clips' sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    write_clip_results(folder, clip_results() if clips is None else clips)
    digest = hashlib.sha256((folder / CLIPS_FILE).read_bytes()).hexdigest()
    sealed = dataclasses.replace(written or evaluation(), clips_sha256=digest)
    write_result(folder, sealed)
    return sealed


def estimate(value: float, margin: float) -> Estimate:
    return Estimate(value=value, low=max(0.0, value - margin), high=value + margin)


def difference(value: float, margin: float, wins: float = 0.5) -> Difference:
    return Difference(value=value, low=value - margin, high=value + margin, wins=wins)


def _candidate() -> ModelScore:
    return ModelScore(
        uri="a package",
        package_sha256=CANDIDATE,
        hypotheses=CLIPS,
        looped=1,
        rates={
            NORMALISED: _rates(0.15, substitutions=100, deletions=40, insertions=10),
            RAW: _rates(0.25, substitutions=200, deletions=40, insertions=10),
            UTTERANCE_MEAN: _rates(0.16, substitutions=100, deletions=40, insertions=10),
        },
        speed=Speed(audio_seconds_per_second=8.5, latency_p50_s=0.2, latency_p95_s=0.4, latency_clips=50),
        hallucination=_heard_in_sounds(words=3),
        long_form=_long_form(0.17),
        short_context=ShortContext(clips=30, wer=estimate(0.16, 0.03), wer_full=estimate(0.15, 0.03), loss=difference(0.01, 0.02)),
    )


def _baseline() -> ModelScore:
    return ModelScore(
        uri="package:whisper-base",
        package_sha256=BASELINE,
        hypotheses=CLIPS,
        looped=4,
        rates={
            NORMALISED: _rates(0.45, substitutions=400, deletions=50, insertions=0),
            RAW: _rates(0.6, substitutions=550, deletions=50, insertions=0),
            UTTERANCE_MEAN: _rates(0.47, substitutions=400, deletions=50, insertions=0),
        },
        speed=Speed(audio_seconds_per_second=4.0, latency_p50_s=0.5, latency_p95_s=0.8, latency_clips=50),
        hallucination=_heard_in_sounds(words=180),
        long_form=_long_form(0.5),
        short_context=None,
    )


def _rates(wer: float, *, substitutions: int, deletions: int, insertions: int) -> ErrorRates:
    return ErrorRates(
        wer=estimate(wer, 0.02),
        cer=estimate(wer / 3, 0.01),
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        reference_words=CLIPS * len(_WORDS),
    )


def _heard_in_sounds(words: int) -> Hallucination:
    kinds = ("silence", "hum", "white-noise", "pink-noise", "clicks", "speech-in-silence")
    heard = tuple(SoundHeard(kind=kind, recordings=6, seconds=60.0, words=words if kind == "clicks" else 0, looped=0) for kind in kinds)
    return Hallucination(words_a_minute=estimate(words / len(kinds), 0.5), sounds=heard)


def _long_form(wer: float) -> LongForm:
    return LongForm(
        recordings=3,
        seconds=450.0,
        clips=CLIPS,
        wer=estimate(wer, 0.03),
        wer_alone=estimate(wer - 0.02, 0.03),
        loss=difference(0.02, 0.01),
        clips_found=0.98,
        timestamp_error_s=0.08,
    )


def _retention() -> Retention:
    return Retention(
        dataset_fingerprint="d" * 64,
        language="en",
        clips=50,
        base_uri="package:whisper-base",
        base_sha256=BASELINE,
        candidate=estimate(0.21, 0.03),
        base=estimate(0.2, 0.03),
        loss=difference(0.01, 0.01),
    )


def _slices() -> tuple[Slice, ...]:
    easy, hard = (0.1, 0.4), (0.2, 0.5)
    return (
        _slice("duration", "under 2 s", 25, easy),
        _slice("duration", "2 to 4 s", 25, hard),
        _slice("duration", "4 to 7 s", 25, easy),
        _slice("duration", "7 to 15 s", 25, hard),
        _slice("gender", "female", 50, easy),
        _slice("gender", "male", 50, hard),
        _slice("source", "folder", 96, (0.15, 0.45)),
        _slice("source", "radio", 4, (0.15, 0.45)),
    )


def _slice(kind: str, name: str, clips: int, wers: tuple[float, float]) -> Slice:
    candidate, baseline = wers
    return Slice(
        kind=kind,
        name=name,
        clips=clips,
        speakers=4,
        reference_words=clips * len(_WORDS),
        candidate=estimate(candidate, 0.03),
        baseline=estimate(baseline, 0.03),
        difference=difference(candidate - baseline, 0.05, wins=1.0),
    )


def _clip(number: int) -> ClipResult:
    candidate, baseline = list(_WORDS), list(_WORDS)
    candidate[0] = "ni"
    baseline[:4] = ["när", "bord", "in", "en"]
    odd = number % 2
    if odd:
        baseline.pop()
        candidate = [*candidate, "ja"] if number % 10 == 1 else candidate[:-1]
    speaker = number % _SPEAKERS
    return ClipResult(
        clip_id=f"clip-{number:04}",
        duration_s=_SECONDS[number % len(_SECONDS)],
        reference=" ".join(_WORDS),
        baseline=" ".join(baseline),
        candidate=" ".join(candidate),
        reference_words=len(_WORDS),
        baseline_errors=4 + odd,
        candidate_errors=1 + odd,
        baseline_wer=(4 + odd) / len(_WORDS),
        candidate_wer=(1 + odd) / len(_WORDS),
        speaker_id=f"speaker-{speaker}",
        gender="male" if odd else "female",
        source="radio" if number % 25 == 0 else "folder",
    )


def _inside(whole: Any, step: str) -> Any:
    if isinstance(whole, dict):
        return whole[step]
    return whole[int(step)] if isinstance(whole, tuple) else getattr(whole, step)


def _changed(whole: Any, path: list[str], value: Any) -> Any:
    step, *rest = path
    inner = _changed(_inside(whole, step), rest, value) if rest else value
    if isinstance(whole, dict):
        return {**whole, step: inner}
    if isinstance(whole, tuple):
        return (*whole[: int(step)], inner, *whole[int(step) + 1 :])
    return dataclasses.replace(whole, **{step: inner})
