"""Where Avskrift keeps its state on a machine: ``.avskrift/`` under the working folder, or ``$AVSKRIFT_HOME``."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The state folder, absolute. It is not created here."""
    return Path(os.environ.get("AVSKRIFT_HOME") or ".avskrift").expanduser().absolute()


def cache() -> Path:
    """Downloaded and converted models, each under a name derived from its content or URI."""
    return home() / "cache"
