"""Which heads word timestamps are read from: a model's own, else those that OpenAI published for its size."""

from __future__ import annotations

import pytest
from ctranslate2.converters.transformers import _WHISPER_ALIGNMENT_HEADS as CTRANSLATE2_KNOWS

from avskrift.errors import PackageError
from avskrift.whisper.alignment_heads import DecoderShape, alignment_heads

SHAPES = {
    "openai/whisper-tiny": DecoderShape(4, 6, 80),
    "openai/whisper-base": DecoderShape(6, 8, 80),
    "openai/whisper-small": DecoderShape(12, 12, 80),
    "openai/whisper-medium": DecoderShape(24, 16, 80),
    "openai/whisper-large-v2": DecoderShape(32, 20, 80),
    "openai/whisper-large-v3": DecoderShape(32, 20, 128),
}
BASE = SHAPES["openai/whisper-base"]


@pytest.mark.parametrize("name", SHAPES)
def test_a_size_has_the_heads_that_were_published_for_it(name: str) -> None:
    assert list(alignment_heads(None, SHAPES[name])) == CTRANSLATE2_KNOWS[name]


def test_large_v3_turbo_which_ctranslate2_does_not_know_has_its_own() -> None:
    assert alignment_heads(None, DecoderShape(4, 20, 128)) == ((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14))


@pytest.mark.parametrize("said", [[[3, 1], [5, 6]], ((3, 1), (5, 6))])
def test_a_models_own_heads_go_before_those_of_its_size(said: object) -> None:
    assert alignment_heads(said, BASE) == ((3, 1), (5, 6))


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_an_unknown_shape_without_heads_gets_all_of_the_last_half_of_its_layers(nothing: object) -> None:
    assert alignment_heads(nothing, DecoderShape(3, 2, 80)) == ((1, 0), (1, 1), (2, 0), (2, 1))
    assert alignment_heads(nothing, DecoderShape(1, 2, 80)) == ((0, 0), (0, 1))


@pytest.mark.parametrize("said", [[[6, 0]], [[0, 8]], [[-1, 0]], [[0]], [[0, 1, 2]], [["0", "1"]], [[0.0, 1.0]], [3], "heads", {"0": 1}, 7])
def test_heads_that_the_decoder_does_not_have_are_refused(said: object) -> None:
    with pytest.raises(PackageError, match="are not pairs of a layer and a head of a decoder with 6 layers of 8 heads"):
        alignment_heads(said, BASE)
