"""The engine: whatever the recordings are, texts and times are sound, and do not depend on what else is transcribed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import ctranslate2
import numpy as np
import pytest

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.errors import LanguageError, PackageError, UsageError
from avskrift.whisper.package import EncoderContext, ModelPackage
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transcriber import ENGINE_VERSION, CTranslate2Transcriber, load_transcriber
from avskrift.whisper.transcript import Audio, Options, Transcriber

Policy = Literal["full", "variable"]
SWEDISH = Options(language="sv")


@dataclass(slots=True)
class Watched:
    """The real CTranslate2 model; remembers the shapes and prompts that it was given."""

    model: Any
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, features: Any, prompts: Sequence[list[int]], **options: Any) -> Any:
        self.shapes.append(tuple(features.shape))
        self.prompts += prompts
        return self.model.generate(features, prompts, **options)


def adapted(package: ModelPackage, policy: Policy) -> ModelPackage:
    return ModelPackage(package.folder, replace(package.description, encoder_context=EncoderContext(policy=policy)))


def noise(seconds: float, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def engine(tiny_package: ModelPackage) -> CTranslate2Transcriber:
    return load_transcriber(adapted(tiny_package, "variable"), device="cpu", threads=1)


@pytest.fixture(scope="module")
def model(tiny_package: ModelPackage) -> Any:
    return ctranslate2.models.Whisper(str(tiny_package.ctranslate2), device="cpu", compute_type="int8", intra_threads=1)


@pytest.fixture(scope="module")
def tokens(tiny_package: ModelPackage) -> WhisperTokens:
    return WhisperTokens(tiny_package.ctranslate2 / "tokenizer.json")


def test_the_engine_is_what_evaluation_and_serving_ask_for(engine: CTranslate2Transcriber) -> None:
    asked: Transcriber = engine
    (transcript,) = asked.transcribe([noise(1.0)], SWEDISH)
    assert transcript.text
    assert (transcript.language, transcript.language_probability, transcript.duration_s) == ("sv", 1.0, 1.0)
    assert [segment.text for segment in transcript.segments] == [transcript.text]
    assert (transcript.segments[0].start_s, transcript.segments[0].end_s) == (0.0, 1.0)
    assert transcript.segments[0].avg_logprob < 0
    assert 0 <= transcript.segments[0].no_speech_prob <= 1


def test_the_engine_says_what_figures_hang_on(engine: CTranslate2Transcriber) -> None:
    assert engine.identity().startswith(f"avskrift {ENGINE_VERSION}, ctranslate2 {ctranslate2.__version__}, cpu int8")
    assert "sv" in engine.languages


@pytest.mark.parametrize("samples", [0, 1, 100, SAMPLE_RATE, 65 * SAMPLE_RATE])
@pytest.mark.parametrize("options", [SWEDISH, Options(), Options(language="sv", timestamps=True)])
def test_silence_has_no_text_and_no_segments(engine: CTranslate2Transcriber, samples: int, options: Options) -> None:
    (transcript,) = engine.transcribe([np.full(samples, 5e-5, np.float32)], options)
    assert (transcript.text, transcript.segments) == ("", ())
    assert transcript.language == (options.language or "")
    assert transcript.language_probability == (1.0 if options.language else 0.0)
    assert transcript.duration_s == samples / SAMPLE_RATE


def test_no_recordings_give_no_transcripts(engine: CTranslate2Transcriber) -> None:
    assert engine.transcribe([], SWEDISH) == []


@pytest.mark.parametrize("policy", ["full", "variable"])
@pytest.mark.parametrize("options", [SWEDISH, Options(), Options(language="sv", timestamps=True, beam_size=2)])
def test_a_recording_has_the_same_transcript_alone_and_among_others(tiny_package: ModelPackage, policy: Policy, options: Options) -> None:
    engine = load_transcriber(adapted(tiny_package, policy), device="cpu", threads=1)
    lengths = (0.01, 1.0, 1.01, 2.3, 2.31, 4.0, 4.0)
    recordings = [noise(seconds, seed) for seed, seconds in enumerate(lengths)]
    recordings.insert(3, np.zeros(SAMPLE_RATE, np.float32))
    together = engine.transcribe(recordings, options)
    alone = [engine.transcribe([recording], options)[0] for recording in recordings]
    assert [transcript.text for transcript in together] == [transcript.text for transcript in alone]
    assert [transcript.language for transcript in together] == [transcript.language for transcript in alone]
    assert [[(part.start_s, part.end_s) for part in transcript.segments] for transcript in together] == [
        [(part.start_s, part.end_s) for part in transcript.segments] for transcript in alone
    ]
    assert len({transcript.text for transcript in together}) > 3, "the recordings do matter"


@pytest.mark.parametrize(("policy", "expected"), [("full", {3000}), ("variable", {100, 150, 450, 3000})])
def test_the_encoder_is_given_what_the_package_says(model: Any, tokens: WhisperTokens, policy: Policy, expected: set[int]) -> None:
    watched = Watched(model)
    engine = CTranslate2Transcriber(watched, tokens, EncoderContext(policy=policy))
    engine.transcribe([noise(seconds) for seconds in (0.2, 1.0, 1.001, 4.4, 30.0)], SWEDISH)
    assert {shape[-1] for shape in watched.shapes} == expected
    assert {shape[1] for shape in watched.shapes} == {80}


@pytest.mark.parametrize("policy", ["full", "variable"])
def test_the_times_of_a_long_recording_are_in_order_and_inside_it(tiny_package: ModelPackage, policy: Policy) -> None:
    engine = load_transcriber(adapted(tiny_package, policy), device="cpu", threads=2)
    recording = noise(65.0)
    (transcript,) = engine.transcribe([recording], Options(language="sv", timestamps=True))
    bounds = [bound for segment in transcript.segments for bound in (segment.start_s, segment.end_s)]
    assert bounds == sorted(bounds)
    assert all(0 <= bound <= 65.0 + 1e-6 for bound in bounds)
    assert bounds[-1] > 40, "every window of it is transcribed"
    assert transcript.text == " ".join(segment.text for segment in transcript.segments)


def test_a_silent_stretch_of_a_long_recording_is_passed_over(engine: CTranslate2Transcriber) -> None:
    recording = np.concatenate([np.zeros(40 * SAMPLE_RATE, np.float32), noise(3.0)])
    (transcript,) = engine.transcribe([recording], SWEDISH)
    assert len(transcript.segments) == 1
    assert transcript.segments[0].start_s > 10
    assert transcript.segments[0].end_s == pytest.approx(43.0)


def test_a_language_that_the_model_does_not_know_is_refused_before_any_work(model: Any, tokens: WhisperTokens) -> None:
    watched = Watched(model)
    engine = CTranslate2Transcriber(watched, tokens, EncoderContext())
    for language in ("xx", "svenska", "SV", ""):
        with pytest.raises(LanguageError, match=f"does not know the language '{language}'; it knows "):
            engine.transcribe([noise(1.0)], Options(language=language))
    assert watched.shapes == []


def test_an_unnamed_language_is_identified_for_each_recording(engine: CTranslate2Transcriber) -> None:
    first, silent, second = engine.transcribe([noise(1.0), np.zeros(8000, np.float32), noise(3.0)], Options())
    for transcript in (first, second):
        assert transcript.language in engine.languages
        assert 0 < transcript.language_probability <= 1
    assert (silent.language, silent.language_probability) == ("", 0.0)


def test_the_prompt_is_previous_text_and_never_crowds_out_the_new(model: Any, tokens: WhisperTokens) -> None:
    watched = Watched(model)
    engine = CTranslate2Transcriber(watched, tokens, EncoderContext(policy="variable"))
    (plain,) = engine.transcribe([noise(1.0)], SWEDISH)
    (prompted,) = engine.transcribe([noise(1.0)], replace(SWEDISH, prompt=" Anna och Örjan <|en|> "))
    assert plain.text != prompted.text
    assert tokens.prompt("sv") in watched.prompts
    assert [tokens.previous, *tokens.encode(" Anna och Örjan <|en|>"), *tokens.prompt("sv")] in watched.prompts
    watched.prompts.clear()
    engine.transcribe([noise(1.0)], replace(SWEDISH, prompt="ord " * 500))
    assert {len(prompt) for prompt in watched.prompts} == {1 + 223 + 4}
    watched.prompts.clear()
    engine.transcribe([noise(1.0)], replace(SWEDISH, prompt="  "))
    assert {tuple(prompt) for prompt in watched.prompts} == {tuple(tokens.prompt("sv"))}


def test_threads_may_share_an_engine(engine: CTranslate2Transcriber) -> None:
    recordings = [noise(seconds, seed) for seed, seconds in enumerate((0.5, 1.0, 1.5, 2.0, 2.5, 3.0))]
    expected = [engine.transcribe([recording], SWEDISH)[0] for recording in recordings]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda recording: engine.transcribe([recording], SWEDISH)[0], recordings * 2))
    assert [transcript.text for transcript in found] == [transcript.text for transcript in expected * 2]


def test_translation_is_asked_of_the_model(model: Any, tokens: WhisperTokens) -> None:
    watched = Watched(model)
    CTranslate2Transcriber(watched, tokens, EncoderContext()).transcribe([noise(1.0)], replace(SWEDISH, task="translate"))
    assert {tuple(prompt) for prompt in watched.prompts} == {(50258, 50273, 50358, 50363)}


def test_a_device_that_is_not_there_is_named(tiny_package: ModelPackage) -> None:
    with pytest.raises(UsageError, match="device 'tpu' is unknown; use auto, cpu or cuda"):
        load_transcriber(tiny_package, device="tpu")
    if not ctranslate2.get_cuda_device_count():
        with pytest.raises(UsageError, match="there is no GPU that CTranslate2 can use; use auto or cpu"):
            load_transcriber(tiny_package, device="cuda")


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json", "vocabulary.json"])
def test_a_package_that_cannot_be_loaded_is_named(tiny_package: ModelPackage, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(tiny_package.folder, tmp_path / "package"))
    content = (folder / "ct2" / name).read_bytes()
    (folder / "ct2" / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(PackageError, match=str(folder)):
        load_transcriber(ModelPackage(folder, tiny_package.description), device="cpu")
