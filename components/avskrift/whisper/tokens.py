"""Whisper's tokens: the prompt that selects language and task, and text with or without timestamps.

A decoder sequence is ``<|startoftranscript|><|LANG|><|TASK|>`` then either ``<|notimestamps|>`` and text, or text between
timestamp tokens of 20 ms steps, then ``<|endoftext|>`` (Radford et al., 2022, figure 1).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from avskrift.errors import LanguageError, PackageError
from avskrift.text.languages import LANGUAGES

TIMESTAMP_STEP_S = 0.02
MAX_LABEL_TOKENS = 448  # positions of the decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedText:
    """A stretch of text between two timestamps, in seconds from the window's start."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedTokens:
    """What a decoder wrote between two timestamps, which are in seconds from the window's start."""

    start_s: float
    end_s: float
    tokens: tuple[int, ...]


class WhisperTokens:
    """Encodes and decodes with one model's ``tokenizer.json``."""

    def __init__(self, file: Path) -> None:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            for token in content["added_tokens"]:
                token["special"] = True  # timestamps are not, and would be read out of a text that spells one
            self._tokenizer = Tokenizer.from_str(json.dumps(content))
        except Exception as error:  # the library raises bare Exception for every fault
            raise PackageError(f"{file}: not a tokenizer ({error}); export or fetch the model again") from error
        self._tokenizer.encode_special_tokens = True  # once: the engine's threads share the tokenizer
        self.start = self._id("<|startoftranscript|>")
        self.end = self._id("<|endoftext|>")
        self.previous = self._id("<|startofprev|>")
        self.no_timestamps = self._id("<|notimestamps|>")
        self.first_timestamp = self.no_timestamps + 1

    @cached_property
    def no_speech(self) -> int:
        """What follows the start token where nobody speaks; early Whispers call it no captions."""
        number = self._tokenizer.token_to_id("<|nospeech|>")
        return int(number) if number is not None else self._id("<|nocaptions|>")

    @cached_property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that have a token."""
        return frozenset(code for code in LANGUAGES if self._tokenizer.token_to_id(f"<|{code}|>") is not None)

    def language_of(self, token: str) -> str:
        """``<|sv|>`` to ``sv``."""
        return token.removeprefix("<|").removesuffix("|>")

    def prompt(self, language: str, *, task: str = "transcribe", timestamps: bool = False) -> list[int]:
        """The tokens that the decoder starts from.

        Raises:
            LanguageError: the model has no token for ``language``.
        """
        if language not in self.languages:
            raise LanguageError(f"this model does not know the language {language!r}; it knows {', '.join(sorted(self.languages))}")
        head = [self.start, self._id(f"<|{language}|>"), self._id(f"<|{task}|>")]
        return head if timestamps else [*head, self.no_timestamps]

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text; special tokens spelled out in it are text like any other."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_timed(self, stretches: Sequence[TimedText]) -> list[int]:
        """Tokens of consecutive stretches: ``<|start|> text<|end|>`` each."""
        tokens: list[int] = []
        for stretch in stretches:
            tokens += [self.timestamp(stretch.start_s), *self.encode(f" {stretch.text.strip()}"), self.timestamp(stretch.end_s)]
        return tokens

    def timestamp(self, seconds: float) -> int:
        """The token nearest to ``seconds`` into the window."""
        return self.first_timestamp + round(seconds / TIMESTAMP_STEP_S)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens below the special ones, stripped."""
        return self.spell([token for token in tokens if token < self.end]).strip()

    def spell(self, tokens: Sequence[int]) -> str:
        """Text of text tokens as they are: a word's first token begins with a space. Half a character is U+FFFD."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def decode_timed(self, tokens: Sequence[int], *, duration_s: float) -> list[TimedText]:
        """Text split at timestamp tokens; a stretch that was not closed ends with the window, ``duration_s``."""
        stretches = [
            TimedText(start_s=stretch.start_s, end_s=stretch.end_s, text=self.decode(stretch.tokens))
            for stretch in self.split_timed(tokens, duration_s=duration_s)
        ]
        return [stretch for stretch in stretches if stretch.text]

    def split_timed(self, tokens: Sequence[int], *, duration_s: float) -> list[TimedTokens]:
        """The same as tokens, stretches without words among them."""
        stretches: list[TimedTokens] = []
        start, pending = 0.0, list[int]()
        for token in tokens:
            if token < self.first_timestamp:
                pending.append(token)
                continue
            at = min((token - self.first_timestamp) * TIMESTAMP_STEP_S, duration_s)
            if pending:
                stretches.append(TimedTokens(start_s=start, end_s=max(at, start), tokens=tuple(pending)))
                pending = []
            start = max(at, start)  # a model may write a time before the last one
        if pending:
            stretches.append(TimedTokens(start_s=min(start, duration_s), end_s=duration_s, tokens=tuple(pending)))
        return stretches

    def _id(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise PackageError(f"the tokenizer has no {token}: not a multilingual Whisper's")
        return int(number)
