"""Arrow tables of clips, as parquet files and the Hugging Face hub have them: which column is what, and a row as an entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from avskrift.audio.decode import Audio
from avskrift.corpus.entries import Entry, Fault, oversized, read_nothing, recording_of, tidy
from avskrift.corpus.sources.columns import DESCRIPTIVE, RECORDING, TRANSCRIPT, VOTES, described, first_of
from avskrift.errors import SourceError

Recording: TypeAlias = Fault | Callable[[], Audio]
"""The ``read`` of an entry, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipColumns:
    """The columns of a table that say something of a clip.

    ``audio`` has recordings if it ``holds_audio``, else the names of their files. ``labels`` are the names that the
    integers of a column stand for (Hugging Face's ClassLabel).
    """

    audio: str
    holds_audio: bool
    text: str
    descriptive: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]

    @property
    def metadata(self) -> list[str]:
        """All columns but that of the recordings."""
        return [self.text, *self.descriptive]

    def entry(self, row: Mapping[str, Any], *, location: str, recording: Recording, split: str = "") -> Entry:
        """The entry of a row, whose own split counts where ``split`` is "".

        Raises:
            SourceError: a value that cannot be understood; the message has the location.
        """
        text = row[self.text]
        if text is None and not isinstance(recording, Fault):
            recording = Fault(code="missing", reason=f"{location!r} has no transcript")
        try:
            description = described({name: self._named(name, row[name]) for name in self.descriptive})
        except ValueError as error:
            raise SourceError(f"{location}: {error}") from error
        return Entry(
            location=location,
            text=tidy(text or ""),
            read=read_nothing if isinstance(recording, Fault) else recording,
            fault=recording if isinstance(recording, Fault) else None,
            **description | ({"split": split} if split else {}),
        )

    def _named(self, column: str, value: Any) -> Any:
        """The name of a label; -1 is Hugging Face's word for none."""
        names = self.labels.get(column)
        if names is None or not isinstance(value, int):
            return value
        return names[value] if 0 <= value < len(names) else None


def clip_columns(schema: pa.Schema, *, audio: str = "", text: str = "") -> ClipColumns | None:
    """The columns that say something of a clip, by their names and types; ``audio`` and ``text`` name those that are meant.

    None where there is no column of recordings or none of transcripts. Of the columns for recordings one that holds them
    goes before one that names them: Common Voice has both.
    """
    types = {field.name: field.type for field in schema if schema.names.count(field.name) == 1}
    texts = [name for name in types if _is_text(types[name])]
    recordings = [name for name in types if _holds_audio(types[name])]
    audio_names, text_names = ((name,) if name else names for name, names in ((audio, RECORDING), (text, TRANSCRIPT)))
    found_text = first_of(text_names, texts)
    held = first_of(audio_names, recordings)
    found_audio = held or first_of(audio_names, texts)
    if not found_audio or not found_text:
        return None
    wanted = [name for names in (*DESCRIPTIVE.values(), *((votes,) for votes in VOTES)) if (name := first_of(names, types))]
    return ClipColumns(
        audio=found_audio,
        holds_audio=held is not None,
        text=found_text,
        descriptive=tuple(name for name in wanted if _is_plain(types[name])),
        labels=_labels(schema),
    )


def recording_in(value: object, *, location: str, named: Callable[[str], Recording]) -> Recording:
    """The recording that a cell holds: its bytes, Hugging Face's struct of bytes and path, or a name, which ``named`` looks up."""
    if isinstance(value, Mapping):
        data, name = value.get("bytes"), value.get("path")
    else:
        data, name = (value, None) if isinstance(value, bytes) else (None, value)
    if data is not None:
        return oversized(len(data)) or recording_of(data)
    if not name:
        return Fault(code="missing", reason=f"{location!r} has no recording")
    return named(str(name))


def _labels(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """From what Hugging Face `datasets` writes into the schema of a parquet file; what is not of that form says nothing."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: tuple(map(str, said["names"])) for name, said in features.items() if said.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is_text(kind: pa.DataType) -> bool:
    return any(is_it(_values(kind)) for is_it in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_binary(kind: pa.DataType) -> bool:
    return any(is_it(kind) for is_it in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _holds_audio(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return _is_binary(kind)
    return any(field.name == "bytes" and _is_binary(field.type) for field in kind)


def _is_plain(kind: pa.DataType) -> bool:
    return _is_text(kind) or any(is_it(_values(kind)) for is_it in (pa.types.is_integer, pa.types.is_floating))


def _values(kind: pa.DataType) -> pa.DataType:
    """The type of the values, which a dictionary holds once each."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind
