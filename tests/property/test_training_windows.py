"""Whatever the clips' sizes, an epoch meets each as often as its weight says, within the limits of encoder, decoder and batch."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.audio.constants import WINDOW_SECONDS
from avskrift.training.config import TrainingConfig
from avskrift.training.windows import (
    GAP_SECONDS,
    LABEL_ROOM,
    NO_CLIP,
    TOKENS_AROUND_A_CLIP,
    ClipSize,
    Window,
    bucket_edges,
    padded_to,
    plan_epoch,
    step_seconds,
    turns_of,
)
from avskrift.whisper.tokens import MAX_LABEL_TOKENS

_PROMPT, _PROMPT_WITH_TIMESTAMPS, _END = 4, 3, 1

size = st.builds(
    ClipSize,
    st.integers(1, WINDOW_SECONDS * 16_000).map(lambda samples: samples / 16_000),
    st.integers(0, LABEL_ROOM - TOKENS_AROUND_A_CLIP),
)
sizes = st.lists(size, max_size=60)
sizes_with_turns = st.lists(st.tuples(size, st.integers(0, 4)), max_size=40)
weights = st.one_of(st.sampled_from([0.1, 0.5, 1.0, 1.5, 3.0, 100.0]), st.floats(0.001, 100))
clip_ids = st.text(max_size=8)
seeds = st.integers(0, 1000)
configs = st.builds(
    TrainingConfig,
    batch_seconds=st.floats(0.5, 400),
    packed_share=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)),
    empty_share=st.just(0.0),
    seed=st.integers(0, 1000),
)
shares = st.one_of(st.sampled_from([0.0, 0.1, 1.0]), st.floats(0, 1))
configs_with_more = st.builds(replace, configs, empty_share=shares, previous_text_share=shares)
epochs = st.integers(0, 5)
durations = st.lists(st.integers(1, WINDOW_SECONDS * 16_000).map(lambda samples: samples / 16_000), max_size=12)


@given(sizes, configs, epochs)
def test_every_clip_stands_in_exactly_one_window_of_one_batch(sizes: list[ClipSize], config: TrainingConfig, epoch: int) -> None:
    assert sorted(index for window in _windows(sizes, config, epoch) for index in window.clips) == list(range(len(sizes)))


@given(sizes_with_turns, configs, epochs)
def test_every_clip_stands_in_as_many_windows_as_it_has_turns_and_never_twice_in_one(
    clips: list[tuple[ClipSize, int]], config: TrainingConfig, epoch: int
) -> None:
    turns = [count for _, count in clips]
    plan = plan_epoch([size for size, _ in clips], config, epoch, turns=turns)
    windows = [window for batch in plan for window in batch]
    met = Counter(index for window in windows for index in window.clips)
    assert [met[index] for index in range(len(clips))] == turns
    assert all(len(set(window.clips)) == len(window.clips) for window in windows)
    assert all(plan), "no batch is empty"


@given(sizes, configs, epochs)
def test_one_turn_each_is_the_plan_without_turns(sizes: list[ClipSize], config: TrainingConfig, epoch: int) -> None:
    turns = [turns_of(f"clip-{index}", 1.0, seed=config.seed, epoch=epoch) for index in range(len(sizes))]
    assert plan_epoch(sizes, config, epoch, turns=turns) == plan_epoch(sizes, config, epoch)


def test_the_plan_of_a_seed_never_changes_so_that_a_run_can_be_resumed_with_a_newer_release() -> None:
    plan = plan_epoch([ClipSize(float(number), number) for number in range(1, 9)], TrainingConfig(batch_seconds=20, seed=1), 0)
    assert [[window.clips for window in batch] for batch in plan] == [[(0,), (1,), (3,)], [(5,), (6,)], [(7,), (4, 2)]]


@given(clip_ids, weights, seeds, st.integers(0, 30))
def test_an_epoch_meets_a_clip_its_weight_rounded_down_or_up_times(clip_id: str, weight: float, seed: int, epoch: int) -> None:
    assert turns_of(clip_id, weight, seed=seed, epoch=epoch) in (math.floor(weight), math.ceil(weight))


@given(clip_ids, weights, seeds, st.integers(1, 30))
def test_over_some_epochs_a_clip_is_met_its_weight_times_their_number_to_within_one(
    clip_id: str, weight: float, seed: int, epochs: int
) -> None:
    met = sum(turns_of(clip_id, weight, seed=seed, epoch=epoch) for epoch in range(epochs))
    assert abs(met - weight * epochs) < 1 + 1e-9 * weight * epochs


@given(st.sets(clip_ids, min_size=1, max_size=20), weights, seeds, epochs, st.randoms())
def test_a_clips_turns_do_not_hang_on_where_it_stands(ids: set[str], weight: float, seed: int, epoch: int, chance: random.Random) -> None:
    order = sorted(ids)
    turns = {clip_id: turns_of(clip_id, weight, seed=seed, epoch=epoch) for clip_id in order}
    chance.shuffle(order)
    assert {clip_id: turns_of(clip_id, weight, seed=seed, epoch=epoch) for clip_id in order} == turns


@given(seeds, st.integers(0, 10))
@settings(max_examples=20)
def test_at_weight_a_half_some_half_of_the_clips_are_met_in_one_epoch_and_the_others_in_the_next(seed: int, epoch: int) -> None:
    now, after = ({n for n in range(1000) if turns_of(f"clip-{n}", 0.5, seed=seed, epoch=at)} for at in (epoch, epoch + 1))
    assert 400 < len(now) < 600
    assert now ^ after == set(range(1000))


def test_which_clips_an_epoch_meets_follows_from_the_seed() -> None:
    met = [{n for n in range(100) if turns_of(f"clip-{n}", 0.5, seed=seed, epoch=0)} for seed in (1, 2)]
    assert met[0] != met[1]


@given(sizes, configs, epochs)
def test_no_batch_is_empty_or_longer_than_the_budget_unless_one_window_alone_is(
    sizes: list[ClipSize], config: TrainingConfig, epoch: int
) -> None:
    for batch in plan_epoch(sizes, config, epoch):
        assert batch
        assert len(batch) == 1 or len(batch) * max(window.duration_s for window in batch) <= config.batch_seconds


@given(sizes, configs, epochs)
def test_a_windows_audio_with_its_gaps_fits_the_encoder(sizes: list[ClipSize], config: TrainingConfig, epoch: int) -> None:
    for window in _windows(sizes, config, epoch):
        audio = sum(sizes[index].duration_s for index in window.clips) + GAP_SECONDS * (len(window.clips) - 1)
        assert window.duration_s == pytest.approx(audio)
        assert round(audio * 16_000) <= WINDOW_SECONDS * 16_000


@given(sizes, configs, epochs)
def test_a_windows_label_fits_the_decoder(sizes: list[ClipSize], config: TrainingConfig, epoch: int) -> None:
    for window in _windows(sizes, config, epoch):
        tokens = [sizes[index].tokens for index in window.clips]
        label = sum(tokens) + TOKENS_AROUND_A_CLIP * len(tokens) + _PROMPT_WITH_TIMESTAMPS if window.packed else tokens[0] + _PROMPT
        assert label + _END - 1 <= MAX_LABEL_TOKENS  # the last token is predicted, never read


@given(sizes, configs, epochs)
def test_the_same_seed_and_epoch_give_the_same_batches(sizes: list[ClipSize], config: TrainingConfig, epoch: int) -> None:
    assert plan_epoch(sizes, config, epoch) == plan_epoch(list(sizes), config, epoch)


@given(configs)
@settings(max_examples=20)
def test_another_epoch_and_another_seed_give_other_batches(config: TrainingConfig) -> None:
    sizes = [ClipSize(0.5 + number / 16, 10) for number in range(200)]  # so many that no two plans agree by chance
    other = TrainingConfig(batch_seconds=config.batch_seconds, packed_share=config.packed_share, seed=config.seed + 1)
    plans = [plan_epoch(sizes, config, 0), plan_epoch(sizes, config, 1), plan_epoch(sizes, other, 0)]
    assert plans[0] != plans[1]
    assert plans[0] != plans[2]


@given(sizes, epochs)
def test_with_nothing_packed_every_window_is_one_clip(sizes: list[ClipSize], epoch: int) -> None:
    windows = _windows(sizes, TrainingConfig(packed_share=0, empty_share=0), epoch)
    assert not any(window.packed for window in windows)
    assert len(windows) == len(sizes)


@given(epochs, st.integers(0, 1000))
@settings(max_examples=20)
def test_with_all_packed_short_clips_make_windows_of_every_length(epoch: int, seed: int) -> None:
    windows = _windows([ClipSize(1.0, 5)] * 2000, TrainingConfig(packed_share=1, seed=seed), epoch)
    lengths = [window.duration_s for window in windows]
    for shortest, longest in ((0, 8), (8, 15), (15, 22), (22, 30)):
        assert any(shortest <= length <= longest for length in lengths)


@given(epochs, st.integers(0, 1000))
@settings(max_examples=20)
def test_at_half_packed_half_of_the_clips_are_met_alone(epoch: int, seed: int) -> None:
    windows = _windows([ClipSize(1.0, 5)] * 200, TrainingConfig(packed_share=0.5, seed=seed), epoch)
    alone = sum(not window.packed for window in windows)
    assert 100 <= alone <= 115  # a packed window may be so short that one clip fills it


@given(sizes, configs_with_more, epochs)
def test_windows_without_speech_are_as_many_as_asked_for_and_as_long_as_those_with_it(
    sizes: list[ClipSize], config: TrainingConfig, epoch: int
) -> None:
    windows = _windows(sizes, config, epoch)
    empty = [window for window in windows if not window.clips]
    assert len(empty) == round(len(sizes) * config.empty_share)
    assert {window.duration_s for window in empty} <= {window.duration_s for window in windows if window.clips}


@given(sizes, configs_with_more, epochs)
def test_previous_text_is_another_clips_and_never_that_of_the_window_itself(
    sizes: list[ClipSize], config: TrainingConfig, epoch: int
) -> None:
    windows = _windows(sizes, config, epoch)
    assert all(window.previous in range(NO_CLIP, len(sizes)) and window.previous not in window.clips for window in windows)
    if config.previous_text_share == 0:
        assert all(window.previous == NO_CLIP for window in windows)
    if config.previous_text_share == 1 and len(sizes) >= 20 and config.packed_share == 0:
        assert any(window.previous != NO_CLIP for window in windows)


@given(sizes, configs_with_more, epochs)
def test_empty_windows_and_previous_text_leave_the_other_windows_as_they_are(
    sizes: list[ClipSize], config: TrainingConfig, epoch: int
) -> None:
    plain = _windows(sizes, replace(config, empty_share=0, previous_text_share=0), epoch)
    spoken = [window for window in _windows(sizes, config, epoch) if window.clips]
    assert sorted(window.clips for window in spoken) == sorted(window.clips for window in plain)


@given(st.lists(size, max_size=25), configs_with_more, epochs, st.integers(1, 8))
def test_with_edges_the_epoch_has_the_same_windows_in_steps_that_fit_at_their_padded_length(
    sizes: list[ClipSize], config: TrainingConfig, epoch: int, count: int
) -> None:
    free = _windows(sizes, config, epoch)
    edges = bucket_edges([window.duration_s for window in free], count)
    steps = plan_epoch(sizes, config, epoch, edges=edges)
    assert Counter(window for step in steps for window in step) == Counter(free)
    for step in steps:
        assert len(step) == 1 or len(step) * max(padded_to(window.duration_s, edges) for window in step) <= config.batch_seconds + 1e-9


@given(durations, st.integers(1, 6))
def test_edges_rise_are_at_most_so_many_and_the_last_holds_every_window(durations: list[float], count: int) -> None:
    edges = bucket_edges(durations, count)
    assert 1 <= len(edges) <= count
    assert list(edges) == sorted(set(edges))
    assert all(edge % 0.5 == 0 for edge in edges)
    assert max(durations, default=0) <= edges[-1] <= WINDOW_SECONDS
    assert all(padded_to(duration, edges) >= duration for duration in durations)


@given(st.lists(st.integers(1, 10), min_size=1, max_size=8), st.integers(1, 4))
def test_no_other_edges_pad_the_windows_less(halves: list[int], count: int) -> None:
    durations = [half / 2 for half in halves]

    def padded(edges: Sequence[float]) -> float:
        return sum(padded_to(duration, edges) for duration in durations)

    grid = [half / 2 for half in range(1, max(halves) + 1)]
    best = min(padded(edges) for number in range(1, count + 1) for edges in combinations(grid, number) if edges[-1] == max(durations))
    assert padded(bucket_edges(durations, count)) == best


@given(st.floats(0.001, 30), st.sets(st.integers(1, 60), min_size=1, max_size=5))
def test_a_window_is_padded_to_the_first_edge_that_holds_it(seconds: float, halves: set[int]) -> None:
    edges = sorted(half / 2 for half in halves)
    holding = [edge for edge in edges if edge >= seconds - 1e-9]
    assert padded_to(seconds, edges) == (holding[0] if holding else edges[-1])


@given(sizes)
def test_without_a_budget_an_epoch_has_some_forty_steps_of_forty_to_640_seconds(sizes: list[ClipSize]) -> None:
    seconds = step_seconds(sizes, TrainingConfig())
    assert 40 <= seconds <= 640
    assert seconds in (40, 640) or seconds * 40 == pytest.approx(sum(size.duration_s for size in sizes))
    assert step_seconds(sizes, TrainingConfig(batch_seconds=7)) == 7


def _windows(sizes: Sequence[ClipSize], config: TrainingConfig, epoch: int) -> list[Window]:
    return [window for batch in plan_epoch(sizes, config, epoch) for window in batch]
