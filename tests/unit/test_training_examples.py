"""Windows of clips become tensors: what is heard, what is given, and what is learnt."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import Clip
from avskrift.errors import DatasetError, LanguageError, TrainingError
from avskrift.training.examples import make_batch, measure, pad_audio
from avskrift.training.windows import GAP_SECONDS, LABEL_ROOM, TOKENS_AROUND_A_CLIP, Window
from avskrift.whisper.forward import IGNORED_LABEL
from avskrift.whisper.tokens import WhisperTokens

GAP = round(GAP_SECONDS * SAMPLE_RATE)


@pytest.fixture(scope="module")
def tokens(tiny_whisper: Path) -> WhisperTokens:
    return WhisperTokens(tiny_whisper / "tokenizer.json")


def test_a_single_clips_label_is_its_text_and_the_end_and_its_prompt_is_not_learnt(tokens: WhisperTokens) -> None:
    text = tokens.encode(" Hej på dig.")
    batch = make_batch([Window((0,), 1.0)], [_clip("a", 1.0, " Hej på dig. ")], tokens, language="sv")
    assert batch.inputs.tolist() == [[*tokens.prompt("sv"), *text]]
    assert batch.labels.tolist() == [[*[IGNORED_LABEL] * 3, *text, tokens.end]]


def test_each_position_learns_the_token_that_follows_it(tokens: WhisperTokens) -> None:
    clips = [_clip("a", 1.0, "Ett."), _clip("b", 1.5, "Tjugotvå stycken."), _clip("c", 0.5, "Tre.")]
    batch = make_batch([Window((0, 1), 2.7), Window((2,), 0.5)], clips, tokens, language="sv")
    learnt = batch.labels[:, :-1] != IGNORED_LABEL
    within = learnt & (batch.labels[:, :-1] != tokens.end)
    assert batch.inputs[:, 1:][within].tolist() == batch.labels[:, :-1][within].tolist()


def test_padding_behind_a_shorter_label_is_not_learnt(tokens: WhisperTokens) -> None:
    clips = [_clip("a", 1.0, "Ja."), _clip("b", 1.0, "En mycket längre mening än den första var.")]
    batch = make_batch([Window((0,), 1.0), Window((1,), 1.0)], clips, tokens, language="sv")
    length = len(tokens.prompt("sv")) + len(tokens.encode(" Ja."))
    assert batch.labels[0, length - 1] == tokens.end
    assert batch.labels[0, length:].tolist() == [IGNORED_LABEL] * (batch.labels.shape[1] - length)
    assert batch.inputs.shape == batch.labels.shape


def test_a_packed_window_is_learnt_with_timestamps_at_its_clips_real_times(tokens: WhisperTokens) -> None:
    clips = [_clip("a", 1.0, "Ett."), _clip("b", 2.5, "Två.")]
    batch = make_batch([Window((1, 0), 3.7)], clips, tokens, language="sv")
    label = [token for token in batch.labels[0].tolist() if token != IGNORED_LABEL]
    stretches = tokens.decode_timed(label[:-1], duration_s=30)
    assert [(stretch.text, round(stretch.start_s, 2), round(stretch.end_s, 2)) for stretch in stretches] == [
        ("Två.", 0.0, 2.5),
        ("Ett.", 2.7, 3.7),
    ]
    assert label[-1] == tokens.end
    assert batch.inputs[0, :3].tolist() == tokens.prompt("sv", timestamps=True)
    assert tokens.no_timestamps not in batch.inputs[0].tolist()
    assert batch.labels[0, 2] == tokens.first_timestamp, "the first timestamp is learnt too"


def test_packed_clips_are_heard_one_after_the_other_with_silence_between(tokens: WhisperTokens) -> None:
    clips = [_clip("a", 1.0, "Ett."), _clip("b", 0.5, "Två.")]
    batch = make_batch([Window((0, 1), 1.7)], clips, tokens, language="sv")
    heard = batch.samples[0].numpy()
    first, second = (clip.samples() for clip in clips)
    at = len(first) + GAP
    assert np.array_equal(heard[: len(first)], first)
    assert not heard[len(first) : at].any()
    assert np.array_equal(heard[at : at + len(second)], second)
    assert batch.audio_s == pytest.approx(1.7)
    assert batch.clip_ids == ("a", "b")


def test_a_batch_is_padded_to_its_longest_window_and_not_to_thirty_seconds(tokens: WhisperTokens) -> None:
    clips = [_clip("a", 1.0, "Ett."), _clip("b", 2.0, "Två.")]
    batch = make_batch([Window((0,), 1.0), Window((1,), 2.0)], clips, tokens, language="sv")
    assert batch.samples.shape == (2, 2 * SAMPLE_RATE)
    assert not batch.samples[0, SAMPLE_RATE:].any()


@pytest.mark.parametrize(("samples", "padded"), [(1, 320), (320, 320), (321, 640), (480_000, 480_000)])
def test_audio_is_padded_to_a_whole_number_of_encoder_positions(samples: int, padded: int) -> None:
    assert pad_audio([np.ones(samples, dtype=np.float32)]).shape == (1, padded)


def test_special_tokens_spelled_out_in_a_transcript_are_text(tokens: WhisperTokens) -> None:
    batch = make_batch([Window((0,), 1.0)], [_clip("a", 1.0, "Slut <|endoftext|> här")], tokens, language="sv")
    assert batch.labels[0].tolist().count(tokens.end) == 1
    assert batch.labels[0, -1] == tokens.end


def test_the_planned_size_of_a_clip_is_the_size_that_is_trained(tokens: WhisperTokens) -> None:
    clips = [_clip("a", 1.25, "Ett två tre."), _clip("b", 2.0, "  Å, ä och ö!\n")]
    for index, size in enumerate(measure(clips, tokens)):
        batch = make_batch([Window((index,), size.duration_s)], clips, tokens, language="sv")
        assert batch.audio_s == pytest.approx(size.duration_s)
        assert int((batch.labels != IGNORED_LABEL).sum()) == size.tokens + 1


def test_a_transcript_that_just_fits_the_decoder_is_accepted_and_one_token_more_is_refused_by_clip(tokens: WhisperTokens) -> None:
    room = LABEL_ROOM - TOKENS_AROUND_A_CLIP
    fits, too_long = _clip("fits", 30.0, _text_of(room, tokens)), _clip("long-one", 30.0, _text_of(room + 1, tokens))
    assert measure([fits], tokens)[0].tokens == room
    batch = make_batch([Window((0,), 30.0)], [fits], tokens, language="sv")
    assert batch.inputs.shape[1] <= 448
    with pytest.raises(TrainingError, match=rf"clip long-one: its transcript has {room + 1} tokens, {room} fit"):
        measure([fits, too_long], tokens)


def test_a_clip_longer_than_a_window_is_refused_by_clip(tokens: WhisperTokens) -> None:
    with pytest.raises(TrainingError, match=r"clip endless lasts 30.5 s, 30 s fit"):
        measure([_clip("a", 30.0, "Ja."), _clip("endless", 30.5, "Nej.")], tokens)


def test_audio_longer_than_the_dataset_says_is_refused_by_clip_before_it_meets_the_encoder(tokens: WhisperTokens) -> None:
    with pytest.raises(DatasetError, match=r"clips b, a: their audio is longer than the dataset says"):
        make_batch([Window((1, 0), 2.2)], [_clip("a", 1.0, "Ja."), _clip("b", 29.0, "Nej.")], tokens, language="sv")


def test_a_clip_that_cannot_be_decoded_is_refused_by_clip(tokens: WhisperTokens) -> None:
    broken = Clip(clip_id="torn", audio=b"fLaC", duration_s=1.0, text="Ja.")
    with pytest.raises(DatasetError, match="clip torn"):
        make_batch([Window((0,), 1.0)], [broken], tokens, language="sv")


def test_a_language_that_the_model_does_not_know_is_refused(tokens: WhisperTokens) -> None:
    with pytest.raises(LanguageError, match="'xx'"):
        make_batch([Window((0,), 1.0)], [_clip("a", 1.0, "Ja.")], tokens, language="xx")


def _clip(clip_id: str, seconds: float, text: str) -> Clip:
    samples = 0.3 * np.sin(np.arange(round(seconds * SAMPLE_RATE)) * (0.05 + 0.01 * len(text) % 7) + 0.1)
    buffer = io.BytesIO()
    sf.write(buffer, samples, SAMPLE_RATE, format="FLAC")
    return Clip(clip_id=clip_id, audio=buffer.getvalue(), duration_s=seconds, text=text)


def _text_of(count: int, tokens: WhisperTokens) -> str:
    text = " ".join(["ja"] * count)
    assert len(tokens.encode(f" {text}")) == count
    return text
