"""The evaluate loop over a real dataset folder. A scripted engine stands at its edge, and knows a clip by its loudness."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from avskrift import logs
from avskrift.corpus.dataset import CLIP_SCHEMA, Clip, Dataset, DatasetDescription, SplitSummary
from avskrift.errors import DatasetError, EvaluationError, LanguageError
from avskrift.evaluation.evaluate import Subject, evaluate
from avskrift.evaluation.gate import Policy, decide
from avskrift.storage.manifest import FileDigest
from avskrift.whisper.package import EncoderContext, ModelPackage, PackageDescription
from avskrift.whisper.transcript import Audio, Options, Transcript

SENTENCES = ("Det regnar i dag.", "Var ligger närmaste järnvägsstation?", "Sju sjösjuka sjömän sköttes av sjutton sköna sjuksköterskor.")


def clip(number: int, *, text: str | None = None, duration_s: float = 0.1, speaker: str = "") -> Clip:
    buffer = io.BytesIO()
    sf.write(buffer, np.full(round(16_000 * duration_s), (number + 1) / 1000, dtype=np.float32), 16_000, format="FLAC")
    said = SENTENCES[number % len(SENTENCES)] if text is None else text
    return Clip(clip_id=f"clip-{number}", audio=buffer.getvalue(), duration_s=duration_s, text=said, speaker_id=speaker)


def dataset(folder: Path, clips: Sequence[Clip], *, described: int | None = None, shards: int = 1) -> Dataset:
    for shard in range(shards):
        rows = [one.row() for one in clips[shard * len(clips) // shards : (shard + 1) * len(clips) // shards]]
        pq.write_table(pa.Table.from_pylist(rows, schema=CLIP_SCHEMA), folder / f"test-{shard:05}.parquet")
    summary = SplitSummary(clips=len(clips) if described is None else described, hours=0.0, speakers=0)
    return Dataset(
        folder,
        DatasetDescription(
            fingerprint="f" * 64,
            language="sv",
            licence="",
            source="",
            source_sha256="",
            normaliser="",
            splits={"test": summary},
            rejected=0,
        ),
    )


def subject(name: str) -> Subject:
    files = {"ct2/model.bin": FileDigest(sha256=name[0] * 64, size=1)}
    described = PackageDescription(base_model="", base_model_sha256="", languages=(), encoder_context=EncoderContext(), files=files)
    return Subject(uri=name, package=ModelPackage(Path(name), described))


class Scripted:
    """Answers clip ``number`` with ``script(number)``."""

    languages = frozenset({"sv"})

    def __init__(self, script, *, identity: str = "a scripted engine", missing: int = 0) -> None:
        self._script, self._identity, self._missing = script, identity, missing
        self.batches: list[list[int]] = []  # lengths in samples
        self.options: set[Options] = set()

    def identity(self) -> str:
        return self._identity

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        if options.language not in self.languages:
            raise LanguageError(f"this model does not know {options.language}")
        self.batches.append([len(recording) for recording in recordings])
        self.options.add(options)
        numbers = [round(float(recording[0]) * 1000) - 1 for recording in recordings]
        heard = [Transcript(text=self._script(number), language="sv", duration_s=1) for number in numbers]
        return heard[self._missing :]


def right(number: int) -> str:
    return SENTENCES[number % len(SENTENCES)].upper()


def first_word(number: int) -> str:
    return SENTENCES[number % len(SENTENCES)].split()[0]


def loading(**engines: Scripted):
    return lambda package: engines[package.folder.name]


def measure(data: Dataset, candidate: Scripted, baseline: Scripted, *, language: str = "sv", batch_size: int = 4):
    return evaluate(
        data,
        "test",
        candidate=subject("candidate"),
        baseline=subject("baseline"),
        language=language,
        load=loading(candidate=candidate, baseline=baseline),
        batch_size=batch_size,
    )


def test_both_models_are_measured_on_the_same_clips(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(number, duration_s=0.1, speaker=f"s{number % 12}") for number in range(30)], shards=3)
    evaluation, clips = measure(data, Scripted(right), Scripted(first_word))
    words = 10 * (4 + 4 + 8)
    assert (evaluation.clips, evaluation.speakers, evaluation.resampled) == (30, 12, "speakers")
    assert evaluation.hours == pytest.approx(30 * 0.1 / 3600)
    assert evaluation.normaliser == "generic-1"
    assert evaluation.candidate.wer.value == 0
    assert evaluation.baseline.wer.value == (words - 30) / words
    assert (evaluation.baseline.deletions, evaluation.baseline.substitutions, evaluation.baseline.insertions) == (words - 30, 0, 0)
    assert evaluation.candidate.reference_words == evaluation.baseline.reference_words == words
    assert evaluation.wer_difference.value == -evaluation.baseline.wer.value
    assert evaluation.wer_difference.high < 0
    assert (evaluation.candidate.uri, evaluation.baseline.uri) == ("candidate", "baseline")
    assert evaluation.candidate.package_sha256 == subject("candidate").package.description.sha256
    assert evaluation.candidate.hypotheses == evaluation.baseline.hypotheses == 30
    assert evaluation.candidate.audio_seconds_per_second > 0
    assert evaluation.engine == "a scripted engine"
    assert len(clips) == 30


def test_what_evaluate_measures_is_sound_in_the_eyes_of_the_gate(tmp_path: Path) -> None:
    evaluation, _ = measure(dataset(tmp_path, [clip(number) for number in range(30)]), Scripted(right), Scripted(first_word))
    decision = decide(evaluation, Policy(), package_sha256=evaluation.candidate.package_sha256)
    assert decision.passed, decision.reasons
    assert not decide(replace(evaluation, wer_difference=evaluation.baseline.wer), Policy(), package_sha256="a" * 64).passed


def test_two_models_that_hear_the_same_do_not_differ(tmp_path: Path) -> None:
    evaluation, _ = measure(dataset(tmp_path, [clip(number) for number in range(7)]), Scripted(first_word), Scripted(first_word))
    assert (evaluation.wer_difference.value, evaluation.wer_difference.low, evaluation.wer_difference.high) == (0, 0, 0)


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
        candidate=subject("candidate"),
        baseline=subject("baseline"),
        language="sv",
        load=lambda package: Watched(package.folder.name),
    )
    assert events == ["baseline loaded", "baseline gone", "candidate loaded", "candidate gone"]


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
            load=load,
        )


def test_an_engine_that_skips_a_clip_is_refused(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(number) for number in range(6)])
    with pytest.raises(EvaluationError, match="candidate: the engine gave 3 transcripts for 4 clips"):
        measure(data, Scripted(right, missing=1), Scripted(right))


def test_models_run_by_two_engines_are_not_compared(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(0)])
    with pytest.raises(EvaluationError, match="int8, the baseline by engine, float16"):
        measure(data, Scripted(right, identity="engine, int8"), Scripted(right, identity="engine, float16"))


def test_a_dataset_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    data = dataset(tmp_path, [clip(number) for number in range(6)])

    def shrink(package: ModelPackage) -> Scripted:
        if package.folder.name == "candidate":
            dataset(tmp_path, [clip(number) for number in range(5)])
        return Scripted(right)

    with pytest.raises(EvaluationError, match="candidate: 5 clips were transcribed where 6 were counted"):
        evaluate(data, "test", candidate=subject("candidate"), baseline=subject("baseline"), language="sv", load=shrink)


def test_a_language_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LanguageError):
        measure(dataset(tmp_path, [clip(0)]), Scripted(right), Scripted(right), language="fi")


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
