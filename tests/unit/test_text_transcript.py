"""A transcript for training: case and punctuation stay, typography becomes what Whisper writes."""

from __future__ import annotations

import pytest

from avskrift.text.transcript import transcript


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hej, på DIG!", "Hej, på DIG!"),
        ("Det kostar 3,5 % – minst.", "Det kostar 3,5 % - minst."),
        ("fo\u0308r", "för"),
        ("  två \t rader\noch\u00a0fast\u2009smalt\u0085slut ", "två rader och fast smalt slut"),
        ("av\u00adstav\u200bning\ufeff\u2060", "avstavning"),
        ("\u202ehöger till vänster\u202c", "höger till vänster"),
        ("a\x00b\x07c\x7f", "abc"),
        ("Hon sa ”nej” och „ja“ och »kanske«.", 'Hon sa "nej" och "ja" och "kanske".'),
        ("Han ropade «\u00a0non\u00a0» igen", 'Han ropade "non" igen'),
        ("Gör inte ‘så’, sa’n", "Gör inte 'så', sa'n"),
        ("rock`n´roll", "rock'n'roll"),
        ("''Två apostrofer'' är ett citat", '"Två apostrofer" är ett citat'),
        ("Vänta… nu.....", "Vänta... nu..."),
        ("en sak—tror jag—till", "en sak - tror jag - till"),
        ("3–4 dagar, −5 grader, EU‑land", "3-4 dagar, -5 grader, EU-land"),
        ("— Hej", "- Hej"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("hej\u200c\u200ddu", "hejdu"),
        ("trasig\ud800", "trasig\ufffd"),
        ("", ""),
        (" \u200b ", ""),
    ],
)
def test_typography_is_made_plain(text: str, expected: str) -> None:
    assert transcript(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"Hela meningen."', "Hela meningen."),
        ("”Hela meningen.”", "Hela meningen."),
        ('" Hela meningen. "', "Hela meningen."),
        ('""Hela meningen.""', "Hela meningen."),
        ('"Ja", sa hon. "Gå nu."', '"Ja", sa hon. "Gå nu."'),
        ('Han sa "nej"', 'Han sa "nej"'),
        ('"Nej" sa han', '"Nej" sa han'),
        ('"', '"'),
    ],
)
def test_a_sentence_wholly_within_one_pair_of_quotation_marks_loses_them(text: str, expected: str) -> None:
    assert transcript(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"""Nej"", sa hon."', '"Nej", sa hon.'),
        ('"Boken ""Röda rummet"" är bra."', 'Boken "Röda rummet" är bra.'),
        ('"""Hela meningen."""', "Hela meningen."),
    ],
)
def test_quotation_marks_that_an_export_doubled_are_single_again(text: str, expected: str) -> None:
    assert transcript(text) == expected
