"""What suits each size of Whisper: learning rate, and memory on a GPU.

Sizes are told by their shapes, so that a model of any name gets what suits it.
"""

from __future__ import annotations

from dataclasses import dataclass

_MARGIN = 1.15  # longer transcripts than those measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One size. ``learning_rate`` is OpenAI's advice for fine-tuning, the pre-training rate over 40.

    ``measured`` and ``measured_checkpointed`` are GB of GPU memory that a second of padded audio takes when all weights are
    trained in bf16: benchmarks/training_memory.py on an H200. Windows of 6 s and of 30 s took the same.
    """

    name: str
    width: int
    encoder_layers: int
    decoder_layers: int
    learning_rate: float
    measured: float
    measured_checkpointed: float

    @property
    def gigabytes_a_second(self) -> float:
        """What to allow for. Out of memory halves what is taken at once, so an error is mended."""
        return _MARGIN * self.measured

    @property
    def checkpointed(self) -> float:
        """The same with activation checkpointing."""
        return _MARGIN * self.measured_checkpointed


PRESETS = tuple(
    Preset(
        name=name,
        width=width,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        learning_rate=rate,
        measured=kept,
        measured_checkpointed=computed_twice,
    )
    for name, width, encoder_layers, decoder_layers, rate, kept, computed_twice in (
        ("tiny", 384, 4, 4, 3.75e-5, 0.0070, 0.0032),
        ("base", 512, 6, 6, 2.5e-5, 0.0112, 0.0037),
        ("small", 768, 12, 12, 1.25e-5, 0.0284, 0.0044),
        ("medium", 1024, 24, 24, 6.25e-6, 0.0709, 0.0079),
        ("large-v3", 1280, 32, 32, 5e-6, 0.1143, 0.0123),
        ("large-v3-turbo", 1280, 32, 4, 5e-6, 0.0913, 0.0112),
    )
)


def preset_for(*, width: int, decoder_layers: int) -> Preset:
    """The size whose width and depth are nearest, counting width first."""
    return min(PRESETS, key=lambda preset: (abs(preset.width - width), abs(preset.decoder_layers - decoder_layers)))
