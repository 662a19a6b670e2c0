"""Whisper forward passes that read as much audio as there is.

``transformers`` insists on 3000 frames; the encoder itself does not: its position table is a prefix for shorter input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import WhisperForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

IGNORED_LABEL = -100  # positions that the loss leaves out


def encode(model: WhisperForConditionalGeneration, features: torch.Tensor) -> torch.Tensor:
    """Encoder states (batch, frames // 2, width) of log-mel features (batch, n_mels, frames), frames even and at most 3000."""
    encoder = model.model.encoder
    hidden = functional.gelu(encoder.conv1(features))
    hidden = functional.gelu(encoder.conv2(hidden)).permute(0, 2, 1)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    hidden = functional.dropout(hidden, p=encoder.dropout, training=encoder.training)
    for layer in encoder.layers:
        output = layer(hidden, None)
        hidden = output[0] if isinstance(output, tuple) else output
    states: torch.Tensor = encoder.layer_norm(hidden)
    return states


def loss(model: WhisperForConditionalGeneration, features: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of ``labels`` (batch, tokens; -100 is left out) given decoder ``inputs`` (batch, tokens)."""
    hidden = model.model.decoder(input_ids=inputs, encoder_hidden_states=encode(model, features), use_cache=False).last_hidden_state
    # Only the positions that count go through the output layer: its 51,865 columns are the largest product of a step.
    counted = labels != IGNORED_LABEL
    logits = model.proj_out(hidden[counted])
    return functional.cross_entropy(logits.float(), labels[counted])


@torch.inference_mode()
def generate(
    model: WhisperForConditionalGeneration,
    features: torch.Tensor,
    *,
    prompt: Sequence[int],
    end: int,
    max_tokens: int,
    suppress: Sequence[int] = (),
    suppress_first: Sequence[int] = (),
) -> list[list[int]]:
    """Greedy decoding of a batch with a cache; tokens after ``prompt`` and before ``end``, one list a clip."""
    states = encode(model, features)
    batch = features.shape[0]
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    tokens = torch.tensor([list(prompt)] * batch, device=features.device)
    written: list[torch.Tensor] = []
    done = torch.zeros(batch, dtype=torch.bool, device=features.device)
    for position in range(max_tokens):
        output = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states), decoder_input_ids=tokens, past_key_values=cache, use_cache=True
        )
        scores = output.logits[:, -1]
        scores[:, list(suppress) + (list(suppress_first) if position == 0 else [])] = -torch.inf
        chosen = scores.argmax(dim=-1).masked_fill(done, end)
        written.append(chosen)
        done |= chosen == end
        if bool(done.all()):
            break
        tokens = chosen[:, None]
    rows = torch.stack(written, dim=1).tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]
