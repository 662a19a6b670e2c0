"""The engine: whatever the recordings are, texts and times are sound, and do not depend on what else is transcribed."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import ctranslate2
import numpy as np
import pytest

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_SECONDS
from avskrift.errors import LanguageError, PackageError, UsageError
from avskrift.whisper import transcriber
from avskrift.whisper.package import EncoderContext, ModelPackage
from avskrift.whisper.tokens import TimedText, WhisperTokens
from avskrift.whisper.transcriber import ENGINE_VERSION, CTranslate2Transcriber, load_transcriber
from avskrift.whisper.transcript import Audio, LanguageGuess, Options, Transcriber, Transcript
from avskrift.whisper.voice_activity import Stretch

Policy = Literal["full", "variable"]
SWEDISH = Options(language="sv")
LOOP = "samma ord igen " * 20


@dataclass(slots=True)
class Watched:
    """The real CTranslate2 model; remembers the shapes, prompts and settings that it was given."""

    model: Any
    encoded: list[tuple[int, ...]] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)
    settings: list[dict[str, Any]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def encode(self, features: Any) -> Any:
        self.encoded.append(tuple(features.shape))
        return self.model.encode(features)

    def generate(self, features: Any, prompts: Sequence[list[int]], **settings: Any) -> Any:
        self.prompts += prompts
        self.settings.append(settings)
        return self.model.generate(features, prompts, **settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One result of the scripted model, as CTranslate2 gives it; ``tokens`` is what it wrote."""

    tokens: Sequence[int]
    logprob: float = -0.2
    no_speech_prob: float = 0.0

    @property
    def sequences_ids(self) -> list[list[int]]:
        return [list(self.tokens)]

    @property
    def scores(self) -> list[float]:
        return [self.logprob * (len(self.tokens) + 1) / max(1, len(self.tokens))]


@dataclass(slots=True)
class Scripted:
    """A model that says for each call to ``generate`` what it was told to say, and notes which windows it was asked about.

    What it encodes carries the loudness of the window, so a window is known by ``loudness`` in every call.
    """

    say: Callable[[int, dict[str, Any]], Said]
    calls: list[tuple[list[int], dict[str, Any]]] = field(default_factory=list)
    identified: list[list[int]] = field(default_factory=list)
    encodings: int = 0
    n_mels: int = 80
    device: str = "cpu"
    compute_type: str = "int8"

    def encode(self, features: Any) -> Any:
        self.encodings += 1
        mels = np.asarray(features)
        return ctranslate2.StorageView.from_array(np.repeat(mels.max(axis=(1, 2))[:, None, None], 4, axis=2))

    def detect_language(self, encoded: Any) -> list[list[tuple[str, float]]]:
        self.identified.append(_loudness(encoded))
        codes = ("sv", "no", "da", "en", "de", "fi", "nl")
        return [[(f"<|{code}|>", 0.5 / 2**rank) for rank, code in enumerate(codes)] for _ in self.identified[-1]]

    def generate(self, encoded: Any, prompts: Sequence[list[int]], **settings: Any) -> list[Said]:
        assert len(prompts) == encoded.shape[0]
        self.calls.append((_loudness(encoded), settings))
        return [self.say(loudness, settings) for loudness in self.calls[-1][0]]


def _loudness(encoded: Any) -> list[int]:
    """Tenths of a log-mel unit; ten times louder is five."""
    return [round(10 * float(row[0, 0])) for row in np.asarray(encoded)]


def adapted(package: ModelPackage, policy: Policy) -> ModelPackage:
    return ModelPackage(package.folder, replace(package.description, encoder_context=EncoderContext(policy=policy)))


def noise(seconds: float, seed: int = 0, loudness: float = 0.1) -> Audio:
    return np.random.default_rng(seed).normal(0, loudness, round(seconds * SAMPLE_RATE)).astype(np.float32)


