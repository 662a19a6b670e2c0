"""Which attention heads of a decoder follow the audio: what word timestamps are read from.

A model says so itself in ``generation_config.json``, and fine-tuning leaves its heads where they are. For models that say
nothing, the heads that OpenAI published for each size (``_ALIGNMENT_HEADS`` of openai/whisper) are listed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from avskrift.errors import PackageError

AlignmentHeads = tuple[tuple[int, int], ...]  # (layer, head) each, counted from 0


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """What tells the sizes of Whisper apart: the decoder's layers, the heads in each, and the encoder's mel bins."""

    layers: int
    heads: int
    mel_bins: int


_TINY, _BASE, _SMALL, _MEDIUM = DecoderShape(4, 6, 80), DecoderShape(6, 8, 80), DecoderShape(12, 12, 80), DecoderShape(24, 16, 80)
_LARGE, _LARGE_V3, _TURBO = DecoderShape(32, 20, 80), DecoderShape(32, 20, 128), DecoderShape(4, 20, 128)

# fmt: off
_PUBLISHED: dict[DecoderShape, AlignmentHeads] = {
    _TINY: ((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)),
    _BASE: ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6)),
    _SMALL: ((5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5)),
    _MEDIUM: ((13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4)),
    # Of large-v2: its shape is the first large's too, which few people have fine-tuned.
    _LARGE: (
        (10, 12), (13, 17), (16, 11), (16, 12), (16, 13), (17, 15), (17, 16), (18, 4), (18, 11), (18, 19), (19, 11), (21, 2),
        (21, 3), (22, 3), (22, 9), (22, 12), (23, 5), (23, 7), (23, 13), (25, 5), (26, 1), (26, 12), (27, 15),
    ),
    _LARGE_V3: ((7, 0), (10, 17), (12, 18), (13, 12), (16, 1), (17, 14), (19, 11), (21, 4), (24, 1), (25, 6)),
    _TURBO: ((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)),
}
# fmt: on


def alignment_heads(said: object, shape: DecoderShape) -> AlignmentHeads:
    """The heads that a model's settings name (``said``, None where they name none), else those of its size.

    A shape that OpenAI did not publish gets every head of the last half of its layers, as CTranslate2 has it.

    Raises:
        PackageError: heads that the decoder does not have; CTranslate2 would read beyond its memory.
    """
    if not said:
        return _PUBLISHED.get(shape) or tuple(product(range(shape.layers // 2, shape.layers), range(shape.heads)))
    heads = _pairs(said)
    if not heads or any(not (0 <= layer < shape.layers and 0 <= head < shape.heads) for layer, head in heads):
        raise PackageError(
            f"alignment_heads {said} are not pairs of a layer and a head of a decoder with {shape.layers} layers of {shape.heads} heads;"
            " correct them in the model's generation settings, or take them out"
        )
    return heads


def _pairs(said: object) -> AlignmentHeads:
    """Empty where it is anything else."""
    pairs = list(said) if isinstance(said, list | tuple) else []
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 and all(type(one) is int for one in pair) for pair in pairs):
        return ()
    return tuple((layer, head) for layer, head in pairs)
