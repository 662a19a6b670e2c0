"""The recordings of the clips that a report shows: FLAC as the dataset holds it, in the evaluation folder, for people to listen to.

No figure hangs on them, so no digest covers them; a report whose folder holds none has no players.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from avskrift.corpus.dataset import Dataset
from avskrift.errors import StorageError
from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.report_clips import most_changed, worst

_FOLDER = "audio"


def shown_audio(dataset: Dataset, split: str, clips: Sequence[ClipResult]) -> dict[str, bytes]:
    """FLAC by clip_id, of the clips that the report shows.

    Raises:
        DatasetError: a shard cannot be read.
    """
    shown = _shown(clips)
    return {clip.clip_id: clip.audio for clip in dataset.clips(split) if clip.clip_id in shown} if shown else {}


def write_audio(folder: Path, clips: Sequence[ClipResult], audio: Mapping[str, bytes]) -> None:
    """A file each, named by the clip's line in ``clips.jsonl``: a clip_id may be no name for a file."""
    if not audio:
        return
    (folder / _FOLDER).mkdir()
    for number, clip in enumerate(clips):
        if clip.clip_id in audio:
            _file(folder, number).write_bytes(audio[clip.clip_id])


def read_audio(folder: Path, clips: Sequence[ClipResult]) -> dict[str, bytes]:
    """What :func:`write_audio` wrote; the clips are those of the folder's ``clips.jsonl``.

    Raises:
        StorageError: a file is there and cannot be read.
    """
    shown = _shown(clips)
    files = {clip.clip_id: _file(folder, number) for number, clip in enumerate(clips) if clip.clip_id in shown}
    try:
        return {clip_id: file.read_bytes() for clip_id, file in files.items() if file.is_file()}
    except OSError as error:
        raise StorageError(f"{folder / _FOLDER}: the clips' recordings cannot be read ({error.strerror})") from error


def _shown(clips: Sequence[ClipResult]) -> set[str]:
    return {clip.clip_id for clip in (*worst(clips), *most_changed(clips))}


def _file(folder: Path, number: int) -> Path:
    return folder / _FOLDER / f"{number + 1:06d}.flac"