def silence(seconds: float) -> Audio:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def speech_everywhere(samples: Audio) -> list[Stretch]:
    """Stands in for silero, to which noise is no speech: a sentence of two seconds, a pause of half a second, and so on."""
    sentence, pause = 2 * SAMPLE_RATE, SAMPLE_RATE // 2
    starts = range(0, len(samples), sentence + pause)
    return [Stretch(start, min(start + sentence, len(samples))) for start in starts]


def no_call(_loudness: int, _settings: dict[str, Any]) -> Said:
    raise AssertionError("the model was called")


@pytest.fixture(scope="module")
def engine(tiny_package: ModelPackage) -> CTranslate2Transcriber:
    return load_transcriber(adapted(tiny_package, "variable"), device="cpu", threads=1)


@pytest.fixture(scope="module")
def model(tiny_package: ModelPackage) -> Any:
    return ctranslate2.models.Whisper(str(tiny_package.ctranslate2), device="cpu", compute_type="int8", intra_threads=1)


@pytest.fixture(scope="module")
def tokens(tiny_package: ModelPackage) -> WhisperTokens:
    return WhisperTokens(tiny_package.ctranslate2 / "tokenizer.json")


def scripted(tokens: WhisperTokens, say: Callable[[int, dict[str, Any]], Said], policy: Policy = "full") -> CTranslate2Transcriber:
    return CTranslate2Transcriber(Scripted(say), tokens, EncoderContext(policy=policy), find_speech=speech_everywhere)


def script_of(engine: CTranslate2Transcriber) -> Scripted:
    script = engine._model
    assert isinstance(script, Scripted)
    return script


def bounds(transcript: Transcript) -> list[float]:
    return [time for part in transcript.segments for time in (part.start_s, part.end_s)]


