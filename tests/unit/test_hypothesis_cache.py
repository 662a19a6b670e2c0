"""What models heard is kept, and used again only where everything that decides it is the same."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_models import Scripted, clip, dataset, engine, first_word, right, subject

from avskrift import logs
from avskrift.corpus.dataset import Dataset
from avskrift.evaluation.check_names import CHECKS
from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.evaluate import evaluate
from avskrift.evaluation.hypothesis_cache import HypothesisCache
from avskrift.evaluation.result import Evaluation
from avskrift.whisper.package import EncoderContext

CLIPS = 45  # clips of a second: enough for a long recording


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return dataset(tmp_path / "dataset", [clip(number, duration_s=1.0) for number in range(CLIPS)])


@pytest.fixture
def cache(tmp_path: Path) -> HypothesisCache:
    return HypothesisCache(tmp_path / "cache")


def measure(
    data: Dataset,
    cache: HypothesisCache | None,
    *models: Scripted,
    checks: tuple[str, ...] = (),
    machine: str = "a machine",
    language: str = "sv",
    policy: str = "full",
) -> tuple[Evaluation, list[ClipResult]]:
    candidate, baseline = models
    return evaluate(
        data,
        "test",
        candidate=subject("candidate", policy=policy),
        baseline=subject("baseline", policy=policy),
        language=language,
        engine=engine(candidate=candidate, baseline=baseline, cache=cache, machine=machine),
        checks=checks,
    )


def entries(cache: HypothesisCache) -> list[Path]:
    return sorted(cache.folder.iterdir())


def test_the_second_evaluation_transcribes_nothing_and_finds_the_same(data: Dataset, cache: HypothesisCache) -> None:
    first = measure(data, cache, Scripted(right), Scripted(first_word), checks=CHECKS, policy="variable")
    candidate, baseline = Scripted(right), Scripted(first_word)
    second = measure(data, cache, candidate, baseline, checks=CHECKS, policy="variable")
    assert second == first, "speeds and latencies too, since it is the same machine"
    assert (candidate.recordings, baseline.recordings) == (0, 0)


def test_without_a_cache_everything_is_transcribed_anew(data: Dataset, cache: HypothesisCache) -> None:
    measure(data, cache, Scripted(right), Scripted(right))
    candidate = Scripted(right)
    measure(data, None, candidate, Scripted(right))
    assert candidate.recordings == CLIPS


def test_the_same_package_as_candidate_and_as_baseline_is_transcribed_once(data: Dataset, cache: HypothesisCache) -> None:
    model = Scripted(right)
    evaluate(
        data,
        "test",
        candidate=subject("candidate"),
        baseline=subject("candidate"),
        language="sv",
        engine=engine(candidate=model, cache=cache),
        checks=(),
    )
    assert model.recordings == CLIPS


@pytest.mark.parametrize("what", ["engine", "language", "context", "dataset", "recordings"])
def test_whatever_decides_what_is_heard_is_part_of_the_key(data: Dataset, cache: HypothesisCache, tmp_path: Path, what: str) -> None:
    measure(data, cache, Scripted(right), Scripted(right))
    identity = "a newer engine" if what == "engine" else "a scripted engine"
    if what == "dataset":
        data = replace(data, description=replace(data.description, fingerprint="e" * 64))
    if what == "recordings":  # a fingerprint does not hang on the order of the clips
        data = dataset(tmp_path / "dataset", [clip(number, duration_s=1.0) for number in reversed(range(CLIPS))])
    candidate, baseline = Scripted(right, identity=identity), Scripted(right, identity=identity)
    evaluation, clips = measure(
        data,
        cache,
        candidate,
        baseline,
        language="en" if what == "language" else "sv",
        policy="variable" if what == "context" else "full",
    )
    assert (candidate.recordings, baseline.recordings) == (CLIPS, CLIPS)
    assert evaluation.candidate.wer.value == 0
    assert all(one.candidate == one.reference.upper() for one in clips)


@pytest.mark.parametrize("frames", [50, 200])
def test_every_setting_of_the_context_counts(data: Dataset, cache: HypothesisCache, frames: int) -> None:
    measure(data, cache, Scripted(right), Scripted(right), policy="variable")
    candidate = Scripted(right)
    changed = subject("candidate")
    described = replace(changed.package.description, encoder_context=EncoderContext(policy="variable", minimum_frames=frames))
    evaluate(
        data,
        "test",
        candidate=replace(changed, package=replace(changed.package, description=described)),
        baseline=subject("baseline", policy="variable"),
        language="sv",
        engine=engine(candidate=candidate, baseline=Scripted(right), cache=cache),
        checks=(),
    )
    assert candidate.recordings == CLIPS


@pytest.mark.parametrize(
    "broken",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"texts": ["text"]}', b'{"texts": [], "speeds": {}, "sha256": "0"}'],
    ids=["empty", "half", "list", "null", "no text", "no seal", "wrong seal"],
)
def test_a_broken_entry_is_ignored_said_and_measured_again(data: Dataset, cache: HypothesisCache, broken: bytes) -> None:
    expected = measure(data, cache, Scripted(right), Scripted(first_word))[1]
    for entry in entries(cache):
        entry.write_bytes(broken)
    stream, candidate = io.StringIO(), Scripted(right)
    logs.configure(fmt="json", stream=stream)
    try:
        assert measure(data, cache, candidate, Scripted(first_word))[1] == expected
    finally:
        logs.configure()
    assert candidate.recordings == CLIPS
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()].count("evaluation.cache_entry_ignored") == 2
    repaired = Scripted(right)
    measure(data, cache, repaired, Scripted(first_word))
    assert repaired.recordings == 0


def test_a_text_changed_by_hand_is_not_believed(data: Dataset, cache: HypothesisCache) -> None:
    measure(data, cache, Scripted(first_word), Scripted(first_word))
    for entry in entries(cache):
        kept = json.loads(entry.read_text(encoding="utf-8"))
        entry.write_text(json.dumps(kept | {"texts": [right(number) for number in range(CLIPS)]}), encoding="utf-8")
    evaluation, _ = measure(data, cache, Scripted(first_word), Scripted(first_word))
    assert evaluation.candidate.wer.value > 0.5


def test_texts_from_another_machine_are_used_and_its_speed_is_not(data: Dataset, cache: HypothesisCache) -> None:
    there, _ = measure(data, cache, Scripted(right), Scripted(right), checks=("latency",), machine="there")
    candidate = Scripted(right)
    here, clips = measure(data, cache, candidate, Scripted(right), checks=("latency",), machine="here")
    assert candidate.recordings == 30 + 1 + 30, "speed in batches, the first clip to warm up, then one by one"
    assert all(one.candidate == one.reference.upper() for one in clips)
    assert here.candidate.speed != there.candidate.speed
    again, _ = measure(data, cache, Scripted(right), Scripted(right), checks=("latency",), machine="there")
    assert again.candidate.speed == there.candidate.speed


def test_a_latency_that_was_not_asked_for_before_is_measured_when_it_is(data: Dataset, cache: HypothesisCache) -> None:
    measure(data, cache, Scripted(right), Scripted(right))
    candidate = Scripted(right)
    evaluation, _ = measure(data, cache, candidate, Scripted(right), checks=("latency",))
    assert (evaluation.candidate.speed.latency_clips, candidate.recordings) == (30, 31)
    without, _ = measure(data, cache, Scripted(right), Scripted(right))
    assert without.candidate.speed.latency_clips == 0
    assert without.candidate.speed.audio_seconds_per_second == evaluation.candidate.speed.audio_seconds_per_second


def test_a_cache_that_cannot_be_written_stops_nothing(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    evaluation, _ = measure(data, HypothesisCache(tmp_path / "file" / "cache"), Scripted(right), Scripted(first_word), checks=CHECKS)
    assert evaluation.candidate.wer.value == 0


def test_an_engine_that_skips_a_recording_is_refused_and_not_kept(data: Dataset, cache: HypothesisCache) -> None:
    with pytest.raises(Exception, match="transcripts for"):
        measure(data, cache, Scripted(right), Scripted(right, missing=1))
    assert not cache.folder.exists()
