"""Windows of clips become tensors: what is heard, what is given, and what is learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import encoded, tone
from small_training import write_smallest_whisper

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import Clip
from avskrift.errors import DatasetError, LanguageError, TrainingError
from avskrift.training.config import TrainingConfig
from avskrift.training.examples import Batch, BatchMaker, measure, pad_audio
from avskrift.training.plan import LONGEST_PREVIOUS_TEXT, Part, Shape, label_size
from avskrift.training.windows import GAP_SECONDS, LABEL_ROOM, TOKENS_AROUND_A_CLIP, Window
from avskrift.whisper.forward import IGNORED_LABEL
from avskrift.whisper.tokens import WhisperTokens

GAP = round(GAP_SECONDS * SAMPLE_RATE)
SEED = (1, 0, 0)
EVERYTHING: dict[str, Any] = {"speed_share": 0.5, "gain_share": 0.5, "noise_share": 0.5, "bpe_dropout": 0.3, "empty_share": 0.5}


@pytest.fixture(scope="module")
def tokenizer(bundled_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_smallest_whisper(tmp_path_factory.mktemp("smallest") / "whisper", bundled_whisper) / "tokenizer.json"


@pytest.fixture(scope="module")
def tokens(tokenizer: Path) -> WhisperTokens:
    return WhisperTokens(tokenizer)


class TestLabels:
    def test_a_single_clips_label_is_its_text_and_the_end_and_its_prompt_is_not_learnt(
        self, tokenizer: Path, tokens: WhisperTokens
    ) -> None:
        text = tokens.encode(" Hej på dig.")
        batch = _make(tokenizer, [_clip("a", 1.0, " Hej på dig. ")], Window((0,), 1.0))
        assert batch.inputs.tolist() == [[*tokens.prompt("sv"), *text]]
        assert _learnt(batch) == [{3 + position: token for position, token in enumerate([*text, tokens.end])}]
        assert batch.learnt == len(text) + 1

    def test_each_position_learns_the_token_that_follows_it(self, tokenizer: Path) -> None:
        clips = [_clip("a", 1.0, "Ett."), _clip("b", 1.5, "Tjugotvå stycken."), _clip("c", 0.5, "Tre.")]
        batch = _make(tokenizer, clips, Window((0, 1), 2.7), Window((2,), 0.5))
        for row, learnt in zip(batch.inputs.tolist(), _learnt(batch), strict=True):
            assert [row[position + 1] for position in list(learnt)[:-1]] == list(learnt.values())[:-1]

    def test_padding_behind_a_shorter_label_is_not_learnt(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        clips = [_clip("a", 1.0, "Ja."), _clip("b", 1.0, "En mycket längre mening än den första var.")]
        batch = _make(tokenizer, clips, Window((0,), 1.0), Window((1,), 1.0))
        length = len(tokens.prompt("sv")) + len(tokens.encode(" Ja."))
        short, long = _learnt(batch)
        assert (max(short), short[length - 1]) == (length - 1, tokens.end)
        assert batch.inputs[0, length:].tolist() == [tokens.end] * (batch.inputs.shape[1] - length)
        assert max(long) == batch.inputs.shape[1] - 1

    def test_a_packed_window_is_learnt_with_timestamps_at_its_clips_real_times(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        batch = _make(tokenizer, [_clip("a", 1.0, "Ett."), _clip("b", 2.5, "Två.")], Window((1, 0), 3.7))
        (learnt,) = _learnt(batch)
        stretches = tokens.decode_timed(list(learnt.values())[:-1], duration_s=30)
        assert [(stretch.text, round(stretch.start_s, 2), round(stretch.end_s, 2)) for stretch in stretches] == [
            ("Två.", 0.0, 2.5),
            ("Ett.", 2.7, 3.7),
        ]
        assert list(learnt.values())[-1] == tokens.end
        assert batch.inputs[0, :3].tolist() == tokens.prompt("sv", timestamps=True)
        assert tokens.no_timestamps not in batch.inputs[0].tolist()
        assert learnt[2] == tokens.first_timestamp, "the first timestamp is learnt too"

    def test_special_tokens_spelled_out_in_a_transcript_are_text(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        (learnt,) = _learnt(_make(tokenizer, [_clip("a", 1.0, "Slut <|endoftext|> här")], Window((0,), 1.0)))
        assert list(learnt.values()).count(tokens.end) == 1
        assert list(learnt.values())[-1] == tokens.end

    def test_the_language_is_that_of_the_configuration(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        batch = _make(tokenizer, [_clip("a", 1.0, "Yes.")], Window((0,), 1.0), language="en")
        assert batch.inputs[0, :4].tolist() == tokens.prompt("en")

    def test_a_language_that_the_model_does_not_know_is_refused(self, tokenizer: Path) -> None:
        with pytest.raises(LanguageError, match="'xx'"):
            _make(tokenizer, [_clip("a", 1.0, "Ja.")], Window((0,), 1.0), language="xx")


class TestWindowsWithoutSpeech:
    def test_their_labels_are_that_nobody_speaks_and_the_end(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        batch = _make(tokenizer, [], Window((), 2.0), empty_share=0.1)
        assert batch.inputs.tolist() == [tokens.prompt("sv")]
        assert _learnt(batch) == [{0: tokens.no_speech, 3: tokens.end}]
        assert batch.samples.shape == (1, 2 * SAMPLE_RATE)

    def test_where_there_are_any_windows_with_speech_learn_their_language_so_that_the_two_are_told_apart(
        self, tokenizer: Path, tokens: WhisperTokens
    ) -> None:
        windows, clips = (Window((0,), 1.0), Window((0, 1), 2.2)), [_clip("a", 1.0, "Ja."), _clip("b", 1.0, "Nej.")]
        assert [row[0] for row in _learnt(_make(tokenizer, clips, *windows, empty_share=0.1))] == [tokens.prompt("sv")[1]] * 2
        assert not any(0 in row for row in _learnt(_make(tokenizer, clips, *windows)))

    def test_no_two_of_them_sound_the_same(self, tokenizer: Path) -> None:
        batch = _make(tokenizer, [], *[Window((), 1.0)] * 20, empty_share=0.1)
        assert len({row.numpy().tobytes() for row in batch.samples}) > 10  # silence is always the same


class TestPreviousText:
    def test_it_is_given_before_the_prompt_and_not_learnt(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        clips = [_clip("a", 1.0, "Nu."), _clip("b", 1.0, "Det som sades förut.")]
        plain = _make(tokenizer, clips, Window((0,), 1.0))
        given = _make(tokenizer, clips, Window((0,), 1.0, previous=1))
        before = [tokens.previous, *tokens.encode(" Det som sades förut.")]
        assert given.inputs.tolist() == [[*before, *plain.inputs[0].tolist()]]
        assert _learnt(given) == [{position + len(before): token for position, token in _learnt(plain)[0].items()}]

    def test_what_follows_the_start_token_is_learnt_behind_it(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        clips = [_clip("a", 1.0, "Nu."), _clip("b", 1.0, "Det som sades förut.")]
        batch = _make(tokenizer, clips, Window((), 1.0, previous=1), empty_share=0.1)
        at = batch.inputs[0].tolist().index(tokens.start)
        assert _learnt(batch) == [{at: tokens.no_speech, at + 3: tokens.end}]

    @pytest.mark.parametrize("spoken", [1, 200, 230, 400, LABEL_ROOM - TOKENS_AROUND_A_CLIP])
    def test_its_end_is_what_is_kept_where_the_decoder_has_no_room_for_all(
        self, tokenizer: Path, tokens: WhisperTokens, spoken: int
    ) -> None:
        long = " ".join(["the"] * 20 + ["a"] * 400)
        clips = [_clip("a", 1.0, _text_of(spoken, tokens)), _clip("b", 1.0, long)]
        row = _make(tokenizer, clips, Window((0,), 1.0, previous=1)).inputs[0].tolist()
        assert len(row) <= 448
        kept = row[: row.index(tokens.start)]
        if kept:
            assert kept[0] == tokens.previous
            assert kept[1:] == tokens.encode(f" {long}")[-len(kept) + 1 :]
        assert len(kept) - 1 <= LONGEST_PREVIOUS_TEXT
        assert row[len(kept) :][4:] == tokens.encode(f" {clips[0].text}")


class TestSound:
    def test_packed_clips_are_heard_one_after_the_other_with_silence_between(self, tokenizer: Path) -> None:
        clips = [_clip("a", 1.0, "Ett."), _clip("b", 0.5, "Två.")]
        batch = _make(tokenizer, clips, Window((0, 1), 1.7))
        heard = batch.samples[0].numpy()
        first, second = (clip.samples() for clip in clips)
        at = len(first) + GAP
        assert np.array_equal(heard[: len(first)], first)
        assert not heard[len(first) : at].any()
        assert np.array_equal(heard[at : at + len(second)], second)
        assert batch.audio_s == pytest.approx(1.7)

    def test_a_batch_is_padded_to_its_longest_window_and_not_to_thirty_seconds(self, tokenizer: Path) -> None:
        clips = [_clip("a", 1.0, "Ett."), _clip("b", 2.0, "Två.")]
        batch = _make(tokenizer, clips, Window((0,), 1.0), Window((1,), 2.0))
        assert batch.samples.shape == (2, 2 * SAMPLE_RATE)
        assert not batch.samples[0, SAMPLE_RATE:].any()

    def test_a_part_of_a_step_is_padded_to_the_steps_longest_window(self, tokenizer: Path) -> None:
        batch = _maker(tokenizer, [_clip("a", 1.0, "Ett.")]).make(Part((Window((0,), 1.0),), 0.3, samples=2 * SAMPLE_RATE), seed=SEED)
        assert batch.samples.shape == (1, 2 * SAMPLE_RATE)

    @pytest.mark.parametrize(("samples", "padded"), [(1, 320), (320, 320), (321, 640), (480_000, 480_000)])
    def test_audio_is_padded_to_a_whole_number_of_encoder_positions(self, samples: int, padded: int) -> None:
        assert pad_audio([np.ones(samples, dtype=np.float32)]).shape == (1, padded)

    def test_slower_speech_is_told_at_the_times_at_which_it_is_heard(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        clips = [_clip("a", 1.0, "Ett."), _clip("b", 2.0, "Två.")]
        lengths = set()
        maker = _maker(tokenizer, clips, speed_share=1)
        for number in range(6):
            batch = maker.make(Part((Window((0, 1), 3.2),), 1.0), seed=(1, number, 0))
            (learnt,) = _learnt(batch)
            stretches = tokens.decode_timed(list(learnt.values())[:-1], duration_s=30)
            heard = batch.samples[0].nonzero().max().item() / SAMPLE_RATE
            assert stretches[1].end_s == pytest.approx(heard, abs=0.03)
            assert stretches[1].start_s - stretches[0].end_s == pytest.approx(GAP_SECONDS, abs=0.03)
            lengths.add(stretches[1].end_s)
        assert len(lengths) > 3, "speeds differ"
        assert min(lengths) < 3.2 < max(lengths)

    def test_slower_speech_never_outgrows_the_shape(self, tokenizer: Path) -> None:
        shape = Shape(windows=1, samples=SAMPLE_RATE, tokens=16, learnt=16)
        maker = _maker(tokenizer, [_clip("a", 1.0, "Ett.")], speed_share=1)
        for number in range(6):
            made = maker.make(Part((Window((0,), 1.0),), 1.0, shape), seed=(1, number, 0))
            assert made.samples.shape == (1, SAMPLE_RATE)

    def test_audio_longer_than_the_dataset_says_is_refused_by_clip_before_it_meets_the_encoder(self, tokenizer: Path) -> None:
        with pytest.raises(DatasetError, match=r"clips b, a: their audio is longer than the dataset says"):
            _make(tokenizer, [_clip("a", 1.0, "Ja."), _clip("b", 29.0, "Nej.")], Window((1, 0), 2.2))

    def test_audio_longer_than_a_static_shape_is_refused_too(self, tokenizer: Path) -> None:
        part = Part((Window((0,), 0.9),), 1.0, Shape(windows=1, samples=SAMPLE_RATE * 9 // 10, tokens=16, learnt=16))
        with pytest.raises(DatasetError, match=r"clips a: their audio is longer than the dataset says"):
            _maker(tokenizer, [_clip("a", 1.0, "Ja.")]).make(part, seed=SEED)

    def test_a_clip_that_cannot_be_decoded_is_refused_by_clip(self, tokenizer: Path) -> None:
        broken = Clip(clip_id="torn", audio=b"fLaC", duration_s=1.0, text="Ja.")
        with pytest.raises(DatasetError, match="clip torn"):
            _make(tokenizer, [broken], Window((0,), 1.0))


class TestShapes:
    def test_a_part_fills_its_static_shape_and_what_is_filled_up_is_not_learnt(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        shape = Shape(windows=4, samples=3 * SAMPLE_RATE, tokens=24, learnt=128)
        part = Part((Window((0,), 1.0), Window((1,), 2.0)), 0.5, shape)
        clips = [_clip("a", 1.0, "Ett."), _clip("b", 2.0, "Två gånger.")]
        batch = _maker(tokenizer, clips).make(part, seed=SEED)
        free = _make(tokenizer, clips, *part.windows)
        assert (batch.samples.shape, batch.inputs.shape) == ((4, 3 * SAMPLE_RATE), (4, 24))
        assert batch.positions.shape == batch.targets.shape == (128,)
        assert [row for row in _learnt(batch) if row] == _learnt(free)
        assert (batch.share, batch.learnt) == (0.5, free.learnt)
        assert not batch.samples[2:].any()

    def test_an_empty_part_has_a_shape_and_learns_nothing(self, tokenizer: Path) -> None:
        for shape in (None, Shape(windows=2, samples=SAMPLE_RATE, tokens=8, learnt=128)):
            batch = _maker(tokenizer, []).make(Part((), 0.0, shape), seed=SEED)
            assert (batch.learnt, batch.share) == (0, 0)
            assert batch.samples.shape[0] == batch.inputs.shape[0] == (shape.windows if shape else 1)
            assert (batch.targets == IGNORED_LABEL).all()

    def test_smaller_pieces_of_words_fit_the_shape_or_are_not_used(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        clips = [_clip("a", 1.0, "Vattenkokaren visslar och förmiddagskaffet är färdigt.")]
        plain = _make(tokenizer, clips, Window((0,), 1.0))
        assert _make(tokenizer, clips, Window((0,), 1.0), bpe_dropout=0.9).learnt > plain.learnt, "they take more room"
        for learnt, width in ((plain.learnt, 200), (128, plain.inputs.shape[1])):
            part = Part((Window((0,), 1.0),), 1.0, Shape(windows=1, samples=SAMPLE_RATE, tokens=width, learnt=learnt))
            batch = _maker(tokenizer, clips, bpe_dropout=0.9).make(part, seed=SEED)
            assert _learnt(batch) == _learnt(plain)

    def test_smaller_pieces_spell_the_same_text(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        batch = _make(tokenizer, [_clip("a", 1.0, "Förmiddagskaffet är färdigt.")], Window((0,), 1.0), bpe_dropout=0.5)
        assert tokens.decode(list(_learnt(batch)[0].values())) == "Förmiddagskaffet är färdigt."


class TestChance:
    def test_the_same_seed_makes_the_same_batch_and_another_seed_another(self, tokenizer: Path) -> None:
        clips = [_clip("a", 1.0, "Förmiddagskaffet är färdigt."), _clip("b", 2.0, "Vattenkokaren visslar.")]
        windows = (Window((0, 1), 3.2), Window((1,), 2.0, previous=0), Window((), 1.5))
        made = [_make(tokenizer, clips, *windows, seed=seed, **EVERYTHING) for seed in ((1, 2, 3), (1, 2, 3), (1, 2, 4), (2, 2, 3))]
        assert _same(made[0], made[1])
        assert not _same(made[0], made[2])
        assert not _same(made[0], made[3])

    def test_without_augmentation_the_seed_changes_nothing(self, tokenizer: Path) -> None:
        clips = [_clip("a", 1.0, "Kaffe."), _clip("b", 2.0, "Te.")]
        assert _same(*(_make(tokenizer, clips, Window((0, 1), 3.2), seed=seed) for seed in ((1, 2, 3), (4, 5, 6))))


class TestHalves:
    def test_two_halves_hold_all_windows_and_what_is_learnt_of_them(self, tokenizer: Path) -> None:
        clips = [_clip(name, 1.0, text) for name, text in zip("abcde", ("Ja.", "Nej du.", "Det var en gång.", "Å.", "Nu!"), strict=True)]
        for shape in (None, Shape(windows=7, samples=SAMPLE_RATE, tokens=16, learnt=128)):
            part = Part(tuple(Window((index,), 1.0) for index in range(5)), 0.8, shape)
            whole = _maker(tokenizer, clips).make(part, seed=SEED)
            halves = whole.halves()
            assert len(halves) == 2
            assert torch.equal(torch.cat([half.samples for half in halves]), whole.samples)
            assert torch.equal(torch.cat([half.inputs for half in halves]), whole.inputs)
            assert [row for half in halves for row in _learnt(half)] == _learnt(whole)
            assert sum(half.learnt for half in halves) == whole.learnt
            assert sum(half.share for half in halves) == pytest.approx(whole.share)
            assert sum(half.audio_s for half in halves) == pytest.approx(whole.audio_s)
            assert halves[0].share / halves[1].share == pytest.approx(halves[0].learnt / halves[1].learnt)

    def test_one_window_is_not_halved(self, tokenizer: Path) -> None:
        batch = _make(tokenizer, [_clip("a", 1.0, "Ja.")], Window((0,), 1.0))
        assert batch.halves() == [batch]


class TestSizes:
    def test_the_planned_size_of_a_window_is_the_size_that_is_trained(self, tokenizer: Path, tokens: WhisperTokens) -> None:
        room = LABEL_ROOM - TOKENS_AROUND_A_CLIP
        clips = [
            _clip("a", 1.25, "Ett två tre."),
            _clip("b", 2.0, "  Å, ä och ö!\n"),
            _clip("c", 1.0, ""),
            _clip("d", 1.0, _text_of(430, tokens)),
        ]
        clips.append(_clip("e", 1.0, _text_of(room, tokens)))
        # Together with the first clip it leaves no room for previous text at all.
        clips.append(_clip("f", 1.0, _text_of(room - TOKENS_AROUND_A_CLIP - len(tokens.encode(" Ett två tre.")), tokens)))
        windows = [Window((index,), clip.duration_s) for index, clip in enumerate(clips)] + [Window((), 2.0)]
        windows += [Window((0, 1), 3.45), Window((0, 1, 2), 4.65), Window((5, 0), 2.45)]
        windows += [replace(window, previous=previous) for window in windows for previous in (1, 2, 3)]
        sizes = measure(clips, tokens)
        for empty_share in (0.0, 0.5):
            maker = _maker(tokenizer, clips, empty_share=empty_share)
            for window in windows:
                batch = maker.make(Part((window,), 1.0), seed=SEED)
                assert label_size(window, sizes, with_start=empty_share > 0) == (batch.inputs.shape[1], batch.learnt), window
                assert batch.audio_s == pytest.approx(window.duration_s)
                assert batch.samples.shape[1] == 320 * math.ceil(round(window.duration_s * SAMPLE_RATE) / 320)

    def test_a_transcript_that_just_fits_the_decoder_is_accepted_and_one_token_more_is_refused_by_clip(
        self, tokenizer: Path, tokens: WhisperTokens
    ) -> None:
        room = LABEL_ROOM - TOKENS_AROUND_A_CLIP
        fits, too_long = _clip("fits", 30.0, _text_of(room, tokens)), _clip("long-one", 30.0, _text_of(room + 1, tokens))
        assert measure([fits], tokens)[0].tokens == room
        assert _make(tokenizer, [fits], Window((0,), 30.0)).inputs.shape[1] <= 448
        with pytest.raises(TrainingError, match=rf"clip long-one: its transcript has {room + 1} tokens, {room} fit"):
            measure([fits, too_long], tokens)

    def test_a_clip_longer_than_a_window_is_refused_by_clip(self, tokens: WhisperTokens) -> None:
        with pytest.raises(TrainingError, match=r"clip endless lasts 30.5 s, 30 s fit"):
            measure([_clip("a", 30.0, "Ja."), _clip("endless", 30.5, "Nej.")], tokens)

    @pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, 100.1])
    def test_a_clip_whose_weight_cannot_be_is_refused_by_clip(self, tokens: WhisperTokens, weight: float) -> None:
        with pytest.raises(TrainingError, match=rf"clip odd: its weight is {weight}; over 0 and at most 100 is due"):
            measure([_clip("a", 1.0, "Ja."), replace(_clip("odd", 1.0, "Nej."), weight=weight)], tokens)

    @pytest.mark.parametrize("weight", [0.01, 1.0, 100.0])
    def test_a_clips_weight_does_not_change_its_size(self, tokens: WhisperTokens, weight: float) -> None:
        clip = _clip("a", 1.0, "Ja.")
        assert measure([replace(clip, weight=weight)], tokens) == measure([clip], tokens)


def _maker(tokenizer: Path, clips: Sequence[Clip], **options: Any) -> BatchMaker:
    return BatchMaker(clips, tokenizer, TrainingConfig(**({"empty_share": 0.0} | options)))


def _make(tokenizer: Path, clips: Sequence[Clip], *windows: Window, seed: Sequence[int] = SEED, **options: Any) -> Batch:
    """The batch of all of a step's windows."""
    return _maker(tokenizer, clips, **options).make(Part(windows, 1.0), seed=seed)


def _learnt(batch: Batch) -> list[dict[int, int]]:
    """For each row what is to be said after which position."""
    rows: list[dict[int, int]] = [{} for _ in batch.inputs]
    for position, target in zip(batch.positions.tolist(), batch.targets.tolist(), strict=True):
        if target != IGNORED_LABEL:
            row, column = divmod(position, batch.inputs.shape[1])
            rows[row][column] = target
    return rows


def _same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("samples", "inputs", "positions", "targets"))


def _clip(clip_id: str, seconds: float, text: str) -> Clip:
    samples = tone(seconds, hertz=300.0 + 10 * len(text) % 200)
    return Clip(clip_id=clip_id, audio=encoded(samples, container="FLAC"), duration_s=seconds, text=text)


def _text_of(count: int, tokens: WhisperTokens) -> str:
    text = " ".join(["a"] * count)
    assert len(tokens.encode(f" {text}")) == count
    return text