class TestAShortRecording:
    def test_is_what_evaluation_and_serving_ask_for(self, engine: CTranslate2Transcriber) -> None:
        asked: Transcriber = engine
        (transcript,) = asked.transcribe([noise(1.0)], SWEDISH)
        assert transcript.text
        assert (transcript.language, transcript.language_probability, transcript.duration_s) == ("sv", 1.0, 1.0)
        assert transcript.languages == ()
        assert [segment.text for segment in transcript.segments] == [transcript.text]
        assert (transcript.segments[0].start_s, transcript.segments[0].end_s) == (0.0, 1.0)
        assert transcript.segments[0].avg_logprob < 0
        assert 0 <= transcript.segments[0].no_speech_prob <= 1
        assert transcript.segments[0].words == ()

    @pytest.mark.parametrize("samples", [0, 1, 100, SAMPLE_RATE, 65 * SAMPLE_RATE])
    @pytest.mark.parametrize("options", [SWEDISH, Options(), Options(language="sv", timestamps="word")])
    def test_of_silence_has_no_text_and_does_not_reach_the_model(self, tokens: WhisperTokens, samples: int, options: Options) -> None:
        engine = scripted(tokens, no_call)
        (transcript,) = engine.transcribe([np.full(samples, 5e-5, np.float32)], options)
        assert (transcript.text, transcript.segments, transcript.languages) == ("", (), ())
        assert transcript.language == (options.language or "")
        assert transcript.language_probability == (1.0 if options.language else 0.0)
        assert transcript.duration_s == samples / SAMPLE_RATE
        assert script_of(engine).encodings == 0

    def test_is_read_as_it_is_whoever_speaks_in_it(self, model: Any, tokens: WhisperTokens) -> None:
        def nobody(_samples: Audio) -> list[Stretch]:
            raise AssertionError("voice activity was asked for")

        engine = CTranslate2Transcriber(model, tokens, EncoderContext(policy="variable"), find_speech=nobody)
        (transcript,) = engine.transcribe([noise(30.0)], SWEDISH)
        assert transcript.segments[-1].end_s == 30.0

    def test_is_not_written_where_the_model_says_that_nobody_speaks(self, tokens: WhisperTokens) -> None:
        said = tokens.encode(" tack för att ni tittade")
        for logprob, no_speech, expected in (
            (-1.1, 0.7, ""),
            (-0.9, 0.7, "tack för att ni tittade"),
            (-1.1, 0.5, "tack för att ni tittade"),
        ):
            engine = scripted(
                tokens, lambda *_, outcome=(logprob, no_speech): Said(tokens=said, logprob=outcome[0], no_speech_prob=outcome[1])
            )
            (transcript,) = engine.transcribe([noise(1.0)], SWEDISH)
            assert transcript.text == expected

    @pytest.mark.parametrize(("policy", "expected"), [("full", {3000}), ("variable", {100, 150, 450, 3000})])
    def test_is_encoded_once_at_the_length_that_the_package_says(
        self, model: Any, tokens: WhisperTokens, policy: Policy, expected: set[int]
    ) -> None:
        watched = Watched(model)
        engine = CTranslate2Transcriber(watched, tokens, EncoderContext(policy=policy, minimum_frames=100))
        engine.transcribe([noise(seconds) for seconds in (0.2, 1.0, 1.001, 4.4, 30.0)], Options(timestamps="word"))
        assert {shape[-1] for shape in watched.encoded} == expected
        assert {shape[1] for shape in watched.encoded} == {80}
        assert sum(shape[0] for shape in watched.encoded) == 5

    def test_is_never_encoded_to_what_ctranslate2_takes_for_features(self, model: Any, tokens: WhisperTokens) -> None:
        watched = Watched(model)
        context = EncoderContext(policy="variable", minimum_frames=160, multiple_frames=160)
        (transcript,) = CTranslate2Transcriber(watched, tokens, context).transcribe([noise(1.6)], SWEDISH)
        assert watched.encoded == [(1, 80, 162)]
        assert transcript.text

    def test_may_take_as_many_tokens_as_whisper_has_room_for(self, tokens: WhisperTokens) -> None:
        engine = scripted(tokens, lambda *_: Said(tokens=tokens.encode(" hej")))
        for seconds, prompt in ((4.0, None), (30.0, None), (30.0, "ord " * 500)):
            engine.transcribe([noise(seconds)], replace(SWEDISH, prompt=prompt))
        limits = [settings["max_length"] for _, settings in script_of(engine).calls]
        assert limits == [2 * (32 + 15 * 5), 448, 448], "CTranslate2 writes half of it; what is shorter than 5 s has the room of 5 s"

    def test_of_several_utterances_is_read_with_times_by_an_adapted_model(self, model: Any, tokens: WhisperTokens) -> None:
        expected_untimed: dict[Policy, list[bool]] = {"full": [True, True], "variable": [True, False]}
        for policy, expected in expected_untimed.items():
            for seconds, untimed in zip((5.0, 5.1), expected, strict=True):
                watched = Watched(model)
                CTranslate2Transcriber(watched, tokens, EncoderContext(policy=policy)).transcribe([noise(seconds)], SWEDISH)
                assert {prompt[-1] == tokens.no_timestamps for prompt in watched.prompts} == {untimed}


