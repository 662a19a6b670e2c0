"""What suits each size of Whisper: learning rate, and memory on a GPU.

Sizes are told by their shapes, so that a model of any name gets what suits it.
"""

from __future__ import annotations

from dataclasses import dataclass

# benchmarks/training_throughput.py, on an H100: whisper-small in bf16 took 23.8 GB for 640 s of audio and 42.7 GB for 1280 s.
_SMALL_GIGABYTES_A_SECOND = 0.0295
_SMALL_FEATURES = 12 * 768
_MARGIN = 1.15
# Layers' inputs are kept, and what is inside a layer for one layer at a time. An estimate: it was not measured.
_CHECKPOINTED_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One size. ``learning_rate`` is OpenAI's advice for fine-tuning, the pre-training rate over 40."""

    name: str
    width: int
    encoder_layers: int
    decoder_layers: int
    learning_rate: float

    @property
    def gigabytes_a_second(self) -> float:
        """GPU memory of the activations of a second of audio, when all weights are trained in bf16.

        That of whisper-small was measured; the others follow in proportion to the encoder's layers times its width, since it
        reads 50 positions a second and the decoder some 5. Out of memory halves what is taken at once, so an error is mended.
        """
        return _MARGIN * _SMALL_GIGABYTES_A_SECOND * self.encoder_layers * self.width / _SMALL_FEATURES

    @property
    def checkpointed(self) -> float:
        """The same with activation checkpointing."""
        return self.gigabytes_a_second * _CHECKPOINTED_SHARE


PRESETS = (
    Preset(name="tiny", width=384, encoder_layers=4, decoder_layers=4, learning_rate=3.75e-5),
    Preset(name="base", width=512, encoder_layers=6, decoder_layers=6, learning_rate=2.5e-5),
    Preset(name="small", width=768, encoder_layers=12, decoder_layers=12, learning_rate=1.25e-5),
    Preset(name="medium", width=1024, encoder_layers=24, decoder_layers=24, learning_rate=6.25e-6),
    Preset(name="large-v3", width=1280, encoder_layers=32, decoder_layers=32, learning_rate=5e-6),
    Preset(name="large-v3-turbo", width=1280, encoder_layers=32, decoder_layers=4, learning_rate=5e-6),
)


def preset_for(*, width: int, decoder_layers: int) -> Preset:
    """The size whose width and depth are nearest, counting width first."""
    return min(PRESETS, key=lambda preset: (abs(preset.width - width), abs(preset.decoder_layers - decoder_layers)))
