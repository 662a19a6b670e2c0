"""Whatever the clips' sizes, an epoch meets every clip once, within the limits of encoder, decoder and batch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.audio.constants import WINDOW_SECONDS
from avskrift.training.config import TrainingConfig
from avskrift.training.windows import GAP_SECONDS, LABEL_ROOM, TOKENS_AROUND_A_CLIP, ClipSize, Window, plan_epoch
from avskrift.whisper.tokens import MAX_LABEL_TOKENS

_PROMPT, _PROMPT_WITH_TIMESTAMPS, _END = 4, 3, 1

sizes = st.lists(
    st.builds(
        ClipSize,
        st.integers(1, WINDOW_SECONDS * 16_000).map(lambda samples: samples / 16_000),
        st.integers(0, LABEL_ROOM - TOKENS_AROUND_A_CLIP),
    ),
    max_size=60,
)
configs = st.builds(
    TrainingConfig,
    batch_seconds=st.floats(0.5, 400),
    packed_share=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)),
    seed=st.integers(0, 1000),
)
epochs = st.integers(0, 5)


@given(sizes, configs, epochs)
def test_every_clip_stands_in_exactly_one_window_of_one_batch(sizes: list[ClipSize], config: TrainingConfig, epoch: int) -> None:
    assert sorted(index for window in _windows(sizes, config, epoch) for index in window.clips) == list(range(len(sizes)))


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


@given(st.lists(st.builds(ClipSize, st.floats(0.5, 30), st.integers(1, 100)), min_size=15, max_size=40), configs)
def test_another_epoch_and_another_seed_give_other_batches(sizes: list[ClipSize], config: TrainingConfig) -> None:
    other = TrainingConfig(batch_seconds=config.batch_seconds, packed_share=config.packed_share, seed=config.seed + 1)
    plans = [plan_epoch(sizes, config, 0), plan_epoch(sizes, config, 1), plan_epoch(sizes, other, 0)]
    assert plans[0] != plans[1]
    assert plans[0] != plans[2]


@given(sizes, epochs)
def test_with_nothing_packed_every_window_is_one_clip(sizes: list[ClipSize], epoch: int) -> None:
    windows = _windows(sizes, TrainingConfig(packed_share=0), epoch)
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


def _windows(sizes: Sequence[ClipSize], config: TrainingConfig, epoch: int) -> list[Window]:
    return [window for batch in plan_epoch(sizes, config, epoch) for window in batch]