class TestALongRecording:
    @pytest.mark.parametrize("policy", ["full", "variable"])
    @pytest.mark.parametrize("timestamps", ["none", "segment", "word"])
    def test_has_times_in_order_and_inside_it(
        self, model: Any, tokens: WhisperTokens, policy: Policy, timestamps: Literal["none", "segment", "word"]
    ) -> None:
        engine = CTranslate2Transcriber(model, tokens, EncoderContext(policy=policy), find_speech=speech_everywhere)
        (transcript,) = engine.transcribe([noise(65.0)], Options(language="sv", timestamps=timestamps))
        times = bounds(transcript)
        assert times == sorted(times)
        assert all(0 <= time <= 65.0 + 1e-6 for time in times)
        assert times[-1] > 40, "every window of it is transcribed"
        assert transcript.text == " ".join(segment.text for segment in transcript.segments)
        for segment in transcript.segments:
            words = [time for word in segment.words for time in (word.start_s, word.end_s)]
            assert words == sorted(words)
            assert not words or (words[0], words[-1]) == (segment.start_s, segment.end_s)
            assert bool(words) == (timestamps == "word")
            assert all(0 <= word.probability <= 1 for word in segment.words)

    def test_in_which_nobody_speaks_has_no_text_and_does_not_reach_the_model(self, tokens: WhisperTokens) -> None:
        engine = CTranslate2Transcriber(Scripted(no_call), tokens, EncoderContext(), find_speech=lambda _: [])
        (transcript,) = engine.transcribe([noise(31.0)], Options())
        assert (transcript.text, transcript.segments, transcript.language) == ("", (), "")

    def test_is_read_where_somebody_speaks_and_its_times_are_its_own(self, tokens: WhisperTokens) -> None:
        spoken = [Stretch(10 * SAMPLE_RATE, 12 * SAMPLE_RATE), Stretch(50 * SAMPLE_RATE, 53 * SAMPLE_RATE)]
        written = tokens.encode_timed([TimedText(start_s=0.4, end_s=2.4, text="god dag")])
        engine = CTranslate2Transcriber(Scripted(lambda *_: Said(tokens=written)), tokens, EncoderContext(), find_speech=lambda _: spoken)
        (timed,) = engine.transcribe([noise(60.0)], Options(language="sv", timestamps="segment"))
        assert timed.text == "god dag god dag"
        assert bounds(timed) == pytest.approx([10.0, 12.0, 50.0, 52.0])
        (whole,) = engine.transcribe([noise(60.0)], SWEDISH)
        assert bounds(whole) == pytest.approx([9.6, 12.4, 49.6, 53.4])

    @pytest.mark.parametrize(("policy", "longest"), [("full", WINDOW_SECONDS), ("variable", WINDOW_SECONDS / 2)])
    def test_is_read_in_windows_that_fit_the_encoder_context(self, tokens: WhisperTokens, policy: Policy, longest: float) -> None:
        engine = scripted(tokens, lambda *_: Said(tokens=tokens.encode(" hej")), policy)
        (transcript,) = engine.transcribe([noise(99.5)], SWEDISH)
        lengths = [segment.end_s - segment.start_s for segment in transcript.segments]
        assert max(lengths) <= longest
        assert sum(lengths) == pytest.approx(99.5), "the pauses are short, so nothing is left out"

    def test_shares_batches_with_others(self, tokens: WhisperTokens) -> None:
        engine = scripted(tokens, lambda *_: Said(tokens=tokens.encode(" hej")))
        engine.transcribe([noise(120.0, loudness=0.1), noise(25.0, loudness=0.01), silence(40.0), noise(120.0, loudness=0.001)], SWEDISH)
        batches = [windows for windows, _ in script_of(engine).calls]
        assert max(map(len, batches)) == 4, "of 30 s each"
        assert max(len(set(windows)) for windows in batches) > 1

    def test_takes_no_memory_that_grows_with_it_beside_its_samples(self, tokens: WhisperTokens) -> None:
        engine = scripted(tokens, lambda *_: Said(tokens=tokens.encode(" hej")))
        peaks = []
        for minutes in (3, 7):
            recording = noise(minutes * 60.0)
            tracemalloc.start()
            (transcript,) = engine.transcribe([recording], SWEDISH)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert transcript.segments[-1].end_s > minutes * 60 - 1
        assert peaks[1] < 1.1 * peaks[0]


