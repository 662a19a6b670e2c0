"""Arithmetic that is told as useful work: against a count by hand, and against what PyTorch counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperConfig, WhisperForConditionalGeneration

from avskrift.training.flops import training_flops
from avskrift.whisper.forward import loss


def _config(**changes: Any) -> WhisperConfig:
    sizes: dict[str, Any] = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 64, "decoder_ffn_dim": 48}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 100, "num_mel_bins": 8, "pad_token_id": 0}
    return WhisperConfig(**sizes | changes)


def test_a_small_model_counted_by_hand() -> None:
    config = _config(d_model=2, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=4, decoder_ffn_dim=4, vocab_size=10, num_mel_bins=3)
    convolutions = 2 * 3 * 8 * 3 * 2 + 2 * 3 * 4 * 2 * 2  # over 8 frames, then every other
    encoder = 4 * (4 * 2 * 2 * 2 + 2 * 2 * 2 * 4) + 2 * (2 * 4 * 4 * 2)  # four positions: projections, feed-forward; attention
    decoder = 5 * (4 * 2 * 2 * 2 + 2 * 2 * 2 * 4) + 2 * (2 * 5 * 5 * 2)  # five tokens
    crossed = 5 * (2 * 2 * 2 * 2) + 4 * (2 * 2 * 2 * 2) + 2 * (2 * 5 * 4 * 2)  # queries and output; keys and values; attention
    output = 2 * 3 * 2 * 10
    assert training_flops(config, windows=1, frames=8, tokens=5, learnt=3) == 3 * (convolutions + encoder + decoder + crossed + output)


@pytest.mark.parametrize(("windows", "frames", "tokens", "learnt"), [(2, 200, 12, 15), (1, 1000, 50, 40)])
def test_it_is_what_pytorch_counts_of_forward_and_backward(windows: int, frames: int, tokens: int, learnt: int) -> None:
    config = _config()
    model = WhisperForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    positions = torch.arange(learnt)
    given = torch.randn(windows, 8, frames), torch.ones(windows, tokens, dtype=torch.long), positions, positions % 100
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss(model, *given).backward()
    counted = training_flops(config, windows=windows, frames=frames, tokens=tokens, learnt=learnt)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.05)
