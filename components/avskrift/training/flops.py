"""How much arithmetic a step is, so that speed can be told as a share of what a GPU can do (model FLOP utilisation).

A product of (m, k) and (k, n) counts 2 m k n. The backward pass counts twice the forward pass. What is computed again
(activation checkpointing) and padding inside a static shape beyond the part's own rows do not count as useful work.
"""

from __future__ import annotations

from transformers import WhisperConfig

_BACKWARD = 2  # gradients of inputs and of weights


def training_flops(config: WhisperConfig, *, windows: int, frames: int, tokens: int, learnt: int) -> float:
    """Floating-point operations of forward and backward over ``windows`` of ``frames`` log-mel frames and ``tokens`` tokens each.

    ``learnt`` counts the positions that go through the output layer, in all windows together.
    """
    width, positions = config.d_model, frames // 2
    convolutions = 2 * 3 * width * (frames * config.num_mel_bins + positions * width)
    encoder = config.encoder_layers * positions * (_linear(width, config.encoder_ffn_dim, 4) + 4 * positions * width)
    self_attention = _linear(width, config.decoder_ffn_dim, 4) + 4 * tokens * width
    cross_attention = 2 * 2 * width**2 + 4 * positions * width
    decoder = config.decoder_layers * (tokens * (self_attention + cross_attention) + positions * 2 * 2 * width**2)
    output = 2 * learnt * width * config.vocab_size
    return (1 + _BACKWARD) * float(windows * (convolutions + encoder + decoder) + output)


def _linear(width: int, inner: int, projections: int) -> int:
    """The projections of an attention and the feed-forward layer, for one position."""
    return 2 * (projections * width**2 + 2 * width * inner)
