"""A model to measure, and whose fault it is when it cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from avskrift.errors import AvskriftError, IntegrityError, LanguageError, ModelUnavailableError, PackageError, StorageError
from avskrift.whisper.package import ModelPackage
from avskrift.whisper.transcript import Transcriber

Load = Callable[[ModelPackage], Transcriber]

CANDIDATE, BASELINE = "candidate", "baseline"
_OF_A_MODEL = (ModelUnavailableError, PackageError, IntegrityError, LanguageError, StorageError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model to measure: its package, and the URI under which people know it."""

    uri: str
    package: ModelPackage


def other(number: int) -> str:
    """The name of one of the other models, counted from 1."""
    return f"other {number}"


@contextmanager
def blaming(model: str) -> Iterator[None]:
    """Say of a model's failure inside which model it was: several are measured, and only one of them must be mended.

    Raises:
        ModelUnavailableError, PackageError, IntegrityError, LanguageError, StorageError: what was raised, with the name in front.
    """
    try:
        yield
    except _OF_A_MODEL as error:
        raise _named(error, model) from error


def _named(error: AvskriftError, model: str) -> AvskriftError:
    return type(error)(f"the {model} cannot be measured: {error}")
