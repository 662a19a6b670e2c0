"""Which clips the checks hear, and that each is asked for by its name."""

from pathlib import Path

import pytest
from scripted_models import SENTENCES, Scripted, clip, dataset, first_word, right, subject

from avskrift.corpus.dataset import Clip
from avskrift.errors import EvaluationError, UsageError
from avskrift.evaluation.check_names import CHECKS, check_names, read_checks
from avskrift.evaluation.checks import (
    Material,
    check_hallucination,
    check_long_form,
    check_short_context,
    choose_material,
    latency_check,
    needs_full_context,
    with_full_context,
)
from avskrift.evaluation.hearing import ClipSet, read_clip_set


def clips_of(folder: Path, clips: list[Clip]) -> ClipSet:
    return read_clip_set(dataset(folder, clips), "test", "sv")


def material(folder: Path, count: int = 60, *, names: tuple[str, ...] = CHECKS, seconds: float = 1.0) -> Material:
    return choose_material(clips_of(folder, [clip(number, duration_s=seconds) for number in range(count)]), names)


def test_checks_are_named_with_commas_in_any_order() -> None:
    assert read_checks(" latency, hallucination,latency ") == ("hallucination", "latency")
    assert read_checks("") == read_checks(" , ") == ()
    assert read_checks(",".join(CHECKS)) == check_names(CHECKS) == CHECKS


@pytest.mark.parametrize("text", ["latencies", "hallucination long-form", "all"])
def test_a_name_that_is_no_check_is_refused_and_the_names_are_told(text: str) -> None:
    with pytest.raises(UsageError, match=f"'{text}' is none of hallucination, long-form, short-context, latency"):
        read_checks(text)


def test_clips_come_from_all_over_the_split(tmp_path: Path) -> None:
    chosen = material(tmp_path, 300)
    assert len(chosen.timed) == 30
    assert (chosen.timed[0], chosen.timed[1], chosen.timed[-1]) == (0, 10, 290)
    assert list(chosen.speech) == list(range(0, 300, 20))
    assert list(chosen.joined) == sorted(chosen.joined)
    assert chosen.joined[-1] > 280


def test_no_check_hears_more_than_minutes(tmp_path: Path) -> None:
    chosen = material(tmp_path, 200, seconds=4.0)
    assert 6 * 60 < sum(chosen.clips[place].duration_s + 0.65 for place in chosen.joined) < 6.5 * 60
    assert (len(chosen.shortest), len(chosen.timed), len(chosen.speech)) == (40, 30, 15)


def test_clips_without_a_word_are_only_timed(tmp_path: Path) -> None:
    clips = [clip(number, text="…" if number % 2 else None) for number in range(20)]
    chosen = choose_material(clips_of(tmp_path, clips), CHECKS)
    for places in (chosen.speech, chosen.joined, chosen.shortest):
        assert places
        assert all(place % 2 == 0 for place in places)
    assert list(chosen.timed) == list(range(20))


def test_the_shortest_clips_are_the_shortest_with_words(tmp_path: Path) -> None:
    clips = [clip(number, duration_s=(100 - number) / 100, text="…" if number == 99 else None) for number in range(100)]
    assert list(choose_material(clips_of(tmp_path, clips), CHECKS).shortest) == list(range(59, 99))


def test_a_dataset_that_changed_since_it_was_counted_is_refused(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, [clip(number) for number in range(10)])
    dataset(tmp_path, [clip(number) for number in range(10, 20)])
    with pytest.raises(EvaluationError, match="not those that were counted"):
        choose_material(clips, CHECKS)


def test_only_what_is_named_is_checked(tmp_path: Path) -> None:
    chosen, model = material(tmp_path, names=()), Scripted(right)
    texts = [right(number) for number in range(60)]
    assert check_hallucination(chosen, model) is None
    assert check_long_form(chosen, texts, model) is None
    assert latency_check(chosen, model) is None
    assert check_short_context(chosen, texts, model) is None
    assert not needs_full_context(chosen, subject("a", policy="variable").package)
    assert model.recordings == 0


def test_a_model_that_reads_short_contexts_alone_is_loaded_again_with_30_s(tmp_path: Path) -> None:
    chosen = material(tmp_path)
    adapted, unadapted = subject("a", policy="variable").package, subject("a").package
    assert (needs_full_context(chosen, adapted), needs_full_context(chosen, unadapted)) == (True, False)
    again = with_full_context(adapted)
    assert again.description.encoder_context.policy == "full"
    assert (again.folder, again.description.sha256) == (adapted.folder, adapted.description.sha256)


def test_the_loss_of_short_contexts_is_that_of_the_shortest_clips(tmp_path: Path) -> None:
    chosen = material(tmp_path)
    texts = [first_word(number) if number in chosen.shortest else "" for number in range(60)]
    short = check_short_context(chosen, texts, Scripted(right))
    assert short is not None
    words = sum(len(SENTENCES[place % 3].split()) for place in chosen.shortest)
    assert short.loss.value == pytest.approx((words - 40) / words)
