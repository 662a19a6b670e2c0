import itertools

import numpy as np
import pytest

from avskrift.evaluation.sounds import SECONDS, Sound, generate_sounds, noise_floor

RATE = 16_000
SOUNDS = generate_sounds()
KINDS = ("silence", "hum", "white-noise", "pink-noise", "clicks")


def of_kind(kind: str) -> list[Sound]:
    return [sound for sound in SOUNDS if sound.kind == kind]


def level(sound: Sound) -> float:
    return float(10 * np.log10(np.mean(np.square(sound.samples, dtype=np.float64))))


def power(sound: Sound, low_hz: float, high_hz: float) -> float:
    """The share of the power between two frequencies."""
    spectrum = np.square(np.abs(np.fft.rfft(sound.samples.astype(np.float64))))
    hertz = np.fft.rfftfreq(len(sound.samples), 1 / RATE)
    return float(spectrum[(hertz >= low_hz) & (hertz < high_hz)].sum() / spectrum.sum())


def test_every_kind_comes_in_every_duration_and_all_last_two_minutes() -> None:
    assert tuple(dict.fromkeys(sound.kind for sound in SOUNDS)) == KINDS
    for kind in KINDS:
        assert [len(sound.samples) / RATE for sound in of_kind(kind)] == list(SECONDS)
    assert sum(len(sound.samples) for sound in SOUNDS) == 120 * RATE


def test_the_sounds_are_the_same_at_every_call_and_no_two_are_alike() -> None:
    for first, second in zip(SOUNDS, generate_sounds(), strict=True):
        assert np.array_equal(first.samples, second.samples)
    beginnings = [sound.samples[:RATE] for sound in SOUNDS]
    assert not any(np.allclose(a / a.std(), b / b.std()) for a, b in itertools.combinations(beginnings, 2))


@pytest.mark.parametrize("sound", SOUNDS, ids=lambda sound: sound.kind)
def test_a_sound_is_audio_that_neither_clips_nor_hides_below_what_engines_call_silence(sound: Sound) -> None:
    assert sound.samples.dtype == np.float32
    assert np.mean(np.abs(sound.samples) >= 1) < 1e-3
    assert np.max(np.abs(sound.samples)) > 1e-3


def test_silence_is_far_quieter_than_the_rest() -> None:
    assert max(map(level, of_kind("silence"))) < min(level(sound) for sound in SOUNDS if sound.kind != "silence") - 10


def test_hum_lies_on_the_mains_frequency_and_its_harmonics() -> None:
    for sound in of_kind("hum"):
        assert sum(power(sound, 50 * order - 1, 50 * order + 1) for order in range(1, 9)) > 0.99


def test_white_noise_has_the_same_power_everywhere_and_pink_noise_in_every_octave() -> None:
    for sound in of_kind("white-noise"):
        assert power(sound, 1000, 2000) == pytest.approx(1 / 8, rel=0.1)
    for sound in of_kind("pink-noise"):
        assert power(sound, 1000, 2000) == pytest.approx(power(sound, 2000, 4000), rel=0.15)


def test_clicks_are_short_bursts_with_quiet_between_them() -> None:
    for sound in of_kind("clicks"):
        loudness = np.sort(np.abs(sound.samples))
        assert np.median(loudness) < loudness[-1] / 50
        assert np.sum(np.square(loudness[-len(loudness) // 10 :])) > 0.95 * np.sum(np.square(loudness))


def test_the_noise_floor_lasts_as_long_as_asked_and_follows_its_generator() -> None:
    first, second = (noise_floor(0.5, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first, second)
    assert len(first) == RATE // 2
    assert level(Sound(kind="", samples=first)) == pytest.approx(-60)
