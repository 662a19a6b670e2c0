"""Which of a release's folders is the one for a language: ``sv-SE`` for ``sv``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from avskrift.errors import SourceError
from avskrift.text.languages import LANGUAGES

# Common Voice names two languages otherwise than Whisper does.
_NAMES = {"no": "nb", "jw": "jv"}
# Whisper's languages for a locale, the best first. Nynorsk is Norwegian too, and what is read in Hong Kong is Cantonese.
_LANGUAGES = {"nb": ("no",), "nn": ("nn", "no"), "jv": ("jw",), "zh-hk": ("zh", "yue")}
_LOCALE = re.compile(r"(?P<language>[a-z]{2,3})(-[a-z]{2})?")
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Locale:
    """The folder that is wanted: the one called ``name`` or, where that is "", any for ``language``, a code of Whisper's.

    Raises:
        SourceError: ``name`` is that of another of Whisper's languages.
    """

    language: str
    name: str = ""

    def __post_init__(self) -> None:
        if self.name and not self._may_be(self.name):
            codes = " or ".join(_languages(self.name))
            raise SourceError(f"?locale={self.name} is not of the language {self.language!r}; give --language {codes}, or another locale")

    def fits(self, folder: str) -> bool:
        """Whether a folder of that name is wanted."""
        if self.name:
            return folder == self.name
        return folder.lower().partition("-")[0] in (self.language, _NAMES.get(self.language))

    def none_in(self, folders: Iterable[str], where: str) -> SourceError:
        """What to say of a release that holds ``folders``, none of which is wanted."""
        found = sorted(set(folders))
        if not found:
            return SourceError(f"{where}: is no release of Common Voice: there is no folder with train.tsv or clips/ in it")
        held = ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        wanted = repr(self.name) if self.name else f"the language {self.language!r}"
        return SourceError(f"{where}: has no folder for {wanted}; it holds {held}; {self._advice(found)}")

    def several_in(self, folders: Iterable[str], where: str) -> SourceError:
        """What to say of a release in which several ``folders``, given by their paths, are wanted."""
        paths = sorted(set(folders))
        names = sorted({path.rpartition("/")[2] for path in paths})
        if len(names) == 1:
            return SourceError(f"{where}: holds {names[0]} of several releases ({', '.join(paths)}); give one release")
        return SourceError(f"{where}: holds {', '.join(names)}; choose one by adding ?locale={names[0]} to the source")

    def _advice(self, found: list[str]) -> str:
        """How to take one of the folders ``found`` without calling it what it is not."""
        own = next((folder for folder in found if self.language in _languages(folder)), None)
        if own is not None:
            return f"add ?locale={own} to the source to take that one"
        known = next((folder for folder in found if _languages(folder)), None)
        if known is not None:
            return f"give --language {_languages(known)[0]} to take {known}"
        return f"Whisper has no language for it; add ?locale={found[0]} to the source to take that one as {self.language!r}"

    def _may_be(self, folder: str) -> bool:
        """Whether it is ``language``, or one that Whisper does not know and is taught under the code of another."""
        languages = _languages(folder)
        return not languages or self.language in languages


def _languages(folder: str) -> tuple[str, ...]:
    """Whisper's codes for what is spoken in a folder; none where it does not know the language, or the name is no locale's."""
    name = folder.lower()
    match = _LOCALE.fullmatch(name)
    if match is None:
        return ()
    language = match["language"]
    return _LANGUAGES.get(name) or _LANGUAGES.get(language) or ((language,) if language in LANGUAGES else ())
