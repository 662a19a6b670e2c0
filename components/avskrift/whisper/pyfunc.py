"""How ``mlflow.pyfunc.load_model`` loads a package, whose file ``MLmodel`` names this module. MLflow itself is not needed here.

import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/avskrift-sv@champion")
model.predict(pandas.DataFrame({"audio": [Path("clip.flac").read_bytes()]}))
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from avskrift.audio.decode import decode, decode_file
from avskrift.errors import AudioError, UsageError
from avskrift.whisper.mlmodel import READ_PATHS
from avskrift.whisper.package import ModelPackage, open_package
from avskrift.whisper.transcriber import load_transcriber
from avskrift.whisper.transcript import Audio, Options, Transcriber

AUDIO_COLUMN, PATH_COLUMN, LANGUAGE_COLUMN = "audio", "path", "language"
_AT_ONCE = 16  # recordings that are held as samples: an hour of them is 230 MB
_DATA_URL = "data:"


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> TranscriptionFunction:
    """What MLflow calls, with the package's folder and the settings of ``load_model(model_config=...)``.

    Raises:
        PackageError, IntegrityError: the package breaks its contract, or was changed.
    """
    package = open_package(Path(path))
    package.verify()
    return TranscriptionFunction(package, load_transcriber(package), read_paths=bool((model_config or {}).get(READ_PATHS)))


class TranscriptionFunction:
    """Recordings in, texts out, in the shapes that MLflow's ``predict`` is given.

    Text that comes in is base64, never a path, unless ``read_paths``: a model that is served with ``mlflow models serve`` would
    read the server's files for whoever asks. A ``pathlib.Path`` cannot come from outside, so it is always read.
    """

    def __init__(self, package: ModelPackage, transcriber: Transcriber, *, read_paths: bool = False) -> None:
        self._transcriber = transcriber
        self._read_paths = read_paths
        languages = package.description.languages
        self._language = languages[0] if len(languages) == 1 else None  # None: the model says which it hears

    def predict(self, model_input: Any) -> list[str]:
        """One text for each recording, in order.

        ``model_input`` is a recording, several in a sequence, or a table: a pandas DataFrame or a dict of columns. A recording
        is bytes of WAV, FLAC, MP3, Ogg or M4A, the same in base64, or a ``pathlib.Path``. A table has them in ``audio``, or as
        paths in ``path``; a column ``language`` with Whisper's codes says what is spoken, else it is the package's language.

        Raises:
            UsageError: something else; a path as text, without ``read_paths``.
            AudioError: bytes that cannot be decoded; names the row.
            LanguageError: a language that the model does not know.
        """
        texts: list[str] = []
        rows = iter(self._rows(model_input))
        while some := list(islice(rows, _AT_ONCE)):
            for language, same in groupby(some, key=lambda row: row.language):
                samples = [self._samples(row) for row in same]
                texts += [heard.text for heard in self._transcriber.transcribe(samples, Options(language=language))]
        return texts

    def _rows(self, given: Any) -> Iterable[_Row]:
        if isinstance(given, bytes | bytearray | memoryview | str | Path):
            return [_Row(number=0, recording=given, is_path=False, language=self._language)]
        columns = _columns(given)
        if columns is None:
            return [_Row(number=number, recording=one, is_path=False, language=self._language) for number, one in enumerate(given)]
        name = _recordings_column(columns)
        languages = columns.get(LANGUAGE_COLUMN) or [None] * len(columns[name])
        return [
            # Pandas fills what is missing with NaN.
            _Row(
                number=number,
                recording=one,
                is_path=name == PATH_COLUMN,
                language=(isinstance(language, str) and language) or self._language,
            )
            for number, (one, language) in enumerate(zip(columns[name], languages, strict=True))
        ]

    def _samples(self, row: _Row) -> Audio:
        try:
            if isinstance(row.recording, Path) or (row.is_path and self._read_paths and isinstance(row.recording, str)):
                return decode_file(Path(row.recording))
            if row.is_path:
                raise UsageError(
                    f"row {row.number}: paths as text are read only after load_model(..., model_config={{'{READ_PATHS}': True}});"
                    f" or give bytes or base64 in a column {AUDIO_COLUMN!r}"
                )
            return decode(_as_bytes(row))
        except AudioError as error:
            raise type(error)(f"row {row.number}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A recording as it was given. ``is_path``: it stands in the column of paths."""

    number: int
    recording: Any
    is_path: bool
    language: str | None


def _columns(given: Any) -> Mapping[str, Sequence[Any]] | None:
    """The columns of a table; None for what is none. Pandas is known by what it can do: not every image has it."""
    if isinstance(given, Mapping):
        return {str(name): list(column) for name, column in given.items()}
    if not hasattr(given, "columns"):
        return None
    return {str(name): given[name].tolist() for name in given.columns}


def _recordings_column(columns: Mapping[str, Sequence[Any]]) -> str:
    for name in (AUDIO_COLUMN, PATH_COLUMN):
        if name in columns:
            return name
    if len(columns) == 1:
        return next(iter(columns))
    raise UsageError(f"no column {AUDIO_COLUMN!r} or {PATH_COLUMN!r} among {', '.join(columns) or 'none'}; name the recordings' column so")


def _as_bytes(row: _Row) -> bytes:
    if isinstance(row.recording, bytes | bytearray | memoryview):
        return bytes(row.recording)
    if not isinstance(row.recording, str):
        raise UsageError(f"row {row.number}: {type(row.recording).__name__} is no recording; give bytes, base64 or a pathlib.Path")
    written = row.recording.partition(",")[2] if row.recording.startswith(_DATA_URL) else row.recording
    try:
        return base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"row {row.number}: text that is not base64 ({error}); give bytes, base64 or a pathlib.Path") from error
