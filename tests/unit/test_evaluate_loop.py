"""The evaluate loop over a real dataset folder. A scripted engine stands at its edge, and knows a clip by its loudness."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_models import NO_CLIP, SENTENCES, Scripted, clip, dataset, engine, first_word, right, subject

from avskrift import logs
from avskrift.corpus.dataset import Clip, Dataset
from avskrift.errors import DatasetError, EvaluationError, LanguageError, PackageError
from avskrift.evaluation.check_names import CHECKS
from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.evaluate import evaluate
from avskrift.evaluation.gate import decide
from avskrift.evaluation.hearing import Engine
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.result import NORMALISED, RAW, UTTERANCE_MEAN, Difference, Evaluation
from avskrift.evaluation.soundness import unsound_figures
from avskrift.whisper.package import ModelPackage
from avskrift.whisper.transcript import Options


def measure(
    data: Dataset,
    candidate: Scripted,
    baseline: Scripted,
    *,
    others: Sequence[Scripted] = (),
    language: str = "sv",
    batch_size: int = 4,
    checks: Sequence[str] = (),
) -> tuple[Evaluation, list[ClipResult]]:
    more = {f"other-{number}": model for number, model in enumerate(others)}
    return evaluate(
        data,
        "test",
        candidate=subject("candidate"),
        baseline=subject("baseline"),
        others=[subject(name) for name in more],
        language=language,
        engine=engine(batch_size=batch_size, candidate=candidate, baseline=baseline, **more),
        checks=checks,
    )


def test_both_models_are_measured_on_the_same_clips(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(number, duration_s=0.1, speaker=f"s{number % 12}") for number in range(30)], shards=3)
    evaluation, clips = measure(data, Scripted(right), Scripted(first_word))
    words = 10 * (4 + 4 + 8)
    assert (evaluation.clips, evaluation.speakers, evaluation.resampled) == (30, 12, "speakers")
    assert evaluation.hours == pytest.approx(30 * 0.1 / 3600)
    assert evaluation.normaliser == "sv-1"
    assert evaluation.candidate.wer.value == 0
    assert evaluation.baseline.wer.value == (words - 30) / words
    counted = evaluation.baseline.rates[NORMALISED]
    assert (counted.deletions, counted.substitutions, counted.insertions) == (words - 30, 0, 0)
    assert evaluation.candidate.rates[NORMALISED].reference_words == counted.reference_words == words
    assert evaluation.wer_difference.value == -evaluation.baseline.wer.value
    assert evaluation.wer_difference.high < 0
    assert evaluation.wer_difference.wins == 1
    assert (evaluation.candidate.uri, evaluation.baseline.uri) == ("candidate", "baseline")
    assert evaluation.candidate.package_sha256 == subject("candidate").package.description.sha256
    assert evaluation.candidate.hypotheses == evaluation.baseline.hypotheses == 30
    assert evaluation.candidate.speed.audio_seconds_per_second > 0
    assert (evaluation.engine, evaluation.machine) == ("a scripted engine", "a machine")
    assert len(clips) == 30


def test_what_evaluate_measures_passes_the_gate_with_every_check(tmp_path: Path) -> None:
    def hears(number: int) -> str:
        return "" if number == NO_CLIP else right(number)

    data = dataset(tmp_path, [clip(number, duration_s=1.0, speaker=f"s{number % 12}") for number in range(60)])
    evaluation, clips = measure(data, Scripted(hears), Scripted(first_word), checks=CHECKS)
    assert list(unsound_figures(evaluation)) == []
    # The scripted engine knows single clips only, so joined ones are beyond it.
    policy = Policy(max_long_form_loss=1.0)
    written = replace(evaluation, clips_sha256="c" * 64)
    decision = decide(written, policy, package_sha256=evaluation.candidate.package_sha256, clips=clips)
    assert [rule.name for rule in decision.failed] == [], decision.reasons
    assert evaluation.candidate.hallucination is not None
    assert evaluation.candidate.hallucination.words_a_minute.value == 0
    assert evaluation.baseline.hallucination is not None
    assert evaluation.baseline.hallucination.words_a_minute.low > 0
    assert evaluation.candidate.long_form is not None
    assert evaluation.candidate.speed.latency_clips == 30


def test_what_was_not_asked_for_is_not_measured(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(number, duration_s=1.0) for number in range(60)])
    candidate = Scripted(right)
    evaluation, _ = measure(data, candidate, Scripted(right), checks=[])
    for score in evaluation.models:
        assert (score.hallucination, score.long_form, score.short_context, score.speed.latency_clips) == (None, None, None, 0)
    assert candidate.recordings == 60


def test_two_models_that_hear_the_same_do_not_differ(tmp_path: Path) -> None:
    evaluation, _ = measure(dataset(tmp_path, [clip(number) for number in range(7)]), Scripted(first_word), Scripted(first_word))
    assert evaluation.wer_difference == Difference(value=0, low=0, high=0, wins=0.5)


def test_other_models_are_measured_beside_the_two(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(number) for number in range(6)])
    evaluation, clips = measure(
        data, Scripted(right), Scripted(first_word), others=[Scripted(lambda number: ""), Scripted(right)], checks=["latency"]
    )
    assert [score.uri for score in evaluation.others] == ["other-0", "other-1"]
    assert [score.wer.value for score in evaluation.others] == [1.0, 0.0]
    assert [score.hypotheses for score in evaluation.others] == [6, 6]
    assert all(score.speed.latency_clips == 6 for score in evaluation.models)
    assert clips[0].others == ("", right(0))


def test_the_three_protocols_stand_side_by_side(tmp_path: Path) -> None:
    evaluation, _ = measure(dataset(tmp_path, [clip(number) for number in range(9)]), Scripted(right), Scripted(first_word))
    rates = evaluation.candidate.rates
    assert rates[NORMALISED].wer.value == 0
    assert rates[RAW].wer.value == 1, "every word is in capitals"
    assert rates[UTTERANCE_MEAN].wer.value == 0
    words, utterances = evaluation.baseline.rates[NORMALISED].wer.value, evaluation.baseline.rates[UTTERANCE_MEAN].wer.value
    assert (words, utterances) == (pytest.approx(39 / 48), pytest.approx((3 / 4 + 3 / 4 + 7 / 8) / 3))


def test_texts_that_repeat_themselves_are_counted(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(number) for number in range(6)])
    evaluation, _ = measure(data, Scripted(lambda number: "tack " * 100 if number < 2 else right(number)), Scripted(right))
    assert (evaluation.candidate.looped, evaluation.baseline.looped) == (2, 0)


def test_clips_are_sliced_and_the_worst_slice_is_named(tmp_path: Path) -> None:
    clips = [clip(number, duration_s=3.0 if number < 12 else 0.5, gender="male" if number % 2 else "") for number in range(24)]
    data = dataset(tmp_path, clips)
    evaluation, results = measure(data, Scripted(lambda number: first_word(number) if number < 12 else right(number)), Scripted(right))
    named = {(one.kind, one.name): one for one in evaluation.slices}
    assert list(named) == [("duration", "under 2 s"), ("duration", "2 to 4 s"), ("gender", "male"), ("gender", "unknown")]
    assert evaluation.worst_slice == ("duration", "2 to 4 s")
    assert named["duration", "2 to 4 s"].difference.low > 0
    assert named["duration", "under 2 s"].difference.value == 0
    assert [one.gender for one in results[:2]] == ["", "male"]


def test_the_candidate_alone_is_tried_with_its_full_context(tmp_path: Path) -> None:
    contexts: list[tuple[str, str]] = []

    def load(package: ModelPackage) -> Scripted:
        policy = package.description.encoder_context.policy
        contexts.append((package.folder.name, policy))
        return Scripted(right if policy == "full" else first_word)

    evaluation, _ = evaluate(
        dataset(tmp_path, [clip(number) for number in range(12)]),
        "test",
        candidate=subject("candidate", policy="variable"),
        baseline=subject("baseline", policy="variable"),
        language="sv",
        engine=Engine(load=load, machine="a machine"),
        checks=["short-context"],
    )
    assert contexts == [("baseline", "variable"), ("candidate", "variable"), ("candidate", "full")]
    assert evaluation.baseline.short_context is None
    short = evaluation.candidate.short_context
    assert short is not None
    assert (short.clips, short.wer, short.wer_full.value) == (12, evaluation.candidate.wer, 0)
    assert short.loss.low > 0


def test_a_candidate_that_is_given_30_s_anyway_loses_nothing(tmp_path: Path) -> None:
    evaluation, _ = measure(
        dataset(tmp_path, [clip(number) for number in range(12)]), Scripted(first_word), Scripted(right), checks=["short-context"]
    )
    short = evaluation.candidate.short_context
    assert short is not None
    assert short.wer == short.wer_full == evaluation.candidate.wer
    assert short.loss == Difference(value=0, low=0, high=0, wins=0.5)


def test_batches_hold_clips_of_like_length_and_results_keep_the_order_of_the_split(tmp_path: Path) -> None:
    lengths = [0.3, 0.1, 0.2, 0.4, 0.15, 0.35, 0.25]
    data = dataset(tmp_path, [clip(number, duration_s=length) for number, length in enumerate(lengths)])
    candidate = Scripted(lambda number: f"text {number}")
    _, clips = measure(data, candidate, Scripted(right), batch_size=3)
    assert candidate.batches == [[6400, 5600, 4800], [4000, 3200, 2400], [1600]]
    assert [one.clip_id for one in clips] == [f"clip-{number}" for number in range(7)]
    assert [one.candidate for one in clips] == [f"text {number}" for number in range(7)]
    assert [one.duration_s for one in clips] == lengths


def test_a_split_longer_than_what_is_sorted_at_once_is_measured_whole(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(number, duration_s=0.01) for number in range(150)])
    candidate = Scripted(lambda number: f"text {number}")
    evaluation, clips = measure(data, candidate, Scripted(right), batch_size=2)
    assert evaluation.candidate.hypotheses == 150
    assert [one.candidate for one in clips] == [f"text {number}" for number in range(150)]


def test_the_models_are_told_the_language_and_nothing_of_the_reference(tmp_path: Path) -> None:
    candidate, baseline = Scripted(right), Scripted(right)
    measure(dataset(tmp_path, [clip(0)]), candidate, baseline)
    assert candidate.options == baseline.options == {Options(language="sv")}


def test_clip_results_hold_texts_as_they_are_and_count_normalised_words(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(0), clip(1, text="…")])
    _, clips = measure(data, Scripted(right), Scripted(lambda number: "Det snöar, i dag!"))
    assert (clips[0].reference, clips[0].candidate, clips[0].baseline) == ("Det regnar i dag.", "DET REGNAR I DAG.", "Det snöar, i dag!")
    assert (clips[0].reference_words, clips[0].baseline_errors, clips[0].candidate_errors) == (4, 1, 0)
    assert (clips[0].baseline_wer, clips[0].candidate_wer) == (0.25, 0)
    assert (clips[1].reference_words, clips[1].baseline_errors, clips[1].baseline_wer) == (0, 4, None)


def test_only_one_model_is_in_memory_at_a_time(tmp_path: Path) -> None:
    events: list[str] = []

    class Watched(Scripted):
        def __init__(self, name: str) -> None:
            super().__init__(right)
            self.name = name
            events.append(f"{name} loaded")

        def __del__(self) -> None:
            events.append(f"{self.name} gone")

    evaluate(
        dataset(tmp_path, [clip(number) for number in range(3)]),
        "test",
        candidate=subject("candidate", policy="variable"),
        baseline=subject("baseline"),
        language="sv",
        engine=Engine(load=lambda package: Watched(f"{package.folder.name} {package.description.encoder_context.policy}"), machine=""),
    )
    models = ["baseline full", "candidate variable", "candidate full"]
    assert events == [event for model in models for event in (f"{model} loaded", f"{model} gone")]


@pytest.mark.parametrize(
    ("clips", "described", "message"),
    [
        ([], 0, "the test split is empty"),
        ([clip(0), clip(1)], 3, "2 test clips where dataset.json counts 3"),
        ([clip(0), clip(1)], 1, "2 test clips where dataset.json counts 1"),
        ([clip(0, text="…"), clip(1, text="")], None, "no test transcript holds a word"),
        ([clip(0), replace(clip(1), duration_s=math.nan)], None, "clip clip-1 of test: a duration of nan"),
        ([replace(clip(0), duration_s=0.0)], None, "clip clip-0 of test: a duration of 0.0"),
    ],
    ids=["empty", "clips lost", "clips added", "no words", "nan duration", "no duration"],
)
def test_a_split_that_cannot_be_measured_is_refused_before_any_model_is_loaded(
    tmp_path: Path, clips: list[Clip], described: int | None, message: str
) -> None:
    def load(package: ModelPackage) -> Scripted:
        raise AssertionError("a model was loaded")

    with pytest.raises(EvaluationError, match=message):
        evaluate(
            dataset(tmp_path, clips, described=described),
            "test",
            candidate=subject("candidate"),
            baseline=subject("baseline"),
            language="sv",
            engine=Engine(load=load, machine=""),
        )


def test_an_engine_that_skips_a_clip_is_refused(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(number) for number in range(6)])
    with pytest.raises(EvaluationError, match="candidate: the engine gave 3 transcripts for 4 clips"):
        measure(data, Scripted(right, missing=1), Scripted(right))


def test_models_run_by_two_engines_are_not_compared(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(0)])
    with pytest.raises(EvaluationError, match="the candidate was transcribed by engine, int8, the baseline by engine, float16"):
        measure(data, Scripted(right, identity="engine, int8"), Scripted(right, identity="engine, float16"))


def test_a_dataset_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(number) for number in range(6)])

    def shrink(package: ModelPackage) -> Scripted:
        if package.folder.name == "candidate":
            dataset(tmp_path, [clip(number) for number in range(5)])
        return Scripted(right)

    with pytest.raises(EvaluationError, match="candidate: 5 clips were transcribed where 6 were counted"):
        evaluate(
            data,
            "test",
            candidate=subject("candidate"),
            baseline=subject("baseline"),
            language="sv",
            engine=Engine(load=shrink, machine=""),
            checks=[],
        )


def test_a_language_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match=r"the baseline cannot be measured: .*fi"):
        measure(dataset(tmp_path, [clip(0)]), Scripted(right), Scripted(right), language="fi")


@pytest.mark.parametrize("broken", ["baseline", "candidate", "other-0"])
def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path, broken: str) -> None:
    def load(package: ModelPackage) -> Scripted:
        if package.folder.name == broken:
            raise PackageError("its weights are none")
        return Scripted(right)

    with pytest.raises(PackageError, match=f"the {broken.replace('-0', ' 1')} cannot be measured: its weights are none"):
        evaluate(
            dataset(tmp_path, [clip(0)]),
            "test",
            candidate=subject("candidate"),
            baseline=subject("baseline"),
            others=[subject("other-0")],
            language="sv",
            engine=Engine(load=load, machine=""),
            checks=[],
        )


def test_a_recording_that_cannot_be_decoded_names_its_clip(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(0), replace(clip(1), audio=b"not a recording")])
    with pytest.raises(DatasetError, match="clip-1"):
        measure(data, Scripted(right), Scripted(right))


def test_logs_tell_the_progress_and_nothing_that_was_said(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(level="debug", fmt="json", stream=stream)
    try:
        measure(dataset(tmp_path, [clip(number) for number in range(3)]), Scripted(right), Scripted(first_word))
    finally:
        logs.configure()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [
        "evaluation.started",
        "progress",
        "evaluation.transcribed",
        "progress",
        "evaluation.transcribed",
        "evaluation.finished",
    ]
    assert not [word for text in SENTENCES for word in text.rstrip(".?").split() if word.lower() in stream.getvalue().lower().split()]
    assert "clip-" not in stream.getvalue()
