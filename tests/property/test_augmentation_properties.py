"""Whatever is drawn, augmented audio is finite, fits its window, and follows from its generator and shares."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.training.augmentation import Samples, augment, empty_window
from avskrift.training.spec_augment import spec_augment

_SEEDS = st.integers(0, 2**32 - 1)
_SHARES = st.sampled_from([0.0, 0.5, 1.0])


@st.composite
def _clips(draw: st.DrawFn) -> Samples:
    """Speech-like noise at any level, digital silence, and a click; from nothing to a second."""
    length = draw(st.integers(0, SAMPLE_RATE) | st.integers(0, 12))
    peak = draw(st.sampled_from([0.0, 1e-30, 1e-4, 0.3, 1.0]))
    noise = np.random.default_rng(draw(_SEEDS)).uniform(-peak, peak, length).astype(np.float32)
    if draw(st.booleans()):
        noise[length // 2 + 1 :] = 0
    return noise


@settings(deadline=None)
@given(clip=_clips(), seed=_SEEDS, speed=_SHARES, gain=_SHARES, noise=_SHARES, room=st.integers(0, 2000))
def test_what_comes_out_is_finite_within_full_scale_and_fits(
    clip: Samples, seed: int, speed: float, gain: float, noise: float, room: int
) -> None:
    limit = len(clip) + room
    changed = augment(clip, np.random.default_rng(seed), speed_share=speed, gain_share=gain, noise_share=noise, max_samples=limit)
    assert changed.dtype == np.float32
    assert changed.ndim == 1
    assert np.isfinite(changed).all()
    assert np.abs(changed).max(initial=0) <= 1
    assert len(changed) <= limit
    assert abs(len(changed) - len(clip)) <= 0.112 * len(clip) + 1
    if speed == 0:
        assert len(changed) == len(clip)


@settings(deadline=None)
@given(clip=_clips(), seed=_SEEDS, speed=_SHARES, gain=_SHARES, noise=_SHARES)
def test_the_same_seed_gives_the_same_samples_and_leaves_the_generator_where_any_clip_and_shares_leave_it(
    clip: Samples, seed: int, speed: float, gain: float, noise: float
) -> None:
    chances = [np.random.default_rng(seed) for _ in range(3)]
    once, again = (
        augment(clip, chance, speed_share=speed, gain_share=gain, noise_share=noise, max_samples=1 << 20) for chance in chances[:2]
    )
    augment(np.zeros(7, dtype=np.float32), chances[2], speed_share=0, gain_share=0, noise_share=0, max_samples=7)
    assert np.array_equal(once, again)
    assert chances[0].bit_generator.state == chances[2].bit_generator.state


@settings(deadline=None)
@given(seed=_SEEDS, other=_SHARES)
def test_one_share_does_not_move_the_draws_of_another(seed: int, other: float) -> None:
    clip = np.random.default_rng(1).uniform(-0.01, 0.01, 4000).astype(np.float32)

    def changed(**shares: float) -> Samples:
        whole = {"speed_share": 0.0, "gain_share": 0.0, "noise_share": 0.0} | shares
        return augment(clip, np.random.default_rng(seed), **whole, max_samples=8000)

    assert len(changed(speed_share=1)) == len(changed(speed_share=1, gain_share=other, noise_share=other))
    scale = changed(gain_share=1)[0] / clip[0]
    both = changed(gain_share=1, noise_share=1)
    assert np.allclose(both, changed(noise_share=1) * scale, rtol=1e-4, atol=1e-7)


@settings(deadline=None)
@given(seed=_SEEDS, seconds=st.floats(0, 30))
def test_an_empty_window_has_its_length_and_stays_within_full_scale(seed: int, seconds: float) -> None:
    window = empty_window(np.random.default_rng(seed), seconds)
    assert window.dtype == np.float32
    assert window.shape == (round(seconds * SAMPLE_RATE),)
    assert np.isfinite(window).all()
    assert np.abs(window).max(initial=0) <= 1
    assert np.array_equal(window, empty_window(np.random.default_rng(seed), seconds))


@settings(deadline=None, max_examples=50)
@given(
    batch=st.integers(1, 4),
    mels=st.sampled_from([80, 128]),
    frames=st.integers(1, 400),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**63 - 1),
)
def test_spec_augment_leaves_every_cell_or_gives_it_the_mean_of_its_row(
    batch: int, mels: int, frames: int, share: float, seed: int
) -> None:
    features = torch.randn(batch, mels, frames, generator=torch.Generator().manual_seed(seed))
    masked = spec_augment(features, share=share, generator=torch.Generator().manual_seed(seed))
    assert masked.shape == features.shape
    assert masked.dtype == features.dtype
    means = features.mean(dim=(1, 2), keepdim=True).expand_as(features)
    assert ((masked == features) | torch.isclose(masked, means, atol=1e-6)).all()
