"""Where MLflow is: the parameter, else ``MLFLOW_TRACKING_URI``, else a SQLite file in the state folder."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from avskrift.errors import RegistryError
from avskrift.storage.paths import home as state_home

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
_SQLITE = "sqlite:///"


def tracking_uri(given: str = "", *, home: Path | None = None) -> str:
    """The tracking URI to use; ``home`` (the state folder by default) holds the SQLite file where none is configured."""
    if given or os.environ.get(TRACKING_VARIABLE):
        return given or os.environ[TRACKING_VARIABLE]
    return f"{_SQLITE}{(home or state_home()).absolute() / 'mlflow' / 'mlflow.db'}"


def public_uri(uri: str) -> str:
    """``uri`` without user, password, query and fragment: fit for a message."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc and not parts.query:
        return uri
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_server(uri: str) -> bool:
    """Whether an MLflow server answers there; it cannot see this machine's folders."""
    return urlsplit(uri).scheme in ("http", "https")


def sqlite_file(uri: str) -> Path | None:
    """The database file of a ``sqlite:///`` URI; None for any other."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(unquote(uri.removeprefix(_SQLITE).partition("?")[0])).absolute()


def check_sqlite_file(path: Path) -> None:
    """Refuse at once what MLflow would try again for minutes.

    Raises:
        RegistryError: the file is not a SQLite database, or cannot be read and written.
    """
    if not os.access(path, os.R_OK | os.W_OK):
        raise RegistryError(f"MLflow's database {path} cannot be read and written; mend its permissions or set {TRACKING_VARIABLE}")
    try:
        connection = sqlite3.connect(path)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise RegistryError(f"{path} is not a usable MLflow database ({error}); move it away or set {TRACKING_VARIABLE}") from error
