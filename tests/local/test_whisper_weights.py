"""The real whisper-base: what was converted from CTranslate2 is the model that CTranslate2 runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import ctranslate2
import numpy as np
import pytest
import torch
from english_speech import english_clip
from rapidfuzz.distance import LCSseq, MatchingBlock

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_FRAMES
from avskrift.audio.logmel import log_mel
from avskrift.corpus.demo import TINY, plan, speak
from avskrift.whisper.export import Provenance, export_package
from avskrift.whisper.forward import generate
from avskrift.whisper.package import EncoderContext, ModelPackage
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transcriber import CTranslate2Transcriber, load_transcriber
from avskrift.whisper.transcript import Audio, Options, Word
from avskrift.whisper.transformers_folder import load_model

pytestmark = pytest.mark.weights

_CLIPS = 10  # of some 17 s


@pytest.fixture(scope="module")
def package(whisper_base: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    provenance = Provenance(base_model="package:whisper-base", base_model_sha256="", encoder_context=EncoderContext(policy="full"))
    return export_package(whisper_base, tmp_path_factory.mktemp("whisper-base") / "package", provenance)


@pytest.fixture(scope="module")
def engine(package: ModelPackage) -> CTranslate2Transcriber:
    return load_transcriber(package, device="cpu")


def test_transformers_and_ctranslate2_read_the_same_words_out_of_the_same_speech(whisper_base: Path, package: ModelPackage) -> None:
    clips = [speak(utterance) for utterance in plan(TINY)[:1]]
    tokens = WhisperTokens(package.ctranslate2 / "tokenizer.json")
    # In float32: int8, in which the engine serves, hears an unclear word of synthetic speech differently now and then.
    exact = ctranslate2.models.Whisper(str(package.ctranslate2), device="cpu", compute_type="float32")
    engine = CTranslate2Transcriber(exact, tokens, package.description.encoder_context)
    served = [transcript.text for transcript in engine.transcribe(clips, Options(language="sv"))]

    model = load_model(whisper_base, torch.device("cpu"))
    model.train(mode=False)
    rows = generate(
        model,
        torch.stack([torch.from_numpy(log_mel(clip, frames=WINDOW_FRAMES)) for clip in clips]),
        prompt=tokens.prompt("sv"),
        end=tokens.end,
        max_tokens=40,
        suppress=model.generation_config.suppress_tokens,
        suppress_first=model.generation_config.begin_suppress_tokens,
    )
    assert [tokens.decode(row) for row in rows] == served
    assert all(len(text.split()) > 3 for text in served)


def test_the_engine_as_it_serves_hears_words_at_times_and_nothing_in_silence(engine: CTranslate2Transcriber) -> None:
    clip = speak(plan(TINY)[0])
    spoken, silence = engine.transcribe([clip, np.zeros(SAMPLE_RATE, np.float32)], Options(language="sv", timestamps="segment"))
    assert len(spoken.text.split()) > 3
    assert all(0 <= segment.start_s < segment.end_s <= spoken.duration_s for segment in spoken.segments)
    assert silence.text == ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A clip of a long recording: what was heard in it alone, as words, and where in the recording it begins and ends."""

    heard: list[str]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRecording:
    """Three minutes of clips with pauses between them, and what was heard in it at one go."""

    clips: list[Clip]
    heard: list[Word]


@pytest.fixture(scope="module")
def long_recording(engine: CTranslate2Transcriber) -> LongRecording:
    chance = np.random.default_rng(3)
    clips = [english_clip(number)[1] for number in range(_CLIPS)]
    parts, places, length = list[Audio](), list[tuple[float, float]](), 0
    for clip in clips:
        pause = chance.normal(0, 1e-4, round(chance.uniform(0.3, 1.0) * SAMPLE_RATE)).astype(np.float32)
        places.append(((length + len(pause)) / SAMPLE_RATE, (length + len(pause) + len(clip)) / SAMPLE_RATE))
        parts += [pause, clip]
        length += len(pause) + len(clip)
    whole, *alone = engine.transcribe([np.concatenate(parts), *clips], Options(language="en", timestamps="word"))
    return LongRecording(
        clips=[
            Clip(heard=_plain(transcript.text), start_s=start, end_s=end) for transcript, (start, end) in zip(alone, places, strict=True)
        ],
        heard=[word for segment in whole.segments for word in segment.words],
    )


def test_a_long_recording_loses_no_clip_and_doubles_none(long_recording: LongRecording) -> None:
    """What was heard in each clip alone is found in the recording, in order; and little else is in it."""
    alone = [word for clip in long_recording.clips for word in clip.heard]
    again = _plain(" ".join(word.text for word in long_recording.heard))
    owners = [number for number, clip in enumerate(long_recording.clips) for _ in clip.heard]
    found = [owners[place] for block in _matches(alone, again) for place in range(block.a, block.a + block.size)]
    shares = [found.count(number) / len(clip.heard) for number, clip in enumerate(long_recording.clips)]
    print(f"words found again: {len(found) / len(alone):.3f}, {min(shares):.2f} in the worst clip; {len(alone)} alone, {len(again)} here")
    assert len(found) / len(alone) >= 0.9
    assert min(shares) >= 0.7
    assert abs(len(again) - len(alone)) <= 0.05 * len(alone)


def test_words_are_heard_when_they_are_said(long_recording: LongRecording) -> None:
    """Of each clip whose first or last word was heard again: how far from its known beginning or end."""
    alone = [word for clip in long_recording.clips for word in clip.heard]
    again = [(_plain(word.text) or [""])[0] for word in long_recording.heard]
    heard_at = {block.a + step: block.b + step for block in _matches(alone, again) for step in range(block.size)}
    starts, ends, place = list[float](), list[float](), 0
    for clip in long_recording.clips:
        first, last = heard_at.get(place), heard_at.get(place + len(clip.heard) - 1)
        starts += [abs(long_recording.heard[first].start_s - clip.start_s)] if first is not None else []
        ends += [abs(long_recording.heard[last].end_s - clip.end_s)] if last is not None else []
        place += len(clip.heard)
    print(f"median error: starts {median(starts):.3f} s of {len(starts)}, ends {median(ends):.3f} s of {len(ends)}")
    assert len(starts) >= 0.7 * _CLIPS
    assert len(ends) >= 0.7 * _CLIPS
    assert median(starts + ends) < 0.15


def _plain(text: str) -> list[str]:
    return re.sub(r"[^\w\s]", "", text.lower().replace("-", " ")).split()


def _matches(alone: list[str], again: list[str]) -> list[MatchingBlock]:
    """Of the longest common subsequence: the sentences come again, and difflib's longest block may be a later one's."""
    return LCSseq.opcodes(alone, again).as_matching_blocks()