class TestALanguage:
    def test_that_the_model_does_not_know_is_refused_before_any_work(self, tokens: WhisperTokens) -> None:
        engine = scripted(tokens, no_call)
        for language in ("xx", "svenska", "SV", ""):
            with pytest.raises(LanguageError, match=f"does not know the language '{language}'; it knows "):
                engine.transcribe([noise(1.0)], Options(language=language))
        assert script_of(engine).encodings == 0

    def test_that_is_not_named_is_identified_for_each_recording(self, engine: CTranslate2Transcriber) -> None:
        first, silent, second = engine.transcribe([noise(1.0), silence(0.5), noise(3.0)], Options())
        for transcript in (first, second):
            assert transcript.language in engine.languages
            assert 0 < transcript.language_probability <= 1
            assert len(transcript.languages) == 5
            assert transcript.languages[0] == LanguageGuess(language=transcript.language, probability=transcript.language_probability)
            probabilities = [guess.probability for guess in transcript.languages]
            assert probabilities == sorted(probabilities, reverse=True)
        assert (silent.language, silent.language_probability, silent.languages) == ("", 0.0, ())

    def test_is_identified_by_the_first_window_and_holds_for_the_others(self, tokens: WhisperTokens) -> None:
        engine = scripted(tokens, lambda *_: Said(tokens=tokens.encode(" hej")))
        transcripts = engine.transcribe([noise(100.0), noise(2.0), noise(70.0)], Options())
        script = script_of(engine)
        assert sum(map(len, script.identified)) == 3
        assert script.encodings == len(script.calls), "what was encoded to identify the language is decoded too"
        assert [transcript.language for transcript in transcripts] == ["sv"] * 3
        assert [guess.language for guess in transcripts[0].languages] == ["sv", "no", "da", "en", "de"]


class TestAText:
    @pytest.mark.parametrize("policy", ["full", "variable"])
    @pytest.mark.parametrize("options", [SWEDISH, Options(), Options(language="sv", timestamps="word", beam_size=2)])
    def test_is_the_same_alone_and_among_others(self, model: Any, tokens: WhisperTokens, policy: Policy, options: Options) -> None:
        engine = CTranslate2Transcriber(model, tokens, EncoderContext(policy=policy))
        lengths = (0.01, 1.0, 1.01, 2.3, 4.0, 4.0)
        recordings = [noise(seconds, seed) for seed, seconds in enumerate(lengths)]
        recordings.insert(3, silence(1.0))
        together = engine.transcribe(recordings, options)
        assert [engine.transcribe([recording], options)[0] for recording in recordings] == together
        assert engine.transcribe(recordings[::-1], options)[::-1] == together
        assert len({transcript.text for transcript in together}) > 3, "the recordings do matter"

    def test_that_repeats_itself_is_decoded_once_more_without_repeats(self, tokens: WhisperTokens) -> None:
        def say(_loudness: int, settings: dict[str, Any]) -> Said:
            return Said(tokens=tokens.encode(" en gång" if settings["no_repeat_ngram_size"] else f" {LOOP}"))

        engine = scripted(tokens, say)
        (transcript,) = engine.transcribe([noise(2.0)], SWEDISH)
        assert transcript.text == "en gång"
        assert [settings["no_repeat_ngram_size"] for _, settings in script_of(engine).calls] == [0, 3]
        assert script_of(engine).encodings == 1

    def test_that_is_doubtful_is_tried_at_the_next_temperatures_and_its_neighbours_are_left_alone(self, tokens: WhisperTokens) -> None:
        logprobs = {0.0: -1.5, 0.2: -1.2, 0.4: -0.5, 0.6: -0.1}

        def say(loudness: int, settings: dict[str, Any]) -> Said:
            temperature = settings.get("sampling_temperature", 0.0)
            return Said(tokens=tokens.encode(f" försök {temperature}"), logprob=logprobs[temperature] if loudness < 7 else -0.3)

        engine = scripted(tokens, say)
        loud, quiet = noise(2.0, loudness=0.1), noise(2.0, loudness=0.01)
        options = replace(SWEDISH, temperatures=(0.0, 0.2, 0.4, 0.6), beam_size=5)
        transcripts = engine.transcribe([loud, quiet, loud], options)
        assert [transcript.text for transcript in transcripts] == ["försök 0.0", "försök 0.4", "försök 0.0"]
        assert transcripts[1].segments[0].avg_logprob == pytest.approx(-0.5)
        script = script_of(engine)
        assert [[loudness < 7 for loudness in windows] for windows, _ in script.calls] == [[False, True, False], [True], [True]]
        first, second, _ = (settings for _, settings in script.calls)
        assert (first["beam_size"], "sampling_topk" in first) == (5, False)
        assert (second["beam_size"], second["sampling_topk"], second["sampling_temperature"]) == (1, 0, 0.2)

    def test_that_was_sampled_is_a_text_of_the_real_model_too(self, engine: CTranslate2Transcriber) -> None:
        (transcript,) = engine.transcribe([noise(1.0)], replace(SWEDISH, temperatures=(0.8,)))
        assert transcript.segments[0].avg_logprob < 0

    def test_goes_on_from_the_prompt_which_never_crowds_it_out(self, model: Any, tokens: WhisperTokens) -> None:
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

    def test_is_translated_where_that_is_asked_for(self, model: Any, tokens: WhisperTokens) -> None:
        watched = Watched(model)
        CTranslate2Transcriber(watched, tokens, EncoderContext()).transcribe([noise(1.0)], replace(SWEDISH, task="translate"))
        assert {tuple(prompt) for prompt in watched.prompts} == {(50258, 50273, 50358, 50363)}


