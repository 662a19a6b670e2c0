"""The Swedish normaliser sv-1: what is said, without how it was written.

Case, punctuation and signs go; letters with diacritics stay, since "för" is not "for". What can be written in several
ways and is said in one comes out the same: "2 000 kr" and "tvåtusen kronor", "t.ex." and "till exempel", "EU-land" and
"EU land", "tv:n" and "tvn". The rules, in the order in which they apply:

1. Fold case; compose letters (NFC); drop what is invisible.
2. Write numbers and signs as words (:mod:`avskrift.text.swedish_numbers`; "%" procent, "&" och, "+" plus).
3. Join what an apostrophe or a colon ties to a word ("EU:s" eus, "sa'n" san); any other punctuation becomes a space, the
   hyphen too.
4. Write common abbreviations out ("ca" cirka, "bl a" bland annat).
5. Split a written number into its parts, so that "tvåhundratjugo", "två hundra tjugo" and "220" are the same three words,
   and take one reading for each number: "etthundra" and "ett hundra" are hundra, "ettusen femhundra" is femton hundra as
   in years, "tjugohundra" is två tusen, "tjugoen" is tjugo ett.

Steps 1 to 3 change nothing in a text of lower-case letters and spaces, and 4 and 5 lead from such texts to such texts
that they leave alone: that is why the whole is idempotent.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from avskrift.text.swedish_numbers import read_numbers

_SIGNS: Mapping[str, str] = {
    "%": "procent", "‰": "promille", "°c": "grader celsius", "°f": "grader fahrenheit", "°": "grader", "&": "och", "+": "plus",
    "=": "lika med", "±": "plus minus", "×": "gånger", "§": "paragraf", "№": "nummer",
    "€": "euro", "$": "dollar", "£": "pund", "¥": "yen",
}  # fmt: skip
_LONG_SIGNS: Mapping[str, str] = {"℃": "°c", "℉": "°f", "⁄": "/", "\u02bc": "'"}

# Dots and spaces between the letters are all one by the time these are looked for: "t.ex.", "t. ex." and "t ex".
# Left out, since they mean more than one thing: tex, tom, from, bla, mm, s.k., ex, max.
_ABBREVIATIONS: Mapping[str, str] = {
    "t ex": "till exempel", "bl a": "bland annat", "d v s": "det vill säga", "dvs": "det vill säga",
    "o s v": "och så vidare", "osv": "och så vidare", "m m": "med mera", "m fl": "med flera", "mfl": "med flera",
    "p g a": "på grund av", "pga": "på grund av", "fr o m": "från och med", "t o m": "till och med",
    "f d": "före detta", "f ö": "för övrigt", "f n": "för närvarande", "e d": "eller dylikt", "o d": "och dylikt",
    "i o f s": "i och för sig", "iofs": "i och för sig", "f kr": "före kristus", "e kr": "efter kristus",
    "kl": "klockan", "nr": "nummer", "ca": "cirka", "kr": "kronor", "dr": "doktor", "etc": "etcetera", "ev": "eventuellt",
    "resp": "respektive", "ang": "angående", "inkl": "inklusive", "exkl": "exklusive", "jfr": "jämför",
}  # fmt: skip

# Three equal letters are written as two: ett + tusen is ettusen.
_UNITS = "et(?=tusen)|ett|två|tre|fyra|fem|sex|sju|åtta|nio"
_TEENS = "tio|elva|tolv|tretton|fjorton|femton|sexton|sjutton|arton|aderton|nitton"
_TENS = "tjugo|trettio|fyrtio|förtio|femtio|sextio|sjuttio|åttio|nittio"
_ORDINALS = (
    "första|förste|andra|andre|tredje|fjärde|femte|sjätte|sjunde|åttonde|nionde|tionde|elfte|tolfte|"
    "trettonde|fjortonde|femtonde|sextonde|sjuttonde|artonde|nittonde|"
    "tjugonde|trettionde|fyrtionde|femtionde|sextionde|sjuttionde|åttionde|nittionde|hundrade|tusende"
)
_NOUNS = "(?:ett|två|tre|fyr|femm|sex|sju|ått|ni|ti|elv|tolv)(?:an?|ans|or|orna)"
# What may close a compound that starts with a number: "tjugoförsta", "tjugotvåan", "åttiotalet", "treårskontrakt".
_CLOSING = f"{_ORDINALS}|{_NOUNS}|tal(?:en|ets?)?|år(?:ing|ig|s)[^\\W\\d_]*"
_BELOW_HUNDRED = f"(?:(?:{_TENS})(?:{_UNITS}|en)?|{_TEENS}|{_UNITS})"
_BELOW_THOUSAND = f"(?:{_BELOW_HUNDRED}?hundra(?:{_BELOW_HUNDRED}|en)?|{_BELOW_HUNDRED})"
_ONE_SPELLING: Mapping[str, str] = {"förtio": "fyrtio", "aderton": "arton", "en": "ett", "et": "ett"}

_TEEN_OF: Mapping[str, str] = {
    "två": "tolv", "tre": "tretton", "fyra": "fjorton", "fem": "femton",
    "sex": "sexton", "sju": "sjutton", "åtta": "arton", "nio": "nitton",
}  # fmt: skip
_THOUSANDS_OF: Mapping[str, list[str]] = {"tio": [], "tjugo": ["två"]}
_TENS_WORDS = frozenset(_TENS.split("|"))
_NUMBER_WORDS = frozenset(["noll", *_UNITS.split("|"), *_TEENS.split("|"), *_TENS.split("|"), "hundra", "tusen"])

_APOSTROPHES = "'’‘´`"
_ORDINARY = re.compile(f"[ -~À-ÖØ-öø-ÿ–—“”„…{_APOSTROPHES}]*")
_ONE_SIGN = "".join(re.escape(sign) for sign in _SIGNS if len(sign) == 1)
_SAYS_MORE_THAN_LETTERS = re.compile(rf"[^\W_a-zà-öø-ÿ]|[{_ONE_SIGN}{''.join(_LONG_SIGNS)}]")
_LONG_SIGN = re.compile("|".join(map(re.escape, _LONG_SIGNS)))
_SIGN = re.compile(rf"°[cf]\b|[{_ONE_SIGN}]")
_APOSTROPHE_INSIDE = re.compile(rf"(?<=\w)[{_APOSTROPHES}](?=\w)")
_SAINT = re.compile(r"(?<!\w)s:t([ae]?)(?!\w)")
_COLON_BEFORE_ENDING = re.compile(
    r"(?<=[^\W\d_]):(?=(?:a|an|ar|are|aren|arna|as|e|en|ens|er|erna|ers|es|et|ets|n|na|nas|ns|or|orna|r|rna|s|t|ta|ts)(?!\w))"
)
_MARK_OF_A_SIGN = re.compile("[\u034f\u0488\u0489\u180b-\u180d\u20dd-\u20e0\u20e2-\u20e4\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_NOT_LATIN_1_LETTERS = re.compile("[^a-zà-öø-ÿ]+")
_ABBREVIATION = re.compile(rf"(?<!\S)(?:{'|'.join(sorted(_ABBREVIATIONS, key=len, reverse=True))})(?!\S)")
_NUMBER = re.compile(rf"(?<!\S)(?=[aefhnstå])((?:{_BELOW_THOUSAND}?tusen(?:{_BELOW_THOUSAND}|en)?|{_BELOW_THOUSAND}))({_CLOSING})?(?!\S)")
_PART_OF_NUMBER = re.compile(f"{_TENS}|{_TEENS}|{_UNITS}|hundra|tusen|en")


def normalise_swedish(text: str) -> str:
    """``text`` by the rules of sv-1. Total and idempotent; what is left is lower-case letters, their marks and single spaces."""
    text = _folded(text)
    if _SAYS_MORE_THAN_LETTERS.search(text):
        text = _read_out(text)
    text = _ABBREVIATION.sub(lambda match: _ABBREVIATIONS[match[0]], _letters_only(text))
    text = _NUMBER.sub(_split_number, text)
    return " ".join(_one_reading(text.split(" "))) if "hundra" in text or "tusen" in text else text


def _folded(text: str) -> str:
    """In lower case, composed, without invisible characters, with plain single spaces."""
    if _ORDINARY.fullmatch(text):
        return " ".join(text.casefold().split())
    # Once is not enough: folding can decompose, and a dropped character can bring a letter and its mark together.
    while (folded := _folded_once(text)) != text:
        text = folded
    return text


def _folded_once(text: str) -> str:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join("".join(character for character in folded if unicodedata.category(character) != "Cf").split())


def _read_out(text: str) -> str:
    text = _LONG_SIGN.sub(lambda match: _LONG_SIGNS[match[0]], text)
    return _SIGN.sub(lambda match: f" {_SIGNS[match[0]]} ", read_numbers(text))


def _letters_only(text: str) -> str:
    """Words of letters and their marks with single spaces between; what is tied to a word by apostrophe or colon joined to it."""
    text = _APOSTROPHE_INSIDE.sub("", text)
    if ":" in text:
        text = _COLON_BEFORE_ENDING.sub("", _SAINT.sub(r"sankt\1", text))
    if _ORDINARY.fullmatch(text):
        return _NOT_LATIN_1_LETTERS.sub(" ", text).strip()
    while (letters := _letters_only_once(text)) != text:
        text = letters
    return text


def _letters_only_once(text: str) -> str:
    kept = " "
    for character in _folded(_MARK_OF_A_SIGN.sub("", text)):
        kind = unicodedata.category(character)[0]
        if kind != "M":
            kept += character if kind == "L" else " "
        # A mark with no letter before it is what an emoji or a keycap left behind.
        elif kept[-1] != " ":
            kept += character
    return " ".join(kept.split())


def _split_number(match: re.Match[str]) -> str:
    """The parts of a number that is written as one word: "tvåhundratjugoen" is två hundra tjugo ett."""
    parts = [*_PART_OF_NUMBER.findall(match[1]), *filter(None, [match[2]])]
    return " ".join(_ONE_SPELLING.get(part, part) for part in parts)


def _one_reading(words: list[str]) -> list[str]:
    """The words with one reading for each number of hundreds and thousands (step 5 of the module)."""
    read: list[str] = []
    for word in words:
        if word in ("hundra", "hundrade"):
            _drop_one(read, counted_after=_TENS_WORDS)
            read.append(_in_thousands(read, word))
            continue
        if word in ("tusen", "tusende"):
            _drop_one(read, counted_after=_TENS_WORDS | {"hundra"})
        read.append(word)
    return read


def _drop_one(read: list[str], *, counted_after: frozenset[str]) -> None:
    """Take "ett" off the end: "ett hundra" is hundra. It stays where it counts: tjugo ett tusen is more than tjugo tusen."""
    while read[-1:] == ["ett"] and not (len(read) > 1 and read[-2] in counted_after):
        read.pop()


def _in_thousands(read: list[str], hundred: str) -> str:
    """What to write for ``hundred`` after ``read``, whose end changes where a number has another reading in thousands.

    "tusen fem hundra" becomes femton hundra, but "tjugo hundra" två tusen and "tio hundra" tusen.
    """

    def opens_a_number(position: int) -> bool:
        return position >= 0 and (position == 0 or read[position - 1] not in _NUMBER_WORDS)

    last = len(read) - 1
    if last >= 0 and read[last] == "tusen" and opens_a_number(last):
        read[last:] = ["elva"]
    elif last > 0 and read[last] in _TEEN_OF and read[last - 1] == "tusen" and opens_a_number(last - 1):
        read[last - 1 :] = [_TEEN_OF[read[last]]]
    elif last >= 0 and read[last] in _THOUSANDS_OF and opens_a_number(last):
        read[last:] = _THOUSANDS_OF[read[last]]
        return hundred.replace("hundra", "tusen")
    return hundred
