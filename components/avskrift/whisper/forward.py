"""Whisper forward passes that read as much audio as there is.

``transformers`` insists on 3000 frames; the encoder itself does not: its position table is a prefix for shorter input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import WhisperForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

IGNORED_LABEL = -100  # positions that the loss leaves out
_STEPS_BETWEEN_LOOKS = 4


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


def loss(
    model: WhisperForConditionalGeneration,
    features: torch.Tensor,
    inputs: torch.Tensor,
    positions: torch.Tensor,
    targets: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    head: Callable[..., torch.Tensor] | None = None,
) -> torch.Tensor:
    """Mean cross-entropy of ``targets`` (n) at ``positions`` (n), which count through the rows of decoder ``inputs`` (batch, tokens).

    Targets of -100 are left out; 0 where all are. No value decides a shape, so that the whole can be compiled; ``head`` may be
    a compiled :func:`head_loss`.
    """
    hidden = model.model.decoder(input_ids=inputs, encoder_hidden_states=encode(model, features), use_cache=False).last_hidden_state
    return (head or head_loss)(model.proj_out.weight, hidden, positions, targets, label_smoothing)


def head_loss(
    output: torch.Tensor, hidden: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """The part of :func:`loss` behind the decoder, whose states are ``hidden`` (batch, tokens, width)."""
    # Only the positions that count go through the output layer: its 51,865 columns are the largest product of a step.
    logits = functional.linear(hidden.flatten(0, 1)[positions], output).float()
    total = functional.cross_entropy(logits, targets, ignore_index=IGNORED_LABEL, reduction="sum", label_smoothing=label_smoothing)
    return total / (targets != IGNORED_LABEL).sum().clamp(min=1)


@dataclass(frozen=True, slots=True)
class Written:
    """What was decoded of one clip: tokens after the prompt and before the end.

    ``avg_logprob`` is the mean log-probability of the tokens, the end among them; ``no_speech_prob`` is 0.0 where it was not asked for.
    """

    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float = 0.0


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
    """The tokens alone that :func:`write` writes."""
    written = write(model, features, prompt=prompt, end=end, max_tokens=max_tokens, suppress=suppress, suppress_first=suppress_first)
    return [one.tokens for one in written]


@torch.inference_mode()
def write(
    model: WhisperForConditionalGeneration,
    features: torch.Tensor,
    *,
    prompt: Sequence[int],
    end: int,
    max_tokens: int,
    suppress: Sequence[int] = (),
    suppress_first: Sequence[int] = (),
    no_speech: tuple[int, int] | None = None,
) -> list[Written]:
    """Greedy decoding of a batch with a cache, one result a clip.

    ``no_speech`` is the place of the start token in ``prompt`` and the token whose probability behind it is asked for.
    """
    states = encode(model, features)
    batch = features.shape[0]
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    tokens = torch.tensor([list(prompt)] * batch, device=features.device)
    silence = torch.zeros(batch, device=features.device)
    written, logprobs = list[torch.Tensor](), list[torch.Tensor]()
    done = torch.zeros(batch, dtype=torch.bool, device=features.device)
    for position in range(max_tokens):
        output = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states), decoder_input_ids=tokens, past_key_values=cache, use_cache=True
        )
        if no_speech and position == 0:
            start, token = no_speech
            silence = output.logits[:, start].float().softmax(dim=-1)[:, token]
        scores = output.logits[:, -1]
        scores[:, list(suppress) + (list(suppress_first) if position == 0 else [])] = -torch.inf
        chosen = scores.argmax(dim=-1).masked_fill(done, end)
        logprob = scores.float().log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0]
        logprobs.append(logprob.masked_fill(done, 0.0))
        written.append(chosen)
        done |= chosen == end
        # Each look waits for the GPU, which is then idle until the next token is asked for.
        if position % _STEPS_BETWEEN_LOOKS == 0 and bool(done.all()):
            break
        tokens = chosen[:, None]
    return _cut_at_end(torch.stack(written, dim=1), torch.stack(logprobs, dim=1), silence, end)


def _cut_at_end(tokens: torch.Tensor, logprobs: torch.Tensor, silence: torch.Tensor, end: int) -> list[Written]:
    results = []
    for row, total, probability in zip(tokens.tolist(), logprobs.sum(dim=1).tolist(), silence.tolist(), strict=True):
        length = row.index(end) if end in row else len(row)
        results.append(Written(row[:length], total / min(length + 1, len(row)), probability))
    return results
