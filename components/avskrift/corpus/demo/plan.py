"""Which speaker says which sentence, and in which split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from avskrift.corpus.demo.sentences import digest, sentences, sentences_of
from avskrift.corpus.demo.speakers import SPEAKERS, Speaker, Split, speakers_of
from avskrift.errors import SourceError, UsageError

LICENCE = "CC0-1.0 (sentences); speech synthesised with eSpeak NG"
LANGUAGE = "sv"
SYNTHESIS_VERSION = 1  # raised whenever the same plan would sound different


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSize:
    """How many clips each split holds; at least one each.

    Raises:
        UsageError: a count below one.
    """

    train: int = 420
    validation: int = 24
    test: int = 60

    def __post_init__(self) -> None:
        for split, clips in self.of_splits():
            if clips < 1:
                raise UsageError(f"the demo corpus cannot have {clips} {split} clips; ask for at least one")

    def of_splits(self) -> tuple[tuple[Split, int], ...]:
        """Each split with its number of clips."""
        return (("train", self.train), ("validation", self.validation), ("test", self.test))


DEFAULT = DemoSize()
TINY = DemoSize(train=24, validation=8, test=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoUtterance:
    """One sentence to be said by one speaker."""

    clip_id: str  # from the sentence and the speaker alone; unique in a plan
    text: str
    split: Split
    speaker: Speaker


def plan(size: DemoSize = DEFAULT, *, language: str = LANGUAGE) -> list[DemoUtterance]:
    """The utterances of a demo corpus, the same on every call: no two have both sentence and speaker in common.

    A split's sentences are gone through in turns. Each turn uses every sentence once, spread evenly over the split's
    speakers, and shifts the speakers by one, so a sentence comes back with another voice.

    Raises:
        SourceError: ``language`` is not Swedish.
        UsageError: more clips are asked of a split than it has pairs of a sentence and a speaker.
    """
    if language != LANGUAGE:
        raise SourceError(f"the embedded demo corpus is Swedish (sv), not {language!r}; give your own recordings with --source FOLDER")
    return [utterance for split, clips in size.of_splits() for utterance in _plan_split(split, clips)]


def corpus_sha256() -> str:
    """A digest of all that decides what the corpus sounds like: sentences, speakers and the version of the synthesis."""
    content = "\n".join([*sentences(), *(repr(speaker) for speaker in SPEAKERS), str(SYNTHESIS_VERSION)])
    return hashlib.sha256(content.encode()).hexdigest()


def _plan_split(split: Split, clips: int) -> list[DemoUtterance]:
    texts, speakers = sentences_of(split), speakers_of(split)
    if clips > len(texts) * len(speakers):
        raise UsageError(
            f"the demo corpus has {len(texts)} {split} sentences and {len(speakers)} {split} speakers, "
            f"so not {clips} different clips; ask for at most {len(texts) * len(speakers)}"
        )
    planned = []
    for number in range(clips):
        turn, index = divmod(number, len(texts))
        planned.append(_utterance(texts[index], speakers[(index + turn) % len(speakers)]))
    return planned


def _utterance(text: str, speaker: Speaker) -> DemoUtterance:
    return DemoUtterance(clip_id=f"{speaker.name}-{digest(text)[:12]}", text=text, split=speaker.split, speaker=speaker)
