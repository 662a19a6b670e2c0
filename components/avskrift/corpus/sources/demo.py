"""The embedded demo corpus as a source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from avskrift.audio.decode import Audio
from avskrift.corpus.demo import DEFAULT, LICENCE, TINY, DemoSize, DemoUtterance, plan, speak
from avskrift.corpus.demo.plan import SYNTHESIS_VERSION
from avskrift.corpus.entries import Entry

DEMO_SIZES: dict[str, DemoSize] = {"": DEFAULT, "default": DEFAULT, "tiny": TINY}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSource:
    """Swedish sentences of this project in synthetic voices, spoken when they are read."""

    uri: str
    size: DemoSize
    language: str
    licence: str = LICENCE
    remote: bool = field(default=False, init=False)

    def listing(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        return self.entries()

    def entries(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        for utterance in plan(self.size, language=self.language):
            yield Entry(
                location=utterance.clip_id,
                clip_id=utterance.clip_id,
                text=utterance.text,
                read=_Spoken(utterance),
                split=utterance.split,
                speaker=utterance.speaker.name,
                gender=utterance.speaker.gender,
            )


@dataclass(frozen=True, slots=True)
class _Spoken:
    """The ``read`` of an utterance; it is picklable, and tells whether the voice has changed."""

    utterance: DemoUtterance

    def __call__(self) -> Audio:
        return speak(self.utterance)

    def stamp(self) -> str:
        return f"{SYNTHESIS_VERSION} {self.utterance}"
