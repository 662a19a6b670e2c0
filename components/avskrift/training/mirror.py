"""Checkpoints in an object store, beside the folder that they are written in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from avskrift.storage.atomic import atomic_file, atomic_folder
from avskrift.storage.objects import ObjectStore
from avskrift.training.checkpoint_names import NAME, STATE, SUFFIX, named_best, step_of, top


class Mirror:
    """The checkpoints of ``folder`` in an object store. Everything but ``fetch``'s writing raises StorageError and no other."""

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        self.uri = store.uri
        self._store = store
        self._folder = folder
        self._unsent: list[str] = []  # of those that this process wrote
        self._sent_best = "", ""  # name and sha256

    def checkpoints(self) -> list[str]:
        """Those whose state is there, which is sent last."""
        return [
            name.removesuffix(f"/{STATE}") for name in self._store.names("step-") if name.endswith(f"/{STATE}") and NAME.match(top(name))
        ]

    def fetch(self, name: str) -> bool:
        """Put a checkpoint or best weights into the folder in place of what is there; False if the store has none."""
        if name.endswith(SUFFIX):
            if name not in self._store.names(name):
                return False
            with atomic_file(self._folder / name) as file:
                self._store.get(name, file)
            return True
        files = [found.removeprefix(f"{name}/") for found in self._store.names(f"{name}/")]
        if STATE not in files:
            return False
        with atomic_folder(self._folder / name) as folder:
            for file_name in files:
                if file_name == Path(file_name).name:
                    self._store.get(f"{name}/{file_name}", folder / file_name)
        return True

    def send(self, name: str, kept: list[str]) -> None:
        """Send a checkpoint that was just written, then those that could not be sent before; delete what is not in ``kept``.

        What earlier processes wrote is never sent: it may be damaged, and the store's own copy whole.
        """
        self._unsent = [name, *(other for other in self._unsent if other in kept and other != name)]
        for unsent in list(self._unsent):
            self._send(unsent)
            self._unsent.remove(unsent)
        wanted = {*kept, *(named_best(self._folder / checkpoint)[0] for checkpoint in kept)}
        self._drop(lambda stored: stored not in wanted)

    def drop_after(self, step: int) -> None:
        self._unsent, self._sent_best = [], ("", "")
        self._drop(lambda name: step_of(name) > step)
        self._store.sweep()

    def remove(self) -> None:
        self._unsent, self._sent_best = [], ("", "")
        self._store.delete(_states_first(self._store.names()))
        self._store.sweep()

    def _send(self, checkpoint: str) -> None:
        best, sha256 = named_best(self._folder / checkpoint)
        if best and self._sent_best != (best, sha256):
            self._store.put(best, self._folder / best)
            self._sent_best = best, sha256
        files = sorted(path.name for path in (self._folder / checkpoint).iterdir() if path.name != STATE)
        for file in (*files, STATE):
            self._store.put(f"{checkpoint}/{file}", self._folder / checkpoint / file)

    def _drop(self, unwanted: Callable[[str], bool]) -> None:
        names = [name for name in self._store.names() if NAME.match(top(name)) and unwanted(top(name))]
        self._store.delete(_states_first(names))


def _states_first(names: Iterable[str]) -> list[str]:
    """The order to delete in: a checkpoint of which a part is left must not look whole."""
    return sorted(names, key=lambda name: (not name.endswith(f"/{STATE}"), name))
