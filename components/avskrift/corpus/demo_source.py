"""The embedded demo corpus as a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from avskrift.corpus.demo import DEFAULT, LICENCE, TINY, DemoSize, DemoUtterance, corpus_sha256, plan, speak
from avskrift.corpus.entries import Entry, Reading

DEMO_SIZES: dict[str, DemoSize] = {"": DEFAULT, "default": DEFAULT, "tiny": TINY}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSource:
    """Swedish sentences of this project in synthetic voices, spoken when they are read."""

    uri: str
    size: DemoSize
    language: str
    licence: str = LICENCE

    def entries(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        for utterance in plan(self.size, language=self.language):
            yield Entry(
                location=utterance.clip_id,
                clip_id=utterance.clip_id,
                text=utterance.text,
                read=partial(_spoken, utterance),
                split=utterance.split,
                speaker=utterance.speaker.name,
                gender=utterance.speaker.gender,
            )


def _spoken(utterance: DemoUtterance) -> Reading:
    content = hashlib.sha256(f"{corpus_sha256()}/{utterance.clip_id}".encode()).hexdigest()
    return Reading(samples=speak(utterance), content_sha256=content)
