"""The demo's sentences, and the split to which each belongs."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from avskrift.corpus.demo.speakers import Split

SENTENCES_FILE = "sentences_sv.txt"


@cache
def sentences() -> tuple[str, ...]:
    """Every sentence, in the file's order. Lines that start with ``#`` are comments."""
    lines = resources.files(__package__).joinpath(SENTENCES_FILE).read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def sentences_of(split: Split) -> tuple[str, ...]:
    """The sentences of ``split``, ordered by their digests, so that the first few are a mixed sample of the whole."""
    return tuple(sorted((text for text in sentences() if split_of(text) == split), key=digest))


def split_of(text: str) -> Split:
    """The split that a sentence belongs to: eight in ten train, one validation, one test.

    It hangs on the sentence's own words alone, so a sentence added to the file moves no other.
    """
    bucket = int(digest(text)[:8], 16) % 10
    return "validation" if bucket == 8 else "test" if bucket == 9 else "train"


def digest(text: str) -> str:
    """The sentence's sha256, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
