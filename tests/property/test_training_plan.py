"""Whatever clips, options and processes: a run's plan has every window once, in parts that fit memory, shape and world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_SAMPLES, WINDOW_SECONDS
from avskrift.corpus.dataset import Clip
from avskrift.errors import TrainingError
from avskrift.training.config import TrainingConfig
from avskrift.training.plan import LONGEST_PREVIOUS_TEXT, Plan, Shape, label_size, learns_start, padded_samples, plan_run
from avskrift.training.windows import LABEL_ROOM, TOKENS_AROUND_A_CLIP, ClipSize, Window, plan_epoch, turns_of
from avskrift.whisper.tokens import MAX_LABEL_TOKENS

seconds = st.one_of(st.sampled_from([1.0, 4.0, 30.0]), st.integers(1, WINDOW_SAMPLES).map(lambda samples: samples / SAMPLE_RATE))
tokens = st.one_of(st.integers(0, 30), st.integers(0, LABEL_ROOM - TOKENS_AROUND_A_CLIP))
size = st.builds(ClipSize, seconds, tokens)
sized_weights = st.lists(st.tuples(size, st.sampled_from([1.0, 1.0, 0.5, 0.3, 2.5])), min_size=1, max_size=30)
shares = st.one_of(st.sampled_from([0.0, 0.1, 1.0]), st.floats(0, 1))
configs = st.builds(
    TrainingConfig,
    epochs=st.integers(1, 3),
    batch_seconds=st.floats(0.5, 400),
    packed_share=shares,
    empty_share=shares,
    previous_text_share=shares,
    bpe_dropout=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 1000),
)
at_once = st.floats(0.1, 400)
processes = st.integers(1, 5)


@given(sized_weights, configs, at_once, processes, st.booleans())
def test_every_window_of_every_epoch_is_in_exactly_one_part(
    clips: list[tuple[ClipSize, float]], config: TrainingConfig, at_once: float, processes: int, static: bool
) -> None:
    plan = _plan(clips, config, at_once, processes, static)
    planned = [part.windows for step in plan.steps for part in step.parts]
    expected = [window for epoch in range(config.epochs) for step in _epoch(clips, config, epoch) for window in step]
    assert Counter(window for windows in planned for window in windows) == Counter(expected)


@given(sized_weights, configs, at_once, processes, st.booleans())
def test_every_process_has_as_many_parts_of_a_step_and_their_shares_are_those_of_what_is_learnt(
    clips: list[tuple[ClipSize, float]], config: TrainingConfig, at_once: float, processes: int, static: bool
) -> None:
    sizes = [size for size, _ in clips]
    for step in _plan(clips, config, at_once, processes, static).steps:
        assert step.windows
        assert len(step.parts) % processes == 0
        assert sum(part.share for part in step.parts) == pytest.approx(1)
        learnt = [sum(label_size(window, sizes, with_start=learns_start(config))[1] for window in part.windows) for part in step.parts]
        assert [part.share for part in step.parts] == pytest.approx([count / sum(learnt) for count in learnt])


@given(sized_weights, configs, at_once, processes, st.booleans())
def test_a_part_takes_no_more_at_once_than_asked_unless_one_window_does(
    clips: list[tuple[ClipSize, float]], config: TrainingConfig, at_once: float, processes: int, static: bool
) -> None:
    for step in _plan(clips, config, at_once, processes, static).steps:
        for part in step.parts:
            rows, samples = (part.shape.windows, part.shape.samples) if part.shape else (len(part.windows), part.samples)
            assert rows <= 1 or rows * (samples - 319) / SAMPLE_RATE <= at_once + 1e-6


@given(sized_weights, configs, processes, st.booleans())
def test_where_memory_holds_a_window_more_than_the_share_each_process_has_one_part(
    clips: list[tuple[ClipSize, float]], config: TrainingConfig, processes: int, static: bool
) -> None:
    at_once = config.batch_seconds / processes + WINDOW_SECONDS
    assert {len(step.parts) for step in _plan(clips, config, at_once, processes, static).steps} == {processes}


@given(sized_weights, configs, at_once, processes)
def test_without_a_static_shape_all_parts_of_a_step_are_padded_to_its_longest_window(
    clips: list[tuple[ClipSize, float]], config: TrainingConfig, at_once: float, processes: int
) -> None:
    for step in _plan(clips, config, at_once, processes, static=False).steps:
        longest = padded_samples(round(max(window.duration_s for window in step.windows) * SAMPLE_RATE))
        assert {part.samples for part in step.parts if part.windows} == {longest}
        assert {part.samples for part in step.parts if not part.windows} <= {0}


@given(sized_weights, configs, at_once, processes)
def test_every_part_fits_its_static_shape_and_the_decoder(
    clips: list[tuple[ClipSize, float]], config: TrainingConfig, at_once: float, processes: int
) -> None:
    sizes = [size for size, _ in clips]
    for step in _plan(clips, config, at_once, processes, static=True).steps:
        assert len({part.shape for part in step.parts}) == 1
        for part in step.parts:
            shape = part.shape
            assert shape is not None
            labels = [label_size(window, sizes, with_start=learns_start(config)) for window in part.windows]
            assert len(part.windows) <= shape.windows
            assert max((round(window.duration_s * SAMPLE_RATE) for window in part.windows), default=0) <= shape.samples <= WINDOW_SAMPLES
            assert max((read for read, _ in labels), default=0) <= shape.tokens <= MAX_LABEL_TOKENS
            assert sum(learnt for _, learnt in labels) <= shape.learnt


@given(sized_weights, configs, at_once, processes, st.integers(1, 8))
def test_a_static_plan_has_few_shapes_and_a_free_one_none(
    clips: list[tuple[ClipSize, float]], config: TrainingConfig, at_once: float, processes: int, buckets: int
) -> None:
    plan = _plan(clips, config, at_once, processes, static=True, buckets=buckets)
    assert None not in plan.shapes
    assert len(plan.shapes) <= buckets
    assert len({shape.samples for shape in plan.shapes if shape}) == len(plan.shapes), "one for each length"
    assert _plan(clips, config, at_once, processes, static=False).shapes == {None}


@given(sized_weights, configs, st.tuples(at_once, at_once), st.tuples(processes, processes), st.booleans())
def test_steps_do_not_hang_on_how_many_processes_train_or_on_what_fits_at_once(
    clips: list[tuple[ClipSize, float]], config: TrainingConfig, at_once: tuple[float, float], processes: tuple[int, int], static: bool
) -> None:
    one, other = (_plan(clips, config, *each, static=static) for each in zip(at_once, processes, strict=True))
    assert [step.windows for step in one.steps] == [step.windows for step in other.steps]
    assert one.epoch_ends == other.epoch_ends


@given(sized_weights, configs, at_once, processes, st.booleans())
def test_a_plan_is_the_same_each_time_it_is_made(
    clips: list[tuple[ClipSize, float]], config: TrainingConfig, at_once: float, processes: int, static: bool
) -> None:
    assert _plan(clips, config, at_once, processes, static) == _plan(list(clips), config, at_once, processes, static)


@given(sized_weights, configs, st.integers(1, 50), st.booleans())
def test_the_most_steps_cut_a_run_short_and_change_nothing_else(
    clips: list[tuple[ClipSize, float]], config: TrainingConfig, most: int, static: bool
) -> None:
    whole, short = (_plan(clips, config_, 60.0, 1, static) for config_ in (config, replace(config, max_steps=most)))
    assert short.steps == whole.steps[:most]
    assert short.epoch_ends == whole.epoch_ends
    assert whole.epoch_ends[-1] == len(whole.steps)
    assert list(whole.epoch_ends) == sorted(whole.epoch_ends)


@given(sized_weights, configs)
def test_smaller_pieces_of_words_get_more_room_but_no_longer_decoder(clips: list[tuple[ClipSize, float]], config: TrainingConfig) -> None:
    plain, roomy = (
        {shape.samples: shape for shape in _plan(clips, replace(config, bpe_dropout=dropout), 60.0, 1, static=True).shapes if shape}
        for dropout in (0.0, 0.1)
    )
    assert plain.keys() == roomy.keys()
    for samples, shape in plain.items():
        assert roomy[samples].windows == shape.windows
        assert min(MAX_LABEL_TOKENS, 1.5 * shape.tokens) <= roomy[samples].tokens <= MAX_LABEL_TOKENS
        assert roomy[samples].learnt >= min(shape.learnt, shape.windows * roomy[samples].tokens)


@given(st.lists(size, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_a_label_with_previous_text_fits_the_decoder(sizes: list[ClipSize], packed: bool, with_start: bool) -> None:
    clips = tuple(range(len(sizes) if packed else 1))
    assume(sum(sizes[index].tokens + TOKENS_AROUND_A_CLIP for index in clips) <= LABEL_ROOM)
    alone = label_size(Window(clips, 1.0), sizes, with_start=with_start)
    given_more = label_size(Window(clips, 1.0, previous=len(sizes) - 1), sizes, with_start=with_start)
    assert given_more[1] == alone[1]
    assert alone[0] <= given_more[0] <= min(MAX_LABEL_TOKENS, alone[0] + 1 + LONGEST_PREVIOUS_TEXT)


@given(st.integers(0, WINDOW_SAMPLES))
def test_audio_is_padded_to_a_whole_number_of_encoder_positions(samples: int) -> None:
    assert samples <= padded_samples(samples) < samples + 320
    assert padded_samples(samples) % 320 == 0


def test_clips_that_only_a_later_epoch_meets_fit_a_shape_too() -> None:
    """At a weight under 1 the first epoch may meet short clips alone; the plan's lengths must hold the others as well."""
    for seed in range(20):
        clips = [(ClipSize(2.0, 5), 1.0), (ClipSize(20.0, 50), 0.5)]
        plan = _plan(clips, TrainingConfig(epochs=2, packed_share=0, seed=seed), 60.0, 1, static=True)
        for step in plan.steps:
            for part in step.parts:
                assert isinstance(part.shape, Shape)
                assert all(window.duration_s * SAMPLE_RATE <= part.shape.samples for window in part.windows)


