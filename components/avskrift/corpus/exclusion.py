"""What another dataset measures on, to be kept out of this one's training: releases of a corpus overlap."""

from __future__ import annotations

from dataclasses import dataclass

from avskrift.audio.decode import pcm16
from avskrift.corpus.dataset import Dataset, open_dataset
from avskrift.corpus.validation import pcm_digest
from avskrift.errors import DatasetError, ModelUnavailableError, UsageError
from avskrift.storage.door import fetch
from avskrift.text.normaliser import normalise

_MEASURED_ON = ("validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """The speakers, normalised sentences and recordings of other datasets' validation and test splits."""

    speakers: frozenset[str] = frozenset()
    sentences: frozenset[str] = frozenset()
    recordings: frozenset[str] = frozenset()

    def reason(self, *, speaker_id: str, sentence: str, pcm_sha256: str) -> str:
        """Why a clip must be kept out; "" if it need not."""
        shared = [
            what
            for what, found in (
                ("recording", pcm_sha256 in self.recordings),
                ("sentence", sentence in self.sentences),
                ("speaker", speaker_id in self.speakers),
            )
            if found
        ]
        return f"its {' and '.join(shared)} is measured on in a dataset that was excluded" if shared else ""


NOTHING = Excluded()


def excluded(uri: str, *, language: str, speaker_salt_check: str) -> Excluded:
    """What the dataset that ``uri`` names measures on.

    Raises:
        DatasetError: there is none.
        UsageError: its speaker ids were made with another salt, so no speaker could be recognised.
    """
    dataset = opened(uri)
    if dataset.description.speaker_salt_check != speaker_salt_check:
        raise UsageError(
            f"{uri}: its speaker ids were made with another salt, so its speakers cannot be kept out; "
            "prepare both with the same AVSKRIFT_SPEAKER_SALT"
        )
    speakers, sentences, recordings = set(), set(), set()
    for split in _MEASURED_ON:
        for clip in dataset.clips(split):
            speakers.add(clip.speaker_id)
            sentences.add(normalise(clip.text, language))
            recordings.add(pcm_digest(pcm16(clip.samples())))
    return Excluded(speakers=frozenset(speakers - {""}), sentences=frozenset(sentences), recordings=frozenset(recordings))


def opened(uri: str) -> Dataset:
    """The dataset that ``uri`` names.

    Raises:
        DatasetError: there is none.
    """
    try:
        folder = fetch(uri)
    except ModelUnavailableError as error:
        raise DatasetError(f"--exclude {uri}: there is no dataset; name a folder that prepare wrote, or the s3:// URI of one") from error
    return open_dataset(folder)
