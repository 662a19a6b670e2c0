"""Forward passes equal those of transformers, and read shorter audio too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from avskrift.whisper.forward import IGNORED_LABEL, encode, generate, head_loss, loss
from avskrift.whisper.transformers_folder import load_model

PROMPT, END = (50258, 50273, 50359, 50363), 50257


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """More of them wait for one another where tests share the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tiny_whisper: Path) -> WhisperForConditionalGeneration:
    loaded = load_model(tiny_whisper, torch.device("cpu"))
    loaded.train(mode=False)
    return loaded


def features(clips: int, frames: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(clips, 80, frames, generator=torch.Generator().manual_seed(seed))


def slow_greedy(
    model: WhisperForConditionalGeneration, clip: torch.Tensor, steps: int, suppress: Sequence[int] = (), suppress_first: Sequence[int] = ()
) -> list[int]:
    """One clip, no cache: the whole text is read again for every token."""
    states, written = encode(model, clip), list[int]()
    while len(written) < steps:
        decoded = model.model.decoder(input_ids=torch.tensor([[*PROMPT, *written]]), encoder_hidden_states=states, use_cache=False)
        scores = model.proj_out(decoded.last_hidden_state[0, -1])
        scores[[*suppress, *(() if written else suppress_first)]] = -torch.inf
        if (chosen := int(scores.argmax())) == END:
            break
        written.append(chosen)
    return written


@torch.no_grad()
def test_thirty_seconds_are_encoded_as_transformers_does(model: WhisperForConditionalGeneration) -> None:
    clips = features(2, 3000)
    torch.testing.assert_close(encode(model, clips), model.model.encoder(clips).last_hidden_state)


@torch.no_grad()
@pytest.mark.parametrize("frames", [2, 100, 448, 1234])
def test_shorter_audio_is_encoded_as_by_a_whisper_made_for_that_length(model: WhisperForConditionalGeneration, frames: int) -> None:
    short = WhisperForConditionalGeneration(WhisperConfig(**{**model.config.to_dict(), "max_source_positions": frames // 2}))
    state = model.state_dict()
    name = "model.encoder.embed_positions.weight"
    short.load_state_dict({**state, name: state[name][: frames // 2]})
    short.train(mode=False)
    clips = features(2, frames)
    states = encode(model, clips)
    assert states.shape == (2, frames // 2, 64)
    torch.testing.assert_close(states, short.model.encoder(clips).last_hidden_state)


@torch.no_grad()
def test_a_batch_decodes_to_what_each_clip_decodes_to_alone_without_a_cache(model: WhisperForConditionalGeneration) -> None:
    clips = features(3, 400)
    rows = generate(model, clips, prompt=PROMPT, end=END, max_tokens=7)
    assert rows == [slow_greedy(model, clip[None], 7) for clip in clips]
    assert len({tuple(row) for row in rows}) > 1, "the clips do matter"


@torch.no_grad()
def test_suppressed_tokens_are_never_written(model: WhisperForConditionalGeneration) -> None:
    clips = features(2, 400)
    free = generate(model, clips, prompt=PROMPT, end=END, max_tokens=4)
    unwanted = tuple({token for row in free for token in row})
    rows = generate(model, clips, prompt=PROMPT, end=END, max_tokens=4, suppress=unwanted)
    assert rows == [slow_greedy(model, clip[None], 4, unwanted) for clip in clips]
    first = [row[0] for row in free]
    rows = generate(model, clips, prompt=PROMPT, end=END, max_tokens=4, suppress_first=first)
    assert rows == [slow_greedy(model, clip[None], 4, suppress_first=first) for clip in clips]
    assert not any(row[0] in first for row in rows)


@torch.no_grad()
def test_a_clip_ends_at_its_end_token_while_others_go_on(model: WhisperForConditionalGeneration) -> None:
    clips = features(5, 400)
    free = generate(model, clips, prompt=PROMPT, end=END, max_tokens=10)
    end = next(token for row in free for token in row[3:] if not all(token in other for other in free))
    rows = generate(model, clips, prompt=PROMPT, end=end, max_tokens=10)
    assert rows == [row[: row.index(end)] if end in row else row for row in free]
    assert {len(row) for row in rows} != {10}


def test_the_loss_is_that_of_transformers(model: WhisperForConditionalGeneration) -> None:
    clips = features(3, 3000)
    inputs, labels = _inputs_and_labels()
    expected = model(input_features=clips, decoder_input_ids=inputs, labels=labels).loss
    positions, targets = _learnt(labels)
    torch.testing.assert_close(loss(model, clips, inputs, positions, targets), expected)


def test_positions_that_stand_for_nothing_and_their_order_do_not_change_the_loss(model: WhisperForConditionalGeneration) -> None:
    clips = features(3, 200)
    inputs, labels = _inputs_and_labels()
    positions, targets = _learnt(labels)
    expected = loss(model, clips, inputs, positions, targets)
    padded = torch.cat([positions.flip(0), torch.zeros(7, dtype=torch.long)]), torch.cat([targets.flip(0), torch.full((7,), IGNORED_LABEL)])
    torch.testing.assert_close(loss(model, clips, inputs, *padded), expected)


def test_smoothed_labels_give_the_loss_of_pytorchs_own_smoothing(model: WhisperForConditionalGeneration) -> None:
    clips = features(3, 3000)
    inputs, labels = _inputs_and_labels()
    logits = model(input_features=clips, decoder_input_ids=inputs).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL, label_smoothing=0.1)
    torch.testing.assert_close(loss(model, clips, inputs, *_learnt(labels), label_smoothing=0.1), expected)


@pytest.mark.parametrize("positions", [0, 3], ids=["no-position", "positions-that-stand-for-nothing"])
def test_where_nothing_is_learnt_the_loss_is_zero_and_its_gradients_are_finite(
    model: WhisperForConditionalGeneration, positions: int
) -> None:
    nothing = torch.zeros(positions, dtype=torch.long), torch.full((positions,), IGNORED_LABEL)
    nothing_learnt = loss(model, features(1, 200), torch.tensor([[50258, 1]]), *nothing)
    nothing_learnt.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    model.zero_grad(set_to_none=True)
    assert nothing_learnt == 0
    assert not any(gradient.any() for gradient in gradients)


def test_another_head_takes_the_place_of_the_last_part(model: WhisperForConditionalGeneration) -> None:
    inputs, labels = _inputs_and_labels()
    asked: list[torch.Size] = []

    def head(output: torch.Tensor, hidden: torch.Tensor, *more: Any) -> torch.Tensor:
        asked.append(hidden.shape)
        return 2 * head_loss(output, hidden, *more)

    expected = 2 * loss(model, features(3, 200), inputs, *_learnt(labels))
    torch.testing.assert_close(loss(model, features(3, 200), inputs, *_learnt(labels), head=head), expected)
    assert asked == [torch.Size((3, 9, 64))]


def test_the_loss_reaches_every_weight(model: WhisperForConditionalGeneration) -> None:
    loss(model, features(1, 200), torch.tensor([[50258, 1, 2]]), torch.tensor([0, 1]), torch.tensor([1, 2])).backward()
    without = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    model.zero_grad(set_to_none=True)
    assert without == []


def test_dropout_acts_while_training_alone(tiny_whisper: Path) -> None:
    model = load_model(tiny_whisper, torch.device("cpu"))
    model.model.encoder.dropout = 0.5
    clips = features(1, 200)
    model.train(mode=False)
    assert torch.equal(encode(model, clips), encode(model, clips))
    model.train()
    assert not torch.equal(encode(model, clips), encode(model, clips))


def _inputs_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    """Three rows of decoder inputs, and what each position is to say next; some of them nothing."""
    inputs = torch.randint(0, 50_000, (3, 9), generator=torch.Generator().manual_seed(2))
    labels = inputs.roll(-1, dims=1)
    labels[0, 5:] = labels[1, :2] = IGNORED_LABEL
    return inputs, labels


def _learnt(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions through the rows, and their targets."""
    positions = (labels.flatten() != IGNORED_LABEL).nonzero().flatten()
    return positions, labels.flatten()[positions]