def test_without_a_window_in_any_epoch_there_is_no_plan() -> None:
    for static in (False, True):
        with pytest.raises(TrainingError, match="1 epochs meet none of the train clips"):
            plan_run(
                _clips([(ClipSize(1.0, 1), 0.0001)]),
                [ClipSize(1.0, 1)],
                TrainingConfig(epochs=1),
                at_once_seconds=60.0,
                processes=1,
                static=static,
            )


def _plan(
    clips: Sequence[tuple[ClipSize, float]], config: TrainingConfig, at_once: float, processes: int, static: bool, **more: Any
) -> Plan:
    sizes = [size for size, _ in clips]
    try:
        return plan_run(_clips(clips), sizes, config, at_once_seconds=at_once, processes=processes, static=static, **more)
    except TrainingError:
        assume(any(any(_turns(clips, config, epoch)) for epoch in range(config.epochs)))  # none is refused by right
        raise


def _epoch(clips: Sequence[tuple[ClipSize, float]], config: TrainingConfig, epoch: int) -> list[list[Window]]:
    return plan_epoch([size for size, _ in clips], config, epoch, turns=_turns(clips, config, epoch))


def _turns(clips: Sequence[tuple[ClipSize, float]], config: TrainingConfig, epoch: int) -> list[int]:
    return [turns_of(clip.clip_id, clip.weight, seed=config.seed, epoch=epoch) for clip in _clips(clips)]


def _clips(clips: Sequence[tuple[ClipSize, float]]) -> list[Clip]:
    return [
        Clip(clip_id=f"clip-{number}", audio=b"", duration_s=size.duration_s, text="", weight=weight)
        for number, (size, weight) in enumerate(clips)
    ]
