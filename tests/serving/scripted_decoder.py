"""A decoder that does harm where a recording's first bytes say so: what real decoders do only where nobody expects it."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import numpy as np

from avskrift.audio.decode import decode_path
from avskrift.whisper.transcript import Audio


def decode_or_do_harm(path: Path, *, max_seconds: float) -> Audio:
    word, _, flag = path.read_bytes()[:1000].partition(b" ")
    match word:
        case b"crash":
            ctypes.string_at(0)
        case b"spin":
            while True:
                pass
        case b"hang":
            time.sleep(600)
        case b"doze":
            time.sleep(0.1)
        case b"grow":
            return np.ones(1 << 28, dtype=np.float32)
        case b"killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"killed-once" if not Path(os.fsdecode(flag)).exists():
            Path(os.fsdecode(flag)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case b"whoami" | b"killed-once":
            return np.full(1, os.getpid(), dtype=np.float32)
        case _:
            return decode_path(path, max_seconds=max_seconds)
    return np.zeros(1, dtype=np.float32)


def die_at_once(path: Path, *, max_seconds: float) -> Audio:
    os._exit(7)
