"""The metric as a user of Hugging Face evaluate loads it: by its folder, without a network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from importlib import resources
from typing import Any

import jiwer
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avskrift.errors import EvaluationError, LanguageError
from avskrift.evaluation.error_rates import corpus_rate, count_errors
from avskrift.text.normaliser import normalise

FOLDER = str(resources.files("avskrift.evaluation") / "avskrift_wer")
REFERENCES = ["Det kostar tjugo kronor.", "Vi ses kl. halv fyra.", "För EU-landets skull!"]
PREDICTIONS = ["det kostar 20 kronor", "vi ses klockan halv tre ja", "for eu landet skull"]


@pytest.fixture(scope="module")
def metric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The metric, loaded with every connection refused."""
    home = tmp_path_factory.mktemp("hf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(socket.socket, "connect", _refuse)
        import evaluate

        # Read from the environment once, when evaluate is first imported.
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(home / "modules"))
        patch.syspath_prepend(str(home / "modules"))
        yield evaluate.load(FOLDER, cache_dir=str(home / "metrics"))


def _refuse(*_: object) -> None:
    raise AssertionError("the metric reached for the network")


def test_it_loads_by_its_folder_without_a_network(metric: Any) -> None:
    assert metric.name == "avskrift_wer"
    assert metric.compute(predictions=["det kostar 20 kr"], references=["Det kostar tjugo kronor."], language="sv")["wer"] == 0


def test_it_counts_as_an_evaluation_does(metric: Any) -> None:
    clips = count_errors(REFERENCES, PREDICTIONS, "sv")
    assert metric.compute(predictions=PREDICTIONS, references=REFERENCES, language="sv") == {
        "wer": corpus_rate(clip.words for clip in clips),
        "cer": corpus_rate(clip.characters for clip in clips),
        "substitutions": 3,
        "deletions": 0,
        "insertions": 1,
        "normaliser": "sv-1",
    }


words = st.text(st.sampled_from("aåbö 12.:%")).filter(lambda text: normalise(text, "sv"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(words, st.text(st.sampled_from("aåbö 12.:%"))), min_size=1, max_size=4))
def test_it_agrees_with_jiwer_on_our_normalised_text(metric: Any, clips: list[tuple[str, str]]) -> None:
    references, predictions = map(list, zip(*clips, strict=True))
    result = metric.compute(predictions=predictions, references=references)
    said, heard = ([normalise(text, "sv") for text in side] for side in (references, predictions))
    assert result["wer"] == jiwer.wer(said, heard)
    assert result["cer"] == jiwer.cer(said, heard)


def test_swedish_is_assumed_and_any_language_of_whisper_can_be_named(metric: Any) -> None:
    assert metric.compute(predictions=["20"], references=["tjugo"])["wer"] == 0
    english = metric.compute(predictions=["20"], references=["tjugo"], language="English")
    assert (english["wer"], english["normaliser"]) == (1.0, "generic-2")


def test_a_chinese_letter_counts_as_a_word_and_the_normaliser_says_so(metric: Any) -> None:
    chinese = metric.compute(predictions=["今天天气很好我们去公园散步啊"], references=["今天天气很好,我们去公园散步吧。"], language="zh")
    assert (chinese["wer"], chinese["cer"], chinese["normaliser"]) == (1 / 14, 1 / 14, "generic-2-letters")


@pytest.mark.parametrize("references", [[], ["", "?!"]])
def test_references_without_words_are_an_error_and_no_perfect_score(metric: Any, references: list[str]) -> None:
    with pytest.raises(EvaluationError, match="references hold no words"):
        metric.compute(predictions=["hej"] * len(references), references=references)
    assert metric.compute(predictions=["hej"], references=["hej"])["wer"] == 0, "the metric can be used again"


def test_an_unknown_language_is_named(metric: Any) -> None:
    with pytest.raises(LanguageError, match="'svenksa'"):
        metric.compute(predictions=["hej"], references=["hej"], language="svenksa")


def test_clips_can_be_added_one_by_one(metric: Any) -> None:
    metric.add(prediction="ett två", reference="ett tre")
    metric.add_batch(predictions=["fyra"], references=["fyra"])
    assert metric.compute(language="sv")["wer"] == 1 / 3
