"""Swedish numbers as they are read aloud: what "2 000 kr", "3,5 %", "21:a", "kl. 14.30" and "12/3" say.

What can be read in more than one way is read in one:

- A space or a dot before three digits sets thousands apart ("2 000", "2.000"); a comma begins decimals, one or two of which
  are read as a number ("3,14" tre komma fjorton). Any other dot is "punkt" ("1.5"), unless a time may stand there.
- "14.30" and "14:30" are times wherever they stand; full hours lose their minutes ("kl. 8.00" åtta).
- "12/3" is a date where it can be one, but 1/2, 1/3, 2/3, 1/4 and 3/4 are fractions. A day before a month is an ordinal.
- A dash between two numbers is "till" where they go up ("3-4"), and nothing where they do not (the score "3-1").
- What starts with a zero ("007"), telephone numbers and more than 15 digits are read digit by digit.
- "1" is "ett", and "en" before units and a few common words.

Cardinals and ordinals come from num2words. What version 0.5.14 gets wrong for Swedish is mended here ("20:e" is tjugonde)
or in :mod:`avskrift.text.swedish` ("förtio", "etttusen"), which brings the many spellings of one number together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

# A number of more digits is a serial number or noise: nobody reads it as one number.
_LONGEST_READ_AS_ONE = 15
# From here on num2words makes no Swedish ordinals ("två miljonerde"); they are read as cardinals.
_ORDINALS_BELOW = 1_000_000
_MONTHS = "januari|februari|mars|april|maj|juni|juli|augusti|september|oktober|november|december"

# Only after a number, so "min" and "st" are safe.
_UNITS: Mapping[str, str] = {
    "%": "procent", "‰": "promille", "°c": "grader celsius", "°f": "grader fahrenheit", "°": "grader",
    "kr": "kronor", ":-": "kronor", ",-": "kronor", "tkr": "tusen kronor", "mkr": "miljoner kronor",
    "€": "euro", "$": "dollar", "£": "pund", "¥": "yen",
    "km/h": "kilometer i timmen", "m/s": "meter i sekunden",
    "km": "kilometer", "m": "meter", "dm": "decimeter", "cm": "centimeter", "mm": "millimeter",
    "km2": "kvadratkilometer", "m2": "kvadratmeter", "kvm": "kvadratmeter", "cm2": "kvadratcentimeter",
    "m3": "kubikmeter", "cm3": "kubikcentimeter",
    "kg": "kilo", "hg": "hekto", "g": "gram", "mg": "milligram", "l": "liter", "dl": "deciliter", "cl": "centiliter", "ml": "milliliter",
    "min": "minuter", "tim": "timmar", "st": "stycken",
}  # fmt: skip
# Not without a space: "5g" is a network and "3m" a company.
_SET_APART = frozenset({"m", "g", "l"})
_ONE_OF: Mapping[str, str] = {"grader": "grad", "kronor": "krona", "minuter": "minut", "timmar": "timme", "stycken": "styck"}
# "1" is read "en" before these, and "ett" before anything else: few other words tell their gender.
_COMMON_GENDER = frozenset({
    "procent", "promille", "grad", "krona", "euro", "dollar", "kilometer", "meter", "decimeter", "centimeter", "millimeter",
    "liter", "deciliter", "mil", "sekund", "minut", "timme", "dag", "natt", "vecka", "månad", "gång", "person", "del",
    "miljon", "miljard", "biljon", "biljard",
})  # fmt: skip

# What a colon ties to a number: "1:a", "3:e", "2:dra", and the nouns "en 5:a", "8:an", "3:or".
_ORDINAL_ENDINGS = "e|sta|ste|dra|dre|dje|de|te|nde"
_NOUN_ENDINGS = "a|an|ans|or|orna"
_NOUN_STEMS = ("noll", "ett", "två", "tre", "fyr", "femm", "sex", "sju", "ått", "ni", "ti", "elv", "tolv")

_FRACTIONS: Mapping[int, str] = {
    3: "tredjedel", 4: "fjärdedel", 5: "femtedel", 6: "sjättedel", 7: "sjundedel", 8: "åttondel", 9: "niondel", 10: "tiondel",
}  # fmt: skip
# With a slash these are no dates; any other that can be one is: "5/6" is the fifth of June.
_FRACTIONS_WITH_A_SLASH = frozenset({(1, 2), (1, 3), (2, 3), (1, 4), (3, 4)})
_ROUND_THE_CLOCK = (24, 7)

_DASH = "[-–—−]"
_TIME = r"(?:(?<![.,:])(?:[01]?\d|2[0-4])(?:\.[0-5]\d|:[0-5]\d(?::[0-5]\d)?)(?![.:,]?\d))"
_AMOUNT = r"(?:(?:(?<![.,])[1-9]\d{0,2}(?:(?: \d{3})+|(?:\.\d{3})+)(?!\.?\d)|\d+)(?:,\d+)?)"
_PART = f"(?:{_TIME}|{_AMOUNT})"
_UNIT = "|".join(f" {'' if unit in _SET_APART else '?'}{re.escape(unit)}" for unit in sorted(_UNITS, key=len, reverse=True))

_IS_TIME = re.compile(_TIME)
_FRACTION_SIGN = re.compile("[½¼¾⅐-⅞]")
_BEYOND_ASCII = re.compile(r"[^\W_a-z0-9]")
_PHONE = re.compile(
    r"(?<![\w.,:])(?<!\d )"
    r"(?:\+\d{1,3}(?:[ -]\d{1,4}){2,6}|0[1-9]\d{0,2}-\d{2,8}(?: \d{2,4}){0,4}|0[1-9]\d{0,2}(?: \d{2,4}){2,4}|\d{6}-\d{4})(?!\d)"
)
_TIMES = re.compile(r"(?<=\d) ?[x×] ?(?=\d)")
_ISO_DATE = re.compile(r"(?<![\w-])(\d{4})-(0\d|1[0-2])-([0-2]\d|3[01])(?![\d-])")
_SLASH = re.compile(r"(?<![\d/.,:])(?<!\d )(\d{1,9})/(\d{1,9})(?![\d/])(?! \d{3}(?!\d))")
_DAY_OF_MONTH = re.compile(rf"(?<![\d.,:])(?:(3[01]|[12]\d|[1-9]) ?{_DASH} ?)?(3[01]|[12]\d|[1-9])(?::?e|:a|\.)? (?=(?:{_MONTHS})(?!\w))")
_WITH_ENDING = re.compile(rf"(?<![\d.,])(\d{{1,9}}):({_NOUN_ENDINGS}|{_ORDINAL_ENDINGS})(?!\w)")
_NUMBER = re.compile(
    rf"(?P<currency>[€$£¥] ?)?(?P<minus>(?<!\S)[-–−])?(?<!\d)(?P<parts>{_PART}(?: ?{_DASH} ?{_PART})*)"
    rf"(?P<scale> (?:tusen|miljon(?:er)?|miljard(?:er)?)(?!\w))?(?:(?P<unit>{_UNIT})(?!\w))?(?P<point>\.(?=\d))?(?= ?(?P<next>[a-zåäö]*))"
)
_DASH_BETWEEN = re.compile(f" ?{_DASH} ?")
_MILLIONS_RUN_ON = re.compile(r"(ilj(?:on|ard)(?:er)?+)(?=\w)")


def read_numbers(text: str) -> str:
    """``text``, in lower case and with plain single spaces, with each number in it written out and set off by spaces.

    Total: no digit, fraction sign or other numeral of any script is left. One without a reading becomes a space.
    """
    text = text.replace("m²", "m2").replace("m³", "m3")
    text = _BEYOND_ASCII.sub(_foreign_numeral, _FRACTION_SIGN.sub(_fraction_sign, text))
    text = _PHONE.sub(lambda match: f" {'plus ' if match[0][0] == '+' else ''}{_one_by_one(match[0])} ", text)
    text = _TIMES.sub(" gånger ", text)
    text = _ISO_DATE.sub(lambda match: f" {_cardinal(match[1])} {_two_digits(match[2])} {_two_digits(match[3])} ", text)
    text = _SLASH.sub(_two_with_a_slash, text)
    text = _DAY_OF_MONTH.sub(_day_of_month, text)
    text = _WITH_ENDING.sub(_number_with_ending, text)
    return _NUMBER.sub(_number, text)


def _number(match: re.Match[str]) -> str:
    """An amount or a time, or a row of them tied by dashes, with sign and unit."""
    parts = _DASH_BETWEEN.split(match["parts"])
    scale = match["scale"] or ""
    unit = _UNITS[(match["unit"] or match["currency"]).strip()] if match["unit"] or match["currency"] else ""
    if parts == ["1"] and not scale:
        unit = _ONE_OF.get(unit, unit)
    first_word_after = f"{scale} {unit} {match['next']}".split()[:1]
    is_one = parts == ["1"] and not _COMMON_GENDER.isdisjoint(first_word_after)
    said = "en" if is_one else (" till " if _is_range(parts) else " ").join(map(_part, parts))
    return f" {'minus ' if match['minus'] else ''}{said}{scale} {unit}{' punkt' if match['point'] else ''} "


def _is_range(parts: list[str]) -> bool:
    """Whether a dash says "till": "3-4" and "1939-45" go up, the score "3-1" does not, and "1-2-3" is neither."""
    if len(parts) != 2:
        return False
    first, last = map(_size, parts)
    century, first_year = divmod(first[0], 100)
    return first < last or (10 <= century < 100 and len(parts[1]) == 2 and first_year < last[0])


def _size(part: str) -> list[float]:
    """What to compare an amount or a time by: hours, minutes and seconds count one after the other."""
    if _IS_TIME.fullmatch(part):
        return [float(digits) for digits in re.split("[.:]", part)]
    return [float(part.replace(" ", "").replace(".", "").replace(",", "."))]


def _part(part: str) -> str:
    if _IS_TIME.fullmatch(part):
        return _time(*re.split("[.:]", part))
    whole, _, decimals = part.replace(" ", "").replace(".", "").partition(",")
    return f"{_cardinal(whole)} komma {_decimals(decimals)}" if decimals else _cardinal(whole)


def _time(hour: str, minute: str, second: str = "00") -> str:
    """ "14.30" is fjorton trettio, "9.05" nio noll fem; the full hour "08.00" is åtta."""
    hours = _one_by_one(hour) if hour == "00" else _cardinal(str(int(hour)))
    rest = [minute, second] if second != "00" else [minute] if minute != "00" else []
    return " ".join([hours, *map(_two_digits, rest)])


def _decimals(digits: str) -> str:
    """As they are read after "komma": one or two as a number ("3,14"), more or with a leading zero one by one ("0,05")."""
    return _cardinal(digits) if len(digits) <= 2 else _one_by_one(digits)


def _two_digits(digits: str) -> str:
    return _one_by_one(digits) if digits.startswith("0") else _cardinal(digits)


def _one_by_one(text: str) -> str:
    return " ".join(_cardinal(character) for character in text if character.isdigit())


def _number_with_ending(match: re.Match[str]) -> str:
    number, ending = int(match[1]), match[2]
    takes_first_or_second = number % 10 in (1, 2) and number % 100 not in (11, 12)
    if re.fullmatch(_NOUN_ENDINGS, ending) and not (ending == "a" and takes_first_or_second):
        return f" {_noun(number, ending)} "
    ordinal = _ordinal(number)
    # The letter after the colon is the ordinal's last: 1:a is första, 1:e förste.
    return f" {ordinal[:-1] + 'e' if takes_first_or_second and ending.endswith('e') else ordinal} "


def _noun(number: int, ending: str) -> str:
    """The number as a noun: 8:an is åttan, 22:an tjugotvåan, 100:an hundran."""
    last = number % 100 if number % 100 < len(_NOUN_STEMS) else number % 10 if number % 100 > 20 else 0
    if last == 0 and number > 0:
        return _cardinal(str(number)).removeprefix("ett").removesuffix("a").removesuffix("o") + ending
    return (_cardinal(str(number - last)) if number > last else "") + _NOUN_STEMS[last] + ending


def _day_of_month(match: re.Match[str]) -> str:
    first, last = match[1], match[2]
    return f" {_ordinal(int(first))} till {_ordinal(int(last))} " if first else f" {_ordinal(int(last))} "


def _two_with_a_slash(match: re.Match[str]) -> str:
    """A plain fraction; else a date, day before month, where it can be one; else two numbers."""
    first, second = int(match[1]), int(match[2])
    if (first, second) in _FRACTIONS_WITH_A_SLASH:
        return f" {_fraction(first, second)} "
    if 1 <= first <= 31 and 1 <= second <= 12 and (first, second) != _ROUND_THE_CLOCK:
        return f" {_ordinal(first)} i {_ordinal(second)} "
    return f" {_cardinal(match[1])} {_cardinal(match[2])} "


def _fraction_sign(match: re.Match[str]) -> str:
    """ "½" is en halv, and after a number och en halv."""
    value = Fraction(unicodedata.numeric(match[0])).limit_denominator(10)
    before = match.string[max(0, match.start() - 2) : match.start()].strip()
    return f" {'och ' if before[-1:].isdecimal() else ''}{_fraction(value.numerator, value.denominator)} "


def _fraction(numerator: int, denominator: int) -> str:
    if denominator == 2:
        return "en halv"
    return f"en {_FRACTIONS[denominator]}" if numerator == 1 else f"{_cardinal(str(numerator))} {_FRACTIONS[denominator]}ar"


def _foreign_numeral(match: re.Match[str]) -> str:
    """A digit of another script as ours, a numeral (Ⅷ, ², ⑫) as the number it stands for, a letter as it is."""
    character = match[0]
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category[0] != "N":
        return character
    value = unicodedata.numeric(character, -1.0)
    return f" {int(value)} " if value >= 0 and value.is_integer() else " "


@lru_cache(maxsize=4096)
def _cardinal(digits: str) -> str:
    """The number in words, as num2words joins them; digit by digit where it is too long or starts with a zero, as "007" does."""
    if len(digits) > 1 and (digits.startswith("0") or len(digits) > _LONGEST_READ_AS_ONE):
        return _one_by_one(digits)
    return _MILLIONS_RUN_ON.sub(r"\1 ", _num2words(int(digits), "cardinal"))


@lru_cache(maxsize=4096)
def _ordinal(number: int) -> str:
    if number >= _ORDINALS_BELOW:
        return _cardinal(str(number))
    return _num2words(number, "ordinal").replace("tjugode", "tjugonde").replace("förtionde", "fyrtionde")


def _num2words(number: int, kind: str) -> str:
    from num2words import num2words  # loads sixty languages: only where a text holds a number

    return str(num2words(number, lang="sv", to=kind))
