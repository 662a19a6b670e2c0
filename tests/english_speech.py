"""English speech of known boundaries: whisper-base, not adapted, hears eSpeak NG's English better than its Swedish."""

from __future__ import annotations

import numpy as np
import soxr

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.demo.espeak import ESPEAK_RATE, say
from avskrift.whisper.transcript import Audio

SENTENCES = (
    "The old harbour was quiet in the morning.",
    "She opened the window and looked at the garden.",
    "We walked along the river until it was dark.",
    "My brother works in a small bakery near the station.",
    "The train to the north leaves at half past seven.",
    "He forgot his umbrella on the bus again.",
    "There is a letter for you on the kitchen table.",
    "The children played football behind the school.",
    "I would like two cups of coffee, please.",
    "The doctor told him to rest for a week.",
    "They painted the front door bright red.",
    "Our neighbours have three dogs and a cat.",
    "The library closes early on Fridays.",
    "Nobody knew the answer to the last question.",
    "A cold wind was blowing from the sea.",
    "The teacher wrote the date on the board.",
    "It takes an hour to drive to the airport.",
    "She bought fresh bread and a piece of cheese.",
    "The film was longer than we expected.",
    "He put the keys in his coat pocket.",
    "In the summer we swim in the lake.",
    "The museum has a new collection of paintings.",
    "Please turn off the lights when you leave.",
    "The farmer sold his horses last year.",
    "My sister is learning to play the piano.",
)
_VOICES = ("m1", "m3", "f2", "m8", "f5")
_SILENT_BELOW = 0.004  # of full scale


def english_clip(number: int, *, sentences: int = 6) -> tuple[str, Audio]:
    """Text and samples of one clip: so many sentences by one voice, without silence before the first word or behind the last."""
    texts = [SENTENCES[(number * sentences + place) % len(SENTENCES)] for place in range(sentences)]
    spoken = say(" ".join(texts), language="en", variant=_VOICES[number % len(_VOICES)], rate=150, pitch=50, seed=number)
    samples = soxr.resample(spoken.astype(np.float64) / 32768, ESPEAK_RATE, SAMPLE_RATE).astype(np.float32)
    loud = np.flatnonzero(np.abs(samples) > _SILENT_BELOW)
    return " ".join(texts), samples[loud[0] : loud[-1] + 1]
