"""Words that CTranslate2 writes otherwise than transformers are counted, and a tie is one word."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ctranslate2
import numpy as np
import pytest
import small_training
import torch
from recordings import tone
from transformers import WhisperForConditionalGeneration

from avskrift.errors import LanguageError, PackageError
from avskrift.whisper import round_trip
from avskrift.whisper.package import EncoderContext, ModelPackage, RoundTrip
from avskrift.whisper.round_trip import Sample, compare
from avskrift.whisper.transformers_folder import copy_companions

_threads_as_before = small_training.threads_as_before
_PROMPT = 4
_OTHER = 2000  # a token that the model does not write of the clips below
CONTEXT = EncoderContext(policy="variable", minimum_frames=100)
Slip = Callable[[int, list[int]], list[int]]  # clip and tokens to tokens


@pytest.fixture(autouse=True)
def _one_thread(_threads_as_before: None) -> None:
    """More of them wait for one another where tests share the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def sample() -> Sample:
    clips = [np.asarray(tone(seconds, hertz=300.0 * seconds), dtype=np.float32) for seconds in (1.0, 0.5, 1.5)]
    return Sample(clips=clips, language="sv")


@pytest.fixture
def slipping(monkeypatch: pytest.MonkeyPatch) -> Callable[[Slip], list[int]]:
    """Changes what CTranslate2 writes of a prompt alone; returns how many tokens behind the prompt it was given each time."""

    def install(slip: Slip) -> list[int]:
        prompted: list[int] = []

        class Slipping:
            def __init__(self, *args: Any, **more: Any) -> None:
                self._whisper = ctranslate2.models.Whisper(*args, **more)
                self.n_mels = self._whisper.n_mels

            def generate(self, view: Any, prompts: list[list[int]], **more: Any) -> list[Any]:
                results = self._whisper.generate(view, prompts, **more)
                prompted.append(len(prompts[0]) - _PROMPT)
                if prompted[-1]:
                    return list(results)
                return [SimpleNamespace(sequences_ids=[slip(clip, one.sequences_ids[0])]) for clip, one in enumerate(results)]

        library = SimpleNamespace(models=SimpleNamespace(Whisper=Slipping), StorageView=ctranslate2.StorageView, __version__="0")
        monkeypatch.setattr(round_trip, "ctranslate2", library)
        return prompted

    return install


def test_a_conversion_that_kept_the_model_differs_in_no_word(tiny_package: ModelPackage, sample: Sample) -> None:
    result = _compare(tiny_package, sample)
    assert result.clips == 3
    assert result.words > 60
    assert result.different == 0


@pytest.mark.parametrize("slip", [lambda row: [*row[:5], *[_OTHER] * 59], lambda row: row[:5], lambda _: []])
def test_a_text_that_went_another_way_is_compared_word_by_word_given_what_transformers_wrote_before(
    tiny_package: ModelPackage, sample: Sample, slipping: Callable[[Slip], list[int]], slip: Callable[[list[int]], list[int]]
) -> None:
    prompted = slipping(lambda clip, row: slip(row) if clip == 1 else row)
    assert _compare(tiny_package, sample).different == 0, "as if a tie had sent it there"
    assert prompted == [0, 64]


def test_a_token_that_the_converted_model_would_not_write_there_is_a_word_that_differs(
    tiny_package: ModelPackage, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers wrote is changed in one place of one clip."""
    by_transformers = round_trip._by_transformers

    def changed(*given: Any) -> list[list[list[int]]]:
        said = by_transformers(*given)
        said[0][0][-1] = _OTHER
        return said

    monkeypatch.setattr(round_trip, "_by_transformers", changed)
    assert _compare(tiny_package, sample).different == 1


def test_another_model_is_refused_with_the_shares(tiny_package: ModelPackage, sample: Sample, tmp_path: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(tiny_package.transformers)
    with torch.no_grad():
        model.model.encoder.conv1.weight.neg_()
    model.save_pretrained(tmp_path)
    copy_companions(tiny_package.transformers, tmp_path)
    with pytest.raises(PackageError) as refused:
        compare(tmp_path, tiny_package.ctranslate2, sample, CONTEXT)
    shares = re.match(
        r"(.*): CTranslate2 wrote (\d+) of (\d+) words otherwise than transformers, in 3 clips; at most 1% may", str(refused.value)
    )
    assert shares
    assert shares[1] == str(tmp_path)
    assert int(shares[2]) > 0.05 * int(shares[3])


def test_a_language_that_the_model_does_not_know_is_refused(tiny_package: ModelPackage, sample: Sample) -> None:
    with pytest.raises(LanguageError):
        _compare(tiny_package, Sample(clips=sample.clips, language="tlh"))


@pytest.mark.parametrize(
    ("words", "different", "refused"),
    [(1000, 10, False), (1000, 11, True), (99, 1, True), (0, 0, False), (0, 1, True)],
)
def test_one_word_in_a_hundred_may_differ(words: int, different: int, refused: bool) -> None:
    result = RoundTrip(clips=20, words=words, different=different)
    if not refused:
        round_trip._refuse_another_model(Path("model"), result)
        return
    with pytest.raises(PackageError, match=f"CTranslate2 wrote {different} of {words} words otherwise"):
        round_trip._refuse_another_model(Path("model"), result)


def _compare(package: ModelPackage, sample: Sample) -> RoundTrip:
    return compare(package.transformers, package.ctranslate2, sample, CONTEXT)


def test_one_letter_that_differs_is_one_of_many_where_no_spaces_are_written() -> None:
    said, heard = "今天天气很好我们去公园散步吧", "今天天气很好我们去公园散步啊"
    for language, words in (("zh", 14), ("en", 1)):
        texts = [round_trip._words(text, language) for text in (said, heard)]
        assert len(texts[0].split()) == words
        assert round_trip._edits([texts[0]], [texts[1]]) == 1
