"""Augmentation changes what it says, by as much as it says, and follows from its generator alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_SAMPLES
from avskrift.training.augmentation import EMPTY_DBFS, MAX_GAIN_DB, QUIET_DBFS, Samples, augment, empty_window
from avskrift.training.spec_augment import MAX_BAND_SHARE, MAX_STRETCH_SHARE, spec_augment

_NONE = {"speed_share": 0.0, "gain_share": 0.0, "noise_share": 0.0}
_SECONDS = 2


def _tone(hertz: float = 440.0, peak: float = 0.1, seconds: float = _SECONDS) -> Samples:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (peak * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def _augmented(samples: Samples, seed: int, max_samples: int = WINDOW_SAMPLES, **shares: float) -> Samples:
    return augment(samples, np.random.default_rng(seed), **{**_NONE, **shares}, max_samples=max_samples)


def _loudest_hertz(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)[spectrum.argmax()])


def _decibels(samples: Samples) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))))


class TestAugment:
    def test_without_any_share_the_very_same_array_comes_back(self) -> None:
        clip = _tone()
        assert _augmented(clip, 1) is clip

    def test_the_clip_that_is_given_is_never_changed(self) -> None:
        clip = _tone()
        before = clip.copy()
        for seed in range(10):
            _augmented(clip, seed, speed_share=1, gain_share=1, noise_share=1)
        assert np.array_equal(clip, before)

    def test_speed_changes_length_and_pitch_together_by_at_most_a_tenth(self) -> None:
        speeds = []
        for seed in range(40):
            changed = _augmented(_tone(440), seed, speed_share=1)
            speeds.append(_SECONDS * SAMPLE_RATE / len(changed))
            assert _loudest_hertz(changed) == pytest.approx(440 * speeds[-1], abs=1)
        assert 0.899 < min(speeds) < 0.93
        assert 1.07 < max(speeds) < 1.101

    def test_what_is_sped_up_is_not_folded_back_into_the_band(self) -> None:
        high = _tone(7800)
        sped_up = [changed for seed in range(40) if len(changed := _augmented(high, seed, speed_share=1)) < 0.93 * len(high)]
        assert sped_up
        assert all(_decibels(changed) < _decibels(high) - 20 for changed in sped_up)

    def test_gain_is_within_its_decibels_either_way(self) -> None:
        gains = [_decibels(_augmented(_tone(peak=0.1), seed, gain_share=1)) - _decibels(_tone(peak=0.1)) for seed in range(40)]
        assert -MAX_GAIN_DB - 0.01 < min(gains) < -6
        assert 6 < max(gains) < MAX_GAIN_DB + 0.01

    def test_gain_stops_where_the_peak_would_be_clipped(self) -> None:
        clip = _tone(peak=0.9)
        for seed in range(40):
            changed = _augmented(clip, seed, gain_share=1)
            assert np.abs(changed).max() <= 1
            assert np.corrcoef(changed, clip)[0, 1] > 0.99999  # made smaller as a whole

    def test_noise_is_5_to_30_decibels_below_the_clip(self) -> None:
        clip = _tone()
        below = [_decibels(clip) - _decibels(_augmented(clip, seed, noise_share=1) - clip) for seed in range(40)]
        assert 4.9 < min(below) < 11
        assert 24 < max(below) < 30.1

    def test_noise_is_white_in_one_half_of_the_clips_and_pink_in_the_other(self) -> None:
        clip = _tone()
        slopes = [_octave_slope(_augmented(clip, seed, noise_share=1) - clip) for seed in range(40)]
        pink = [slope for slope in slopes if slope < 1.5]
        assert 8 < len(pink) < 32
        assert np.mean(pink) == pytest.approx(0, abs=0.3)  # decibels that an octave holds more than the one below
        assert np.mean([slope for slope in slopes if slope >= 1.5]) == pytest.approx(3, abs=0.3)

    def test_a_share_is_the_part_of_the_clips_that_are_changed(self) -> None:
        clip = _tone(seconds=0.05)
        chance = np.random.default_rng(3)
        changed = [augment(clip, chance, **{**_NONE, "gain_share": 0.3}, max_samples=WINDOW_SAMPLES) is not clip for _ in range(1000)]
        assert np.mean(changed) == pytest.approx(0.3, abs=0.05)


class TestEmptyWindow:
    def test_silence_quiet_noise_noise_and_hum_are_all_met(self) -> None:
        windows = [empty_window(np.random.default_rng(seed), 1.0) for seed in range(200)]
        silent = [window for window in windows if not window.any()]
        levels = np.array([_decibels(window) for window in windows if window.any()])
        hums = [window for window in windows if window.any() and np.allclose(window[: SAMPLE_RATE // 50], window[-SAMPLE_RATE // 50 :])]
        assert 20 < len(silent) < 60
        assert 20 < len(hums) < 60
        assert 20 < (levels < QUIET_DBFS[1]).sum() < 60
        assert QUIET_DBFS[0] - 0.5 < levels.min() < QUIET_DBFS[0] + 5
        assert EMPTY_DBFS[1] - 10 < levels.max() < EMPTY_DBFS[1] + 0.5

    def test_hum_is_50_hertz_and_its_harmonics(self) -> None:
        chances = (np.random.default_rng(seed) for seed in range(100))
        hum = next(
            window for chance in chances if (window := empty_window(chance, 1.0)).any() and np.allclose(window[:320], window[320:640])
        )
        spectrum = np.abs(np.fft.rfft(hum.astype(np.float64)))
        heard = np.flatnonzero(spectrum > spectrum.max() / 1000)
        assert set(heard) <= set(range(50, 501, 50))
        assert 50 in heard


class TestSpecAugment:
    def test_a_share_of_the_rows_is_masked_and_the_others_are_the_same_to_the_bit(self) -> None:
        features = torch.randn(1000, 80, 50, generator=torch.Generator().manual_seed(1))
        masked = spec_augment(features, share=0.3, generator=torch.Generator().manual_seed(2))
        changed = (masked != features).any(dim=2).any(dim=1)
        assert changed.float().mean().item() == pytest.approx(0.3, abs=0.05)

    def test_without_a_share_the_very_same_tensor_comes_back(self) -> None:
        features = torch.randn(3, 80, 50)
        assert spec_augment(features, share=0.0) is features

    @pytest.mark.parametrize(("mels", "frames"), [(80, 500), (128, 3000)])
    def test_masks_are_two_bands_and_two_stretches_no_wider_than_their_share(self, mels: int, frames: int) -> None:
        features = torch.randn(50, mels, frames, generator=torch.Generator().manual_seed(1))
        hidden = spec_augment(features, share=1.0, generator=torch.Generator().manual_seed(2)) != features
        bands, stretches = hidden.all(dim=2), hidden.all(dim=1)
        for row in range(50):
            assert torch.equal(hidden[row], bands[row][:, None] | stretches[row][None, :])
        assert int(0.12 * mels) < bands.sum(dim=1).max() <= 2 * int(MAX_BAND_SHARE * mels)
        assert int(0.07 * frames) < stretches.sum(dim=1).max() <= 2 * int(MAX_STRETCH_SHARE * frames)
        assert max(map(_runs, bands)) == 2
        assert max(map(_runs, stretches)) == 2

    def test_every_bin_and_frame_is_masked_as_often_as_its_neighbours_but_near_the_edges(self) -> None:
        features = torch.randn(4000, 80, 25, generator=torch.Generator().manual_seed(1))
        hidden = spec_augment(features, share=1.0, generator=torch.Generator().manual_seed(2)) != features
        bands = hidden.all(dim=2).float().mean(dim=0)
        assert (bands > 0).all()
        assert bands[15:65].max() - bands[15:65].min() < 0.06

    def test_masked_cells_hold_the_mean_of_their_row(self) -> None:
        features = torch.randn(20, 80, 300) + torch.arange(20.0)[:, None, None]
        masked = spec_augment(features, share=1.0, generator=torch.Generator().manual_seed(2))
        for row in range(20):
            cells = masked[row][masked[row] != features[row]]
            assert torch.allclose(cells, features[row].mean(), atol=1e-5)

    def test_the_same_generator_gives_the_same_masks(self) -> None:
        features = torch.randn(20, 80, 300)
        once, again, other = (spec_augment(features, share=0.5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert torch.equal(once, again)
        assert not torch.equal(once, other)

    def test_windows_too_short_for_a_stretch_are_left_whole_in_time(self) -> None:
        features = torch.randn(50, 80, 2)
        masked = spec_augment(features, share=1.0, generator=torch.Generator().manual_seed(2))
        assert (masked == features).all(dim=2).any(dim=1).all()

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_nothing_waits_for_the_gpu(self) -> None:
        features = torch.randn(16, 80, 500, device="cuda")
        generator = torch.Generator("cuda").manual_seed(1)
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            masked = spec_augment(features, share=0.5, generator=generator)
        finally:
            torch.cuda.set_sync_debug_mode(before)
        assert masked.shape == features.shape


def _octave_slope(noise: Samples) -> float:
    """Decibels that an octave holds more than the one below, from 100 Hz to 6.4 kHz: 3 of white noise, 0 of pink."""
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequencies = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
    edges = [100 * 2**octave for octave in range(7)]
    octaves = [power[(frequencies >= low) & (frequencies < high)].sum() for low, high in pairwise(edges)]
    return float(np.polyfit(range(6), 10 * np.log10(octaves), 1)[0])


def _runs(mask: torch.Tensor) -> int:
    padded = torch.cat([torch.tensor([False]), mask])
    return int((padded[1:] & ~padded[:-1]).sum())