class TestWords:
    def test_make_up_the_text_and_lie_inside_their_window(self, model: Any, tokens: WhisperTokens) -> None:
        engine = CTranslate2Transcriber(model, tokens, EncoderContext(policy="variable"))
        for seconds in (0.01, 0.3, 1.0, 7.7):
            (transcript,) = engine.transcribe([noise(seconds)], Options(language="sv", timestamps="word"))
            words = [word for segment in transcript.segments for word in segment.words]
            assert words
            assert " ".join(" ".join(word.text.split()) for word in words) == " ".join(transcript.text.split())
            assert all(0 <= word.start_s <= word.end_s <= transcript.duration_s for word in words)

    def test_of_a_translation_are_english(self, tokens: WhisperTokens, model: Any) -> None:
        watched = Watched(model)
        engine = CTranslate2Transcriber(watched, tokens, EncoderContext(policy="variable"))
        (japanese,) = engine.transcribe([noise(1.0)], Options(language="ja", timestamps="word"))
        (translated,) = engine.transcribe([noise(1.0)], Options(language="ja", timestamps="word", task="translate"))
        characters = [len(word.text) for segment in japanese.segments for word in segment.words]
        words = [len(word.text) for segment in translated.segments for word in segment.words]
        assert np.mean(characters) < np.mean(words)


def test_the_engine_says_what_figures_hang_on(engine: CTranslate2Transcriber) -> None:
    assert ENGINE_VERSION == "3"
    assert engine.identity().startswith(f"avskrift 3, ctranslate2 {ctranslate2.__version__}, cpu int8")
    assert "sv" in engine.languages


def test_no_recordings_give_no_transcripts(engine: CTranslate2Transcriber) -> None:
    assert engine.transcribe([], SWEDISH) == []


def test_the_engine_gets_the_containers_cores_unless_somebody_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcriber, "available_cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert transcriber._threads() == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert transcriber._threads() == 0


def test_threads_may_share_an_engine(engine: CTranslate2Transcriber) -> None:
    options = replace(SWEDISH, timestamps="word")
    recordings = [noise(seconds, seed) for seed, seconds in enumerate((0.5, 1.0, 1.5, 2.0, 2.5, 3.0))]
    expected = [engine.transcribe([recording], options)[0] for recording in recordings]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda recording: engine.transcribe([recording], options)[0], recordings * 2))
    assert found == expected * 2


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
