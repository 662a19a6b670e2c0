"""eSpeak NG's C library, from the ``espeakng-loader`` wheel: text to 16-bit samples, the same for the same call.

The library keeps its state in static variables: the phase of its oscillators, the position in its table of flutter, its
random numbers. ``espeak_Terminate`` resets few of them, so what is said depends on all that was said before. Here each
utterance therefore gets the library freshly loaded, its random numbers seeded, and unloaded afterwards (some 8 ms).
"""

from __future__ import annotations

import ctypes
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import espeakng_loader
import numpy as np
import numpy.typing as npt

from avskrift.errors import SourceError

ESPEAK_RATE = 22_050  # Hz

# speak_lib.h of eSpeak NG 1.52.
_OUTPUT_SYNCHRONOUS = 2
_INITIALISE_DONT_EXIT = 0x8000
_CHARACTERS_UTF8 = 1
_POSITION_CHARACTER = 1
_PARAMETER_RATE = 1
_PARAMETER_PITCH = 3
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

# The library copies the data path into a buffer of 160 bytes and appends file names to it.
_LONGEST_DATA_PATH = 110

_one_at_a_time = threading.Lock()


def say(text: str, *, language: str, variant: str, rate: int, pitch: int, seed: int) -> npt.NDArray[np.int16]:
    """``text`` in eSpeak's voice ``language+variant``: int16 samples, mono, :data:`ESPEAK_RATE`.

    ``rate`` is in words a minute (80 to 450), ``pitch`` from 0 to 99, ``seed`` feeds the voice's breath and roughness.

    Raises:
        SourceError: the library or its data cannot be used, or it has no such voice.
    """
    data = Path(espeakng_loader.get_data_path())
    # An unknown variant is no error to the library: it would speak with the plain voice.
    if not (data / "voices" / "!v" / variant).is_file():
        raise SourceError(f"eSpeak NG has no voice variant {variant!r} in {data}; reinstall espeakng-loader, or use --source FOLDER")

    def speak_alone() -> npt.NDArray[np.int16]:
        with _one_at_a_time, _fresh_library() as library, _short_path(data) as short:
            _initialise(library, short)
            return _say(library, text, voice=f"{language}+{variant}", rate=rate, pitch=pitch, seed=seed)

    # Ctrl-C is raised in the main thread, and inside a ctypes callback it would be dropped, and with it a chunk of speech.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(speak_alone).result()


@contextmanager
def _fresh_library() -> Iterator[ctypes.CDLL]:
    path = espeakng_loader.get_library_path()
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise SourceError(f"eSpeak NG cannot be loaded ({error}); reinstall espeakng-loader, or use --source FOLDER") from error
    try:
        yield library
    finally:
        library.espeak_Terminate()
        close = ctypes.CDLL(None).dlclose
        close.argtypes = [ctypes.c_void_p]
        close(library._handle)


@contextmanager
def _short_path(data: Path) -> Iterator[Path]:
    """``data``, or a link to it that is short enough for the library's buffer."""
    if len(bytes(data)) <= _LONGEST_DATA_PATH:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="avskrift-espeak-") as folder:
        link = Path(folder) / "data"
        link.symlink_to(data, target_is_directory=True)
        yield link


def _initialise(library: ctypes.CDLL, data: Path) -> None:
    rate = library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, bytes(data), _INITIALISE_DONT_EXIT)
    if rate != ESPEAK_RATE:
        raise SourceError(f"eSpeak NG cannot use its data in {data}; reinstall espeakng-loader, or use --source FOLDER")


def _say(library: ctypes.CDLL, text: str, *, voice: str, rate: int, pitch: int, seed: int) -> npt.NDArray[np.int16]:
    chunks: list[bytes] = []

    def collect(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, count * 2))
        return 0

    callback = _SYNTH_CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed % 2**31))
    encoded = text.encode() + b"\0"
    statuses = [
        library.espeak_SetVoiceByName(voice.encode()),
        library.espeak_SetParameter(_PARAMETER_RATE, rate, 0),
        library.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0),
        library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, _POSITION_CHARACTER, 0, _CHARACTERS_UTF8, None, None),
        library.espeak_Synchronize(),
    ]
    if any(statuses) or not chunks:
        raise SourceError(f"eSpeak NG did not speak with the voice {voice} (statuses {statuses}); reinstall espeakng-loader")
    return np.frombuffer(b"".join(chunks), dtype=np.int16)
